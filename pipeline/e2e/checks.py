"""What end-to-end training refuses before it begins, a sentence each."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from pathlib import Path

from ...data.annotations import Annotations
from ...data.cache.cache import FeatureCache, finished_ids
from ...data.digest import file_sha256
from ...data.errors import EtadError, counted, listing
from ...data.settings import Mark, marks
from ...detect.model.build import Trained, check_classes
from ...detect.sampling.population import sample_size
from ...detect.settings import DetectSettings
from ...extract.clips import Failure
from ..config import Config
from ..settings import E2eSettings

# Settings of weights that may change between a detector's training and this one: how it learns and computes. All
# others are its shape and rules, those that are yet to come included.
_MAY_CHANGE = ("in_channels", "precision", "window_stride", "sampling.", "training.", "labels.")


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


def check_frozen(config: Config) -> None:
    """Refuse to keep outputs of frozen stages where that gains nothing.

    Raises
    ------
    EtadError
        Naming the keys to set.
    """
    settings, draws = config.e2e, config.e2e.cache_frozen
    if not draws:
        return
    if settings.epochs <= draws:
        raise EtadError(
            f"e2e.cache_frozen={draws} loses: in e2e.epochs={settings.epochs} no training window's outputs would be "
            "read again. Set e2e.cache_frozen to fewer than the epochs, or to 0."
        )
    if draws > 1 and not settings.is_augmented:
        raise EtadError(
            f"e2e.cache_frozen={draws} would keep the same outputs {draws} times, since no augmentation is on. Set "
            "e2e.cache_frozen=1."
        )


def check_frozen_size(
    settings: E2eSettings, *, snippets: int, validated: int = 0, snippet_bytes: int, folder: Path
) -> str:
    """Refuse to keep more of frozen stages than there is disk for; returns a line that says what it takes.

    Parameters
    ----------
    snippets
        Of all training windows.
    validated
        Snippets of the videos that are validated on, of which nothing is drawn.
    snippet_bytes
        What one snippet's outputs take.
    folder
        Where they will lie; what lies there already counts as free, since it is read or written over.

    Raises
    ------
    EtadError
        Naming the sizes.
    """
    needed = (snippets * settings.cache_frozen + validated) * snippet_bytes
    there = sum(path.stat().st_size for path in folder.rglob("*.maps")) if folder.is_dir() else 0
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free + there
    of_training = f"{counted(snippets, 'snippet')} x {counted(settings.cache_frozen, 'draw')}"
    both = f"({of_training} + {validated} of validation)" if validated else of_training
    what = f"{both} x {snippet_bytes / 2**20:.3f} MiB"
    for limit, name in (
        (settings.cache_frozen_gib * 2**30, "e2e.cache_frozen_gib allows"),
        (free, "the disk has free"),
    ):
        if needed > limit:
            raise EtadError(
                f"{folder}: outputs of the frozen stages take {needed / 2**30:.3g} GiB ({what}), and {name} "
                f"{limit / 2**30:.3g} GiB. Freeze more stages, keep fewer draws, free or allow more disk, or set "
                "e2e.cache_frozen=0."
            )
    return (
        f"frozen stages: kept in half precision, {needed / 2**30:.3g} GiB ({what}); a window is "
        f"decoded in {counted(settings.cache_frozen, 'epoch')}, and read from there in all others"
    )


def check_start(config: Config, start: tuple[Path, Trained] | None) -> None:
    """Refuse a fresh detector where channels are to be standardised: nobody has measured them.

    Raises
    ------
    EtadError
        Naming the keys to set.
    """
    if start is None and config.detect.standardise:
        raise EtadError(
            "detect.standardise takes means and deviations that `detect` measures over cached features, and this "
            "training starts from a fresh detector. Run `etad detect` first, or set detect.standardise=false."
        )


def check_files(config: Config, annotations: Annotations, files: Collection[str]) -> None:
    """Refuse a subset of which no video is there, before hours are spent on the other.

    Parameters
    ----------
    files
        Ids of the videos that have a file.

    Raises
    ------
    EtadError
        No video of the training or test subset has a file.
    """
    for key in ("train_subset", "test_subset"):
        subset = getattr(config.data, key)
        ids = [video.id for video in annotations.subset(subset)]
        if not any(id in files for id in ids):
            raise EtadError(
                f"{config.data.videos}: no video of subset '{subset}' has a file here (looked for {listing(ids, 3)}). "
                f"Name another folder with --videos, or another subset with data.{key}."
            )


def check_failing(failed: Mapping[str, Failure], num_videos: int, *, allowed: float) -> None:
    """Stop where too many training videos cannot be read.

    Parameters
    ----------
    allowed
        Share of them that may fail; all of them never may.

    Raises
    ------
    EtadError
        Listing them, each with its reason.
    """
    share = len(failed) / max(num_videos, 1)
    if share > allowed or share == 1:
        reasons = [f"{id} ({failure.reason})" for id, failure in sorted(failed.items())]
        more = f", more than e2e.failing_share={allowed:g} allows" if share > allowed else ""
        raise EtadError(
            f"{len(failed)} of {counted(num_videos, 'training video')} cannot be read{more}: "
            f"{listing(reasons, most=20)}. Get other copies, or list them in data.blocked."
        )


def check_features_place(cache: Path, encoder: Path) -> None:
    """Refuse to write features beside those of other weights, before the training that they wait for.

    Parameters
    ----------
    encoder
        The run's tuned encoder; there is none before training is done.

    Raises
    ------
    EtadError
        The cache holds features that are not this encoder's.
    """
    if not finished_ids(cache):
        return
    with FeatureCache(cache) as found:
        weights_sha256 = found.kind.weights_sha256
    if not encoder.exists() or file_sha256(encoder) != weights_sha256:
        raise EtadError(
            f"{cache}: holds features of other weights ({weights_sha256[:12]}) than this run's tuned encoder. "
            "Name another file with --features, or remove this one."
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
        sample_size(settings.strategy, count, settings.ratio, chunk=settings.chunk) for count in counts
    ):
        raise EtadError(
            f"e2e.ratio={settings.ratio:g} of {counted(max(counts), 'snippet')} is none, so nothing would reach the "
            f"encoder. Set it to {1 / max(counts):.2g} or more, or to 0 to train the detector alone."
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
    for key, mark in marks(DetectSettings):
        if mark is not Mark.WEIGHTS or key.startswith(_MAY_CHANGE):
            continue
        found, expected = (
            attrgetter("roi_bins" if key == "bins" else key)(each) for each in (trained.settings, detect)
        )
        if found != expected:
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
    check_classes(classes, trained, path)
