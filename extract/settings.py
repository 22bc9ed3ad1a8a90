"""What extraction needs to know: the clips, the encoder, how to run it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..data.settings import Mark, Settings

AdapterKind = Literal["none", "series", "side"]

_Side = Annotated[int, Field(ge=8)]


class ClipSettings(Settings):
    """From video to snippets (method, section 1).

    Parameters
    ----------
    layout
        `spread`: `num_snippets` clips evenly over the whole video; `sliding`: a clip every `stride_frames` frames.
    num_snippets, stride_frames
        Clips of a video of `spread`; frames of the grid from one clip to the next of `sliding`.
    fps
        Frames per second of the sampling grid; none: the video's own, measured, rate.
    clip_frames, frame_step
        Frames of a clip (L), and the distance between them in frames of the grid.
    resize
        Width and height that frames are resized to while decoding, or their short side alone.
    crop
        Side of the square cut out of a frame, or width and height: centred in extraction, random in training.
    edge
        Frames outside the video `repeat` the first or last one, or `wrap` around.
    still
        Repeat each clip's middle frame: a baseline that sees no motion.
    """

    layout: Literal["spread", "sliding"] = "spread"
    num_snippets: int = Field(default=128, ge=1)
    stride_frames: int = Field(default=4, ge=1)
    fps: float | None = Field(default=None, gt=0)
    clip_frames: int = Field(default=16, ge=1)
    frame_step: int = Field(default=1, ge=1)
    resize: tuple[int, int] | int = (171, 128)
    crop: tuple[_Side, _Side] | _Side = 112
    edge: Literal["repeat", "wrap"] = "wrap"
    still: bool = False


class JoinedSettings(Settings):
    """A further encoder, whose features are joined to the first one's.

    Parameters
    ----------
    name
        One of `etad.extract.encoders.encoder.ENCODERS`.
    weights
        File of published or pretrained weights; none: those that come inside a package.
    resize, crop
        As in `clips`; none: what this encoder sees as a rule. All else of the clips is as for the first encoder.
    frames
        Frames of each clip that this encoder sees, evenly spread over it; none: all. An encoder that sees single
        pictures learns little from a second one a moment later, and its time grows with each.
    """

    name: str
    weights: Path | None = None
    resize: tuple[int, int] | int | None = None
    crop: tuple[_Side, _Side] | _Side | None = None
    frames: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _of_its_name(cls, entry: Any) -> Any:
        return {"name": entry} if isinstance(entry, str) else entry


class EncoderSettings(Settings):
    """Which encoder, and where its weights are.

    Parameters
    ----------
    name
        One of `etad.extract.encoders.encoder.ENCODERS`.
    also
        Further encoders, for `extract` alone: their features follow the first one's as channels of their own. Each
        is a name, or a table of name, weights, resize and crop.
    weights
        File of published or pretrained weights.
    init
        `weights` demands them; `random` is for tests and baselines, and the cache says so.
    frozen_stages
        0 freezes the stem, 1..4 also that many residual stages, or quarters of a transformer's blocks (Table 7).
    adapter
        Small networks beside a transformer's blocks, which alone are trained, in stages that are not frozen:
        `series`: after each block, what they add goes on into the next one; `side`: it goes around the blocks, so that
        no backward pass goes through these.
    precision
        `auto` takes bfloat16 or float16 where the device gains by it.
    """

    name: str = "tsm_r50"
    also: tuple[JoinedSettings, ...] = ()
    weights: Annotated[Path | None, Mark.RUNTIME] = None  # what the file holds counts, by its digest
    init: Literal["weights", "random"] = "weights"
    frozen_stages: int = Field(default=2, ge=0, le=4)
    adapter: AdapterKind = "none"
    precision: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Mark.INFERENCE] = "auto"


class ExtractSettings(Settings):
    """How extraction runs.

    Parameters
    ----------
    batch_clips
        Clips that the encoder sees at once.
    workers
        Videos decoded ahead of the encoder.
    store_dtype
        dtype of stored features.
    """

    batch_clips: Annotated[int, Mark.RUNTIME] = Field(default=16, ge=1)
    workers: Annotated[int, Mark.RUNTIME] = Field(default=2, ge=0)
    store_dtype: Literal["float16", "float32"] = "float16"


class PretrainSettings(Settings):
    """How the encoder is fine-tuned by classifying actions (Table 7, TSM-FT).

    Parameters
    ----------
    source
        `videos`: clips of annotated actions; `synthetic`: clips of the synthetic source set, drawn as they are needed.
    steps
        Optimiser steps; the learning rate falls to zero along a cosine until the last.
    batch_clips
        Clips of a step. Batch norms learn from them: fewer than eight make them noisy.
    lr, weight_decay, warmup_steps
        Of AdamW; the rate rises over the first steps.
    label_smoothing
        Share of the target that is spread over all classes.
    frozen_stages
        0 freezes the stem, 1..4 also that many residual stages; -1 trains everything.
    background
        Take clips outside all actions too, as a class of their own.
    held_out_clips
        Clips that the accuracy is measured on; of the test subset, or drawn for it alone.
    difficulty
        Of the synthetic source set, 0..1.
    camera_steps
        Share of the steps over which synthetic clips that move as a whole make room for clips in which only an
        actor moves. Without them nothing is learned for a long time.
    checkpoint_seconds
        How often the state is saved, to go on from.
    """

    source: Literal["videos", "synthetic"] = "videos"
    steps: int = Field(default=5000, ge=1)
    batch_clips: int = Field(default=16, ge=2)
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_steps: int = Field(default=30, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    frozen_stages: int = Field(default=-1, ge=-1, le=3)
    background: bool = True
    held_out_clips: int = Field(default=400, ge=1)
    difficulty: float = Field(default=0.1, ge=0, le=1)
    camera_steps: float = Field(default=0.5, ge=0, le=1)
    checkpoint_seconds: Annotated[float, Mark.RUNTIME] = Field(default=60.0, gt=0)
