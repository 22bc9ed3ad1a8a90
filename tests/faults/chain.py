"""The miniature that faults befall: a set of videos, all stages on it, and what they come to."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import miniature
import miniature_e2e
import torch
from faults.children import Child, Ended, run

from etad.data.cache.cache import FeatureCache
from etad.data.checkpoint import load_checkpoint
from etad.data.digest import tensors_digest

SETS = (
    *("pretrain.source=synthetic", "pretrain.steps=12", "pretrain.batch_clips=4", "pretrain.held_out_clips=4"),
    *(f"{stage}.checkpoint_seconds=1e-9" for stage in ("pretrain", "detect.training", "e2e")),
    *("detect.training.epochs=2", "detect.training.batch=2", "detect.training.decay_after=1", "encoder.init=weights"),
)
# Files that are linked and not copied from one run folder to the next; all are replaced and none is written into.
_LINKED_BYTES = 2**20

Outcome = Callable[[Path], object]


def words(folder: Path, *stages: str, sets: tuple[str, ...] = ()) -> list[str]:
    """The command for some stages in a run folder that holds the videos, too."""
    return [*miniature_e2e.options(folder / "annotations.json", folder, *SETS, *sets), *stages]


def make_videos(folder: Path) -> None:
    folder.mkdir()
    miniature_e2e.make(folder)


def words_on_features(folder: Path, *sets: str) -> list[str]:
    """Detection alone, on made-up features, with a classifier."""
    options = miniature.set_options("detect.labels.source=classifier", "workers=0", *sets)
    return ["detect", "-o", str(folder), "--annotations", str(folder / "annotations.json"), *options]


def make_features(folder: Path) -> None:
    folder.mkdir()
    miniature.make(folder)


def copy(folder: Path, to: Path) -> Path:
    """A run folder that is free to be spoilt."""

    def copy_or_link(source: str, target: str) -> None:
        if Path(source).stat().st_size > _LINKED_BYTES:
            Path(target).hardlink_to(source)
        else:
            shutil.copy2(source, target)

    return Path(shutil.copytree(folder, to, copy_function=copy_or_link))


def features_of(cache: Path) -> str:
    with FeatureCache(cache) as opened:
        return tensors_digest({id: torch.from_numpy(opened.read(id)) for id in opened.ids})


def features(folder: Path) -> str:
    return features_of(folder / "features.h5")


def pretrained(folder: Path) -> str:
    return tensors_digest(load_checkpoint(folder / "pretrain" / "encoder.pt")["encoder"])


def trained(stage: str, folder: Path) -> tuple[object, ...]:
    """Digests of a stage's final weights, and its detections."""
    state = load_checkpoint(folder / stage / "checkpoints" / "last.pt")
    encoder = tensors_digest(state["encoder"]) if stage == "e2e" else ""
    return tensors_digest(state["model"]), encoder, (folder / stage / "detections.json").read_bytes()


OUTCOMES: dict[str, Outcome] = {
    "pretrain": pretrained,
    "extract": features,
    "detect": functools.partial(trained, "detect"),
    "e2e": functools.partial(trained, "e2e"),
}


def came_to(folder: Path, stages: tuple[str, ...]) -> tuple[object, ...]:
    """Digests of all features and final weights that some stages end with, and their detections."""
    return tuple(OUTCOMES[stage](folder) for stage in stages)


@dataclass(frozen=True)
class Undisturbed:
    """A job on a data folder that nothing has befallen: how long it took, and what it came to."""

    data: Path
    words: Callable[[Path], list[str]]
    stages: tuple[str, ...]
    folder: Path
    seconds: float
    outcome: object

    def came_to(self, folder: Path) -> object:
        return came_to(folder, self.stages)

    def begin(self, folder: Path) -> Child:
        return Child(self.words(folder), folder.parent)

    def again(self, folder: Path) -> Ended:
        return run(self.words(folder), folder.parent)


def undisturbed(
    data: Path, to: Path, stages: tuple[str, ...], command: Callable[[Path], list[str]] | None = None
) -> Undisturbed:
    """Do a job on a copy of its data."""
    command = command or (lambda folder: words(folder, *stages))
    folder = copy(data, to)
    started = time.monotonic()
    ended = run(command(folder), to.parent)
    assert ended.status == 0, ended.said
    return Undisturbed(data, command, stages, folder, time.monotonic() - started, came_to(folder, stages))
