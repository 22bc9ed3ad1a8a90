"""What extraction needs to know: the clips, the encoder, how to run it."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ..data.settings import Settings


class ClipSettings(Settings):
    """From video to snippets (SPEC section 1).

    Parameters
    ----------
    layout
        `spread`: `num_snippets` clips evenly over the whole video; `sliding`: a clip every `stride_frames` frames.
    fps
        Frames per second of the sampling grid; none: the video's own, measured, rate.
    clip_frames, frame_step
        Frames of a clip (L), and the distance between them in frames of the grid.
    resize
        Width and height that frames are resized to while decoding, or their short side alone.
    crop
        Side of the square cut out of a frame: centred in extraction, random in training.
    edge
        Frames outside the video `repeat` the first or last one, or `wrap` around.
    """

    layout: Literal["spread", "sliding"] = "spread"
    num_snippets: int = Field(default=128, ge=1)
    stride_frames: int = Field(default=4, ge=1)
    fps: float | None = Field(default=None, gt=0)
    clip_frames: int = Field(default=16, ge=1)
    frame_step: int = Field(default=1, ge=1)
    resize: tuple[int, int] | int = (171, 128)
    crop: int = Field(default=112, ge=8)
    edge: Literal["repeat", "wrap"] = "wrap"


class EncoderSettings(Settings):
    """Which encoder, and where its weights are.

    Parameters
    ----------
    name
        One of `etad.extract.encoders.ENCODERS`.
    weights
        File of published or pretrained weights.
    init
        `weights` demands them; `random` is for tests and yardsticks, and the cache says so.
    frozen_stages
        0 freezes the stem, 1..4 also that many residual stages (Table 7).
    precision
        `auto` takes bfloat16 or float16 where the device gains by it.
    """

    name: str = "tsm_r50"
    weights: Path | None = None
    init: Literal["weights", "random"] = "weights"
    frozen_stages: int = Field(default=2, ge=0, le=4)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


class ExtractSettings(Settings):
    """How extraction runs.

    Parameters
    ----------
    batch_clips
        Clips that the encoder sees at once.
    workers
        Videos decoded ahead of the encoder.
    store_dtype
        Number format of stored features.
    """

    batch_clips: int = Field(default=16, ge=1)
    workers: int = Field(default=2, ge=0)
    store_dtype: Literal["float16", "float32"] = "float16"
