"""What the detector needs to know: its sizes, its samples, how it learns, how it decides."""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ..data.settings import Mark, Settings, marks
from .preset import PRESETS, Preset
from .schedule import RateDecay
from .strategies import ProposalStrategy

# What only ETAD has.
_ETAD_ALONE = ("enhancement", "num_stages", "bins", "sampling.strategy", "sampling.ratio")


class SamplingSettings(Settings):
    """APS, which proposals are evaluated (method, section 4).

    Parameters
    ----------
    strategy, ratio
        In a training step, drawn anew for each video; `etad.detect.strategies` has the names.
    inference_ratio
        Share of proposals evaluated at inference, on a grid (Table 4); 1: all.
    """

    strategy: ProposalStrategy = "random"
    ratio: float = Field(default=0.06, gt=0, le=1)
    inference_ratio: Annotated[float, Mark.INFERENCE] = Field(default=1.0, gt=0, le=1)


class TrainingSettings(Settings):
    """How the detector learns (method, section 6).

    Parameters
    ----------
    batch
        Windows a step; a last, short batch is dropped unless it is the only one.
    epochs
        A trained run that is given more goes on, to the same end as if it had been given them at first.
    optimizer, lr, weight_decay
        AdamW or Adam, its learning rate and its weight decay.
    decay, decay_after
        `step`: the learning rate is divided by ten after so many epochs; `cosine`: it falls along half a cosine, to a
        hundredth at so many. They are counted from the very first one, whatever `epochs` is.
    warmup_epochs
        Epochs, or a part of one, over which the learning rate rises from nearly nothing; 0: it begins at `lr`.
    clip_norm
        Largest gradient norm; none: no clipping.
    ema
        Decay of a moving average of the weights, which infers in their place (0.99: over about 100 steps); 0: none.
    keep_negatives
        Whole videos without any action are valid training data; sliding windows without one never are.
    checkpoint_seconds
        Time between checkpoints within an epoch.
    memory_gib
        Features are held in memory where the training windows fit into this.
    """

    batch: int = Field(default=16, ge=1)
    epochs: Annotated[int, Mark.RUNTIME] = Field(default=6, ge=1)
    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    decay: RateDecay = "step"
    decay_after: int = Field(default=5, ge=1)
    warmup_epochs: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    keep_negatives: bool = True
    checkpoint_seconds: Annotated[float, Mark.RUNTIME] = Field(default=120.0, gt=0)
    memory_gib: Annotated[float, Mark.RUNTIME] = Field(default=4.0, ge=0)


class InferenceSettings(Settings):
    """How raw predictions become detections (method, section 5).

    Parameters
    ----------
    checkpoint
        Which of the run's checkpoints infers.
    batch
        Windows that are inferred at once.
    score
        Product of startness, endness and IoU, or IoU alone; none: the preset's.
    sigma, max_detections
        Soft-NMS and how many proposals survive it; sliding windows go through it once each, and merged once more.
    voting_iou
        Segments over this IoU vote on the survivors' boundaries; none: no voting.
    """

    RENAMED: ClassVar = {"keep": "max_detections"}

    checkpoint: Literal["last", "best"] = "last"
    batch: Annotated[int, Mark.RUNTIME] = Field(default=8, ge=1)
    score: Literal["boundary_iou", "iou"] | None = None
    sigma: float = Field(default=0.35, ge=0.01)
    max_detections: int = Field(default=100, ge=1)
    voting_iou: float | None = Field(default=None, gt=0, lt=1)


class LabelSettings(Settings):
    """Where class labels come from.

    Parameters
    ----------
    source
        `scores`: a file of video-level scores; `classifier`: a video-level classifier trained on the features;
        `branch`: a class branch on the last cascade stage, for videos that hold several classes.
    top
        Classes that each proposal is reported with.
    """

    source: Literal["scores", "classifier", "branch"] = "classifier"
    top: Annotated[int, Mark.INFERENCE] = Field(default=2, ge=1)


class BmnSettings(Settings):
    """BMN, the baseline (docs/baselines.md); its defaults are the published sizes.

    Parameters
    ----------
    num_samples, samples_per_bin
        Bins along each proposal, and points whose mean each is.
    extension
        How much of its own length a proposal is widened by on each side.
    width_1d, width_2d, width_3d
        Channels of the convolutions over snippets, over the map of proposals, and over the bins.
    """

    num_samples: int = Field(default=32, ge=1)
    samples_per_bin: int = Field(default=3, ge=1)
    extension: float = Field(default=0.5, ge=0)
    width_1d: int = Field(default=256, ge=4, multiple_of=4)
    width_2d: int = Field(default=128, ge=1)
    width_3d: int = Field(default=512, ge=1)


class TcanetSettings(Settings):
    """TCANet, which refines BMN's proposals (docs/baselines.md); its defaults are the published sizes.

    Parameters
    ----------
    width
        Channels of the encoded features.
    encoders, heads, window
        Local-global encoders, their heads, and the snippets that half of these see: half of so many, rounded down, on
        either side of the middle one.
    dropout
        Share of the encoders' values that is dropped in training.
    boundary_samples, action_samples
        Points along the stretch around each end of a proposal, and along the proposal.
    training_proposals, proposals
        Proposals of a window that are refined in training, and at inference.
    """

    width: int = Field(default=512, ge=4, multiple_of=4)
    encoders: int = Field(default=2, ge=0)
    heads: int = Field(default=8, ge=2, multiple_of=2)
    window: int = Field(default=9, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    boundary_samples: int = Field(default=32, ge=4, multiple_of=4)
    action_samples: int = Field(default=64, ge=4, multiple_of=4)
    training_proposals: int = Field(default=64, ge=1)
    proposals: int = Field(default=100, ge=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> TcanetSettings:
        if self.width % self.heads:
            raise ValueError(f"width={self.width} is no multiple of heads={self.heads}, which share it")
        return self


class DetectSettings(Settings):
    """The detector.

    Parameters
    ----------
    model
        ETAD; or a baseline that it is compared with: BMN, alone or refined by TCANet (docs/baselines.md).
    preset
        `paper` or `release`: everything that differs between them (docs/method.md).
    in_channels
        Channels of the features; none: the cache's.
    standardise
        Bring each channel of the features to mean 0 and deviation 1, as measured over the training videos; for
        features whose channels differ much in size, or are all positive: the class branch learns sooner then.
    enhancement, num_stages
        Table 1.
    num_snippets, max_duration
        T and D.
    bins
        RoI bins R; none: the preset's (32 or 24).
    windows
        `rescale`: the whole video becomes T snippets; `sliding`: windows of T snippets, `window_stride` apart.
    window_stride
        Snippets from one sliding window to the next.
    min_action_share
        `rescale` alone: training videos whose every action lasts at most this share of the video are left out, since a
        snippet may be longer than they are; 0: none is.
    precision
        dtype of the products over proposals, in which most of the time goes; `auto` takes bfloat16 where
        the device gains by it. The preset `release` computes in float32.
    kernels
        `fast`; or `reference`, to debug with: plain PyTorch in place of everything in `detect/kernels` that computes
        otherwise. It is slower, takes more memory, and changes results by rounding errors alone.
    tious
        Thresholds of the reported mAP.
    """

    model: Literal["etad", "bmn", "bmn+tcanet"] = "etad"
    preset: Literal["paper", "release"] = "paper"
    in_channels: int | None = Field(default=None, ge=1)
    standardise: bool = False
    enhancement: Literal["lstm", "conv", "transformer"] = "lstm"
    num_stages: int = Field(default=3, ge=1, le=4)
    num_snippets: int = Field(default=128, ge=4)
    max_duration: int = Field(default=128, ge=1)
    bins: int | None = Field(default=None, ge=4, multiple_of=4)
    windows: Literal["rescale", "sliding"] = "rescale"
    window_stride: int = Field(default=64, ge=1)
    min_action_share: float = Field(default=0.01, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    kernels: Annotated[Literal["fast", "reference"], Mark.INFERENCE] = "fast"
    tious: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Mark.INFERENCE] = Field(
        default=tuple(round(0.5 + 0.05 * i, 2) for i in range(10)), min_length=1
    )
    sampling: SamplingSettings = SamplingSettings()
    training: TrainingSettings = TrainingSettings()
    inference: Annotated[InferenceSettings, Mark.INFERENCE] = InferenceSettings()
    labels: LabelSettings = LabelSettings()
    bmn: BmnSettings = BmnSettings()
    tcanet: TcanetSettings = TcanetSettings()

    @model_validator(mode="after")
    def _thresholds_differ(self) -> DetectSettings:
        if len(set(self.tious)) < len(self.tious):
            raise ValueError(f"tious={list(self.tious)} names a threshold twice, which would count so in the average")
        return self

    @model_validator(mode="after")
    def _durations_fit(self) -> DetectSettings:
        if self.max_duration > self.num_snippets:
            raise ValueError(f"max_duration={self.max_duration} is longer than num_snippets={self.num_snippets}")
        return self

    @model_validator(mode="after")
    def _preset_fits(self) -> DetectSettings:
        if self.model != "etad" and self.preset != "paper":
            raise ValueError(f"preset={self.preset} is a version of ETAD, which model={self.model} does not have")
        return self

    def unused(self) -> list[str]:
        """Keys of what is set other than by default, and that this model makes no use of."""
        own = {"etad": _ETAD_ALONE, "bmn": ("bmn.",), "tcanet": ("tcanet.",)}
        others = [key for model, keys in own.items() if model not in self.model.split("+") for key in keys]
        if "tcanet" in self.model:
            others.append("inference.score")  # BMN's scores, boundaries included, pick what is refined
        defaults = DetectSettings()
        return [
            key
            for key, _ in marks(DetectSettings)
            if any(key == other or (other.endswith(".") and key.startswith(other)) for other in others)
            and attrgetter(key)(self) != attrgetter(key)(defaults)
        ]

    @property
    def rules(self) -> Preset:
        """Everything that the preset decides."""
        return PRESETS[self.preset]

    @property
    def roi_bins(self) -> int:
        return self.bins or self.rules.roi_bins

    @property
    def heads_precision(self) -> str:
        return self.precision if self.rules.takes_bfloat16 else "float32"

    @property
    def scores_boundaries(self) -> bool:
        score = self.inference.score
        return self.rules.scores_boundaries if score is None else score == "boundary_iou"
