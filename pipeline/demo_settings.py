"""How large and how hard the demo's synthetic set is."""

from pydantic import Field

from ..data.settings import Settings


class DemoSettings(Settings):
    """The synthetic set (see `etad.data.synthetic`).

    Parameters
    ----------
    videos
        Untrimmed videos to draw.
    validation_share
        Share of them to test on.
    size, fps
        Side of their frames in pixels, and frames per second.
    shortest_seconds, longest_seconds
        Range of their lengths.
    difficulty
        0 easy .. 1 hard: contrast, grain, distractors, speed of the background.
    """

    videos: int = Field(default=56, ge=8)
    validation_share: float = Field(default=0.3, gt=0, lt=1)
    size: int = Field(default=48, ge=16)
    fps: float = Field(default=10.0, ge=5, le=60)
    shortest_seconds: float = Field(default=20.0, ge=5)
    longest_seconds: float = Field(default=60.0, ge=5)
    difficulty: float = Field(default=0.2, ge=0, le=1)
