"""Settings of the stages that live in this room: end-to-end training and the synthetic set."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ..data.settings import Mark, Settings
from ..detect.schedule import RateDecay
from ..detect.strategies import STRATEGIES, SnippetStrategy
from ..extract.augment import LARGEST_MAGNITUDE, OPERATIONS


class RandAugmentSettings(Settings):
    """RandAugment (see `etad.extract.augment`); off by default, on where `release` is true (method, section 1).

    Parameters
    ----------
    operations
        How many are applied; 0: off (the release: 2).
    magnitude, magnitude_std
        Mean and deviation of how strongly, of 10.
    """

    operations: int = Field(default=0, ge=0, le=len(OPERATIONS))
    magnitude: float = Field(default=9.0, ge=0, le=LARGEST_MAGNITUDE)
    magnitude_std: float = Field(default=0.0, ge=0)


class ColourJitterSettings(Settings):
    """Colour jitter; off by default, on where `release` is true (method, section 1).

    Parameters
    ----------
    brightness, contrast, saturation
        How far the factors may be from 1; 0: off (the release: 0.5 each).
    hue
        How far the hue may be turned, as a share of the colour circle (the release: 0.1).
    """

    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, le=1)
    saturation: float = Field(default=0.0, ge=0, le=1)
    hue: float = Field(default=0.0, ge=0, le=0.5)


class E2eSettings(Settings):
    """End-to-end training (method, section 4; method, section 6).

    Parameters
    ----------
    start
        `detector`: from the detector named, else the run's own, else a fresh one; `scratch`: from a fresh one.
    memory
        `sgs`: gradient sampling; `full`: ordinary back-propagation through every snippet; `checkpoint`: the same,
        with activations computed again. The latter two are there to compare with (Table 7).
    strategy, ratio
        Which snippets' gradients reach the encoder (`etad.detect.strategies` has the names), and which share of them;
        0 trains the detector alone.
    chunk
        The sample is rounded up to whole chunks of so many snippets (the release: 4).
    micro_batch
        Snippets that the encoder sees at once; it changes results by rounding errors alone.
    first_pass_cache
        What the first pass over the sampled snippets leaves for the second one: `nothing`; `maps`: the outputs of the
        frozen stages; `graphs`: everything.
    cache_frozen
        Keep what the encoder's frozen stages make of each training window, and of the videos that are validated on, on
        disk, in half precision, so that later epochs neither decode nor compute it: windows in so many draws of
        augmentation, which epochs take in turn (1 where nothing is drawn); 0: off. Values are rounded to half
        precision from the first epoch on. It is removed when training is done. For small sets.
    cache_frozen_gib
        Disk that this may take; training that needs more is refused.
    recompute
        Keep, of a micro-batch of `sgs`, what goes into each block of the encoder alone, and compute the rest again: a
        fraction of its memory, for a third more time of its backward pass; results are the same.
    memory_budget_gib
        Memory that a step may take: the micro-batch shrinks, and `first_pass_cache` becomes `nothing`, to fit it.
    precision
        dtype of the encoder in training; `auto` takes bfloat16 where the device gains by it.
    encoder_lr, detector_lr
        Learning rates.
    optimizer, weight_decay
        Of everything that is trained.
    batch
        Windows a step; a last, short batch is dropped unless it is the only one.
    epochs
        A trained run that is given more goes on, to the same end as if it had been given them at first.
    decay, decay_after
        `step`: both learning rates are divided by ten after so many epochs; `cosine`: they fall along half a cosine, to
        a hundredth at so many. They are counted from the very first one.
    warmup_epochs
        Epochs, or a part of one, over which both learning rates rise from nearly nothing; 0: they begin as they are.
    clip_norm
        Largest norm of the gradient of encoder and detector together; none: no clipping.
    ema
        Decay of a moving average of all that is trained, which infers in its place (0.99: over about 100 steps);
        0: none.
    crop, flip_probability, jitter_frames, per_video
        Augmentation: see `etad.extract.clips.Augmentation`.
    rand_augment, colour_jitter
        Changes of colour and shape, one draw for each snippet, or for the video where `per_video` is true.
    failing_share
        Share of the training videos that may fail to decode; more stop the run.
    validate_epochs
        Measure the loss on `data.validation_subset` after each epoch, if there is one. Its videos are encoded
        anew each time; with `cache_frozen`, from what is kept of the frozen stages' outputs.
    checkpoint_seconds
        Time between checkpoints within an epoch.
    """

    RENAMED: ClassVar = {"keep": "first_pass_cache"}

    start: Literal["detector", "scratch"] = "detector"
    memory: Literal["sgs", "full", "checkpoint"] = "sgs"
    strategy: SnippetStrategy = "random"
    ratio: float = Field(default=0.3, ge=0, le=1)
    chunk: int = Field(default=1, ge=1)
    micro_batch: Annotated[int, Mark.RUNTIME] = Field(default=4, ge=1)
    first_pass_cache: Annotated[Literal["nothing", "maps", "graphs"], Mark.RUNTIME] = "maps"
    cache_frozen: int = Field(default=0, ge=0)
    cache_frozen_gib: Annotated[float, Mark.RUNTIME] = Field(default=10.0, gt=0)
    recompute: Annotated[bool, Mark.RUNTIME] = False
    memory_budget_gib: Annotated[float | None, Mark.RUNTIME] = Field(default=None, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    encoder_lr: float = Field(default=5e-7, gt=0)
    detector_lr: float = Field(default=5e-4, gt=0)
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = Field(default=1e-4, ge=0)
    epochs: Annotated[int, Mark.RUNTIME] = Field(default=6, ge=1)
    batch: int = Field(default=4, ge=1)
    decay: RateDecay = "step"
    decay_after: int = Field(default=5, ge=1)
    warmup_epochs: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    crop: Literal["random", "centre"] = "random"
    flip_probability: float = Field(default=0.0, ge=0, le=1)
    jitter_frames: int = Field(default=0, ge=0)
    per_video: bool = False
    rand_augment: RandAugmentSettings = RandAugmentSettings()
    colour_jitter: ColourJitterSettings = ColourJitterSettings()
    failing_share: Annotated[float, Mark.RUNTIME] = Field(default=0.1, ge=0, le=1)
    validate_epochs: bool = True
    checkpoint_seconds: Annotated[float, Mark.RUNTIME] = Field(default=300.0, gt=0)

    @property
    def is_augmented(self) -> bool:
        """Whether a window's frames may differ from epoch to epoch."""
        drawn = self.crop == "random" or self.flip_probability > 0 or self.jitter_frames > 0
        return drawn or self.rand_augment.operations > 0 or self.colour_jitter != ColourJitterSettings()

    @model_validator(mode="after")
    def _budget_fits(self) -> E2eSettings:
        if self.memory != "sgs" and self.memory_budget_gib is not None:
            raise ValueError(
                f"memory_budget_gib={self.memory_budget_gib:g} is kept by memory='sgs' alone, which encodes in "
                f"micro-batches; memory='{self.memory}' takes what it takes"
            )
        return self

    @model_validator(mode="after")
    def _cache_frozen_fits(self) -> E2eSettings:
        if self.cache_frozen and self.memory != "sgs":
            raise ValueError(
                f"cache_frozen={self.cache_frozen} goes with memory='sgs' alone; memory='{self.memory}' is there to "
                "compare with, and starts from the frames"
            )
        return self

    @model_validator(mode="after")
    def _first_pass_cache_fits(self) -> E2eSettings:
        needs = STRATEGIES[self.strategy].needs
        if self.first_pass_cache == "graphs" and needs != "nothing":
            raise ValueError(
                f"first_pass_cache='graphs' needs to know the sample beforehand, but strategy='{self.strategy}' "
                f"chooses by {needs}; take first_pass_cache='maps'"
            )
        return self


class DemoSettings(Settings):
    """The synthetic set (see `etad.data.synthetic.dataset`).

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
