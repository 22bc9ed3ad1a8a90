"""What end-to-end training refuses before it begins, a sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data.errors import EtadError
from ..detect.build import Trained, checkpoint_source
from ..detect.settings import DetectSettings
from .config import Config
from .sgs import sample_size

# What a detector's shape and rules depend on, and may not change between its training and this one.
_SIZES = ("preset", "enhancement", "num_stages", "num_snippets", "max_duration", "roi_bins", "windows")


def check_clips(config: Config) -> None:
    """Refuse clips that are not the detector's snippets one by one.

    Raises
    ------
    EtadError
        Naming the keys to set.
    """
    clips, detect = config.clips, config.detect
    layout = "spread" if detect.windows == "rescale" else "sliding"
    if clips.layout != layout:
        raise EtadError(
            f"clips.layout={clips.layout} does not go with detect.windows={detect.windows} end to end, where each "
            f"snippet is encoded as it is: set clips.layout={layout}, or detect.windows="
            f"{'sliding' if layout == 'spread' else 'rescale'}."
        )
    if layout == "spread" and clips.num_snippets != detect.num_snippets:
        raise EtadError(
            f"clips.num_snippets={clips.num_snippets} and detect.num_snippets={detect.num_snippets} differ; end to "
            "end they are the same snippets. Set both to one number."
        )


def check_sampling(config: Config, counts: Sequence[int]) -> None:
    """Refuse settings under which no gradient could ever reach the encoder, unless that was asked for.

    Parameters
    ----------
    counts
        Snippets of each training window.

    Raises
    ------
    EtadError
        The whole encoder is frozen, or the share of every window rounds to no snippet.
    """
    settings = config.e2e
    if settings.memory == "sgs" and settings.ratio == 0:
        return
    if config.encoder.frozen_stages == 4:
        raise EtadError(
            "encoder.frozen_stages=4 freezes the whole encoder, so no snippet has a gradient to sample. Lower it, or "
            "set e2e.ratio=0 to train the detector alone."
        )
    if settings.memory == "sgs" and not any(
        sample_size(count, ratio=settings.ratio, chunk=settings.chunk) for count in counts
    ):
        raise EtadError(
            f"e2e.ratio={settings.ratio:g} of {max(counts)} snippets is none, so nothing would reach the encoder. Set "
            f"it to {1 / max(counts):.2g} or more, or to 0 to train the detector alone."
        )


def check_detector(
    trained: Trained, detect: DetectSettings, classes: Sequence[str], *, encoder: str, channels: int, path: Path
) -> None:
    """Refuse to start from a detector of other sizes, features or classes.

    Raises
    ------
    EtadError
        Naming what differs.
    """
    for name in _SIZES:
        found, expected = getattr(trained.settings, name), getattr(detect, name)
        if found != expected:
            key = "bins" if name == "roi_bins" else name
            raise EtadError(
                f"{path}: this detector was trained with detect.{key}={found}, the config says {expected}. "
                f"Set detect.{key}={found}, or start from another detector."
            )
    learned_on = trained.source.get("encoder", encoder)
    if learned_on != encoder:
        raise EtadError(
            f"{path}: this detector was trained on features of {learned_on}, the config says encoder.name={encoder}. "
            f"Set encoder.name={learned_on}, or start from another detector."
        )
    if trained.state["in_channels"] != channels:
        raise EtadError(
            f"{path}: this detector takes features of {trained.state['in_channels']} channels, the encoder gives "
            f"{channels}. Use the encoder it was trained on, or start from another detector."
        )
    if (trained.settings.labels.source == "branch") != (detect.labels.source == "branch"):
        raise EtadError(
            f"{path}: this detector was trained with detect.labels.source={trained.settings.labels.source}, the "
            f"config says {detect.labels.source}. Set it back, or start from another detector."
        )
    checkpoint_source(classes, trained, path)
