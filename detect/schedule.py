"""Where a training run stands, and what depends on that place alone: order, randomness, rate, log."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.atomic import write_text

# Called after every step with the step's number, the number of all steps, and the loss.
Progress = Callable[[int, int, float], None]


@dataclass
class TrainState:
    """Where a training run stands: everything that a resumed run needs beside weights and optimiser."""

    epoch: int = 0
    step: int = 0
    best_loss: float = math.inf
    sums: dict[str, float] = field(default_factory=dict)


def epoch_order(count: int, *, batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of window numbers of an epoch, drawn from seed and epoch alone; a last, short one is dropped."""
    shuffled = np.random.default_rng([seed, 0, epoch]).permutation(count).tolist()
    whole = max(count // batch * batch, batch)
    return [shuffled[i : i + batch] for i in range(0, min(whole, count), batch)]


def place_generator(*place: int) -> torch.Generator:
    """Generator that depends on the place in the run alone, so that a resumed run draws the same."""
    (seed,) = np.random.SeedSequence(place).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed) >> 1)


def log_epoch(path: Path, line: dict[str, Any]) -> None:
    """Write the epoch's line; an epoch that is run again after a kill replaces its own."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [each for each in lines if json.loads(each)["epoch"] < line["epoch"]]
    write_text(path, "\n".join([*kept, json.dumps(line)]) + "\n")
