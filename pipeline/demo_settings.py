"""How large and how hard the demo's synthetic set is."""

from pydantic import Field

from ..data.settings import Settings


class DemoSettings(Settings):
    """The synthetic set (see `etad.data.synthetic`).

    Parameters
    ----------
    train_videos, test_videos
        Untrimmed videos to draw.
    difficulty
        0 easy .. 1 hard: contrast, noise and number of distractors.
    """

    train_videos: int = Field(default=40, ge=1)
    test_videos: int = Field(default=16, ge=1)
    difficulty: float = Field(default=0.3, ge=0, le=1)
