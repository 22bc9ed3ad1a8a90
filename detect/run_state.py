"""Where a training run stands, and what depends on that place alone: order, randomness, rate, log."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..data.errors import EtadError, counted, listing
from ..data.files.atomic import write_text
from ..data.files.json_file import read_bytes
from .settings import DetectSettings

# torch is imported where something is computed: commands that only look up where files lie start without it.
if TYPE_CHECKING:
    import torch

    from .model.network import DetectionNetwork

# Called after every step with the step's number, the number of all steps, and the loss.
Progress = Callable[[int, int, float], None]


class Stream(IntEnum):
    """Named streams of random numbers, which do not meet: each is seeded by the run's seed, its number and a place."""

    ORDER = 0
    LOSS = 1
    VALIDATION = 2
    SNIPPETS = 3


@dataclass
class TrainState:
    """Where a training run stands: everything that a resumed run needs beside weights and optimiser.

    Parameters
    ----------
    best_loss, best_of
        Least loss of an epoch so far, and of which windows: `training` or `validation`.
    """

    epoch: int = 0
    step: int = 0
    best_loss: float = math.inf
    best_of: str = ""
    sums: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingFiles:
    """Where a training run's files lie, below a folder of its own."""

    folder: Path

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.checkpoint("last")

    @property
    def log(self) -> Path:
        """A line of JSON an epoch."""
        return self.folder / "log.jsonl"

    def checkpoint(self, name: str) -> Path:
        """The checkpoint `last` or `best`."""
        return self.folder / "checkpoints" / f"{name}.pt"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a detector is trained for and from, which goes into each of its checkpoints.

    Parameters
    ----------
    in_channels
        Of its features.
    classes
        Class names in the order of its class branch and labels.
    source
        The kind of its features: encoder, layout and so on.
    config_digest
        Digest of all that the training depends on.
    seed
        Where its randomness comes from.
    made_from
        Digests of the parts of that, by what is said where one of them is another.
    windows
        Digests of the training windows, by video.
    """

    in_channels: int
    classes: Sequence[str]
    source: Mapping[str, Any]
    config_digest: str
    seed: int
    made_from: Mapping[str, str] = field(default_factory=dict)
    windows: Mapping[str, str] = field(default_factory=dict)

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Say in what a checkpoint was made from something else; nothing where an older version did not note it."""
        made_from, windows = saved.get("made_from"), saved.get("windows")
        found = []
        if isinstance(made_from, Mapping):
            found += [said for said, digest in self.made_from.items() if made_from.get(said, digest) != digest]
        if isinstance(windows, Mapping) and windows:
            gone, new = windows.keys() - self.windows.keys(), self.windows.keys() - windows.keys()
            changed = {id for id in windows.keys() & self.windows.keys() if windows[id] != self.windows[id]}
            for what, ids in (("gone", gone), ("new", new), ("of other actions or another length", changed)):
                if ids:
                    found.append(f"{counted(len(ids), 'training video')} {what}: {listing(sorted(map(str, ids)))}")
        return found


def epoch_order(count: int, *, batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of window numbers of an epoch, drawn from seed and epoch alone; a last, short one is dropped."""
    shuffled = np.random.default_rng([seed, Stream.ORDER, epoch]).permutation(count).tolist()
    whole = max(count // batch * batch, batch)
    return [shuffled[i : i + batch] for i in range(0, min(whole, count), batch)]


def step_generator(seed: int, stream: Stream, *place: int) -> torch.Generator:
    """Generator that depends on the place in the run alone, so that a resumed run draws the same.

    Parameters
    ----------
    place
        Epoch and step, or the number of a batch.
    """
    import torch

    (state,) = np.random.SeedSequence((seed, stream, *place)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)


def log_epoch(path: Path, line: dict[str, Any]) -> None:
    """Write the epoch's line; an epoch that is run again after a kill replaces its own."""
    kept = [json.dumps(each) for each in read_log(path) if each["epoch"] < line["epoch"]] if path.exists() else []
    write_text(path, "\n".join([*kept, json.dumps(line)]) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a training log, one an epoch.

    Raises
    ------
    EtadError
        There is none, or it is damaged.
    """
    lines = []
    for number, text in enumerate(read_bytes(path, what="a training log").splitlines(), start=1):
        try:
            line = json.loads(text)
            _require_numbers(line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise EtadError(
                f"{path}: line {number} is none of etad's training log; the file is damaged. Put it back from a copy, "
                "or remove it: training goes on, and the log begins anew."
            ) from error
        lines.append(line)
    return lines


def _require_numbers(line: Any) -> None:
    """Ask for all that is read of a line of the log; one of another kind is a KeyError or a TypeError."""
    values = [line["epoch"], line["train"]["loss"], *line["train"].values()]
    values += [value for name, value in line.items() if name == "lr" or name.endswith("_lr")]
    if line["val_loss"] is not None:
        values.append(line["val_loss"])
    if not all(type(value) in (int, float) for value in values):
        raise TypeError


def detector_checkpoint(
    detector: DetectionNetwork,
    optimizer: torch.optim.Optimizer,
    position: TrainState,
    *,
    settings: DetectSettings,
    origin: Provenance,
) -> dict[str, Any]:
    """What a checkpoint must hold, among anything else, for `load_detector` to take it and for training to go on."""
    from .model.build import FORMAT

    return {
        "format": FORMAT,
        "version": __version__,
        "settings": settings.model_dump(mode="json"),
        **vars(origin),
        "classes": list(origin.classes),
        "source": dict(origin.source),
        "made_from": dict(origin.made_from),
        "windows": dict(origin.windows),
        "position": vars(position).copy(),
        "model": detector.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def restore_training_state(
    saved: Mapping[str, Any], detector: DetectionNetwork, optimizer: torch.optim.Optimizer
) -> TrainState:
    """Put weights and optimiser back to where a checkpoint was written, and tell where that was.

    Raises
    ------
    ValueError
        The checkpoint is of another network or training.
    """
    detector.load_state_dict(saved["model"])
    restore_optimizer(optimizer, saved["optimizer"])
    position = TrainState(**saved["position"])
    if position.epoch < 0 or position.step < 0 or not isinstance(position.best_of, str):
        raise ValueError(f"epoch {position.epoch}, step {position.step}, best of {position.best_of!r}")
    return position


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Put an optimiser back, whose moments must be of the weights' shapes: PyTorch tests their number alone.

    Raises
    ------
    ValueError
        They are not, or a setting is of another type.
    """
    import torch

    before = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, expected in zip(optimizer.param_groups, before):
        for name, value in expected.items():
            if name not in group or (value is not None and not isinstance(group[name], _types_like(value))):
                raise ValueError(f"the optimiser's {name} is {group.get(name)!r}, expected {value!r} or the like")
    names = {name for state in optimizer.state.values() for name in state}
    for weight, state in optimizer.state.items():
        for name in sorted(names):
            # A moment of another shape would crash the process: the fused kernels do not look.
            shape = torch.Size([]) if name == "step" else weight.shape
            found = state.get(name)
            if not isinstance(found, torch.Tensor) or found.shape != shape:
                kind = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
                raise ValueError(f"the optimiser's {name} of a weight is {kind}, expected {list(shape)}")


def _types_like(value: Any) -> tuple[type, ...]:
    if isinstance(value, bool):
        return bool, type(None)  # PyTorch chooses
    return (int, float) if isinstance(value, float) else (type(value),)
