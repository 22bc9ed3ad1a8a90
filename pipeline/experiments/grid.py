"""A table of the paper as a grid: cells that are trained for several seeds, and what the paper says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from ...data.errors import EtadError
from ...data.settings import marks
from ...detect.model.proposals import lattice
from ...detect.sampling.population import sample_lattice
from ...detect.sampling.proposals import ProposalSampler
from ...detect.strategies import find_strategy
from ..config import Config, override

CellStage = Literal["pretrain", "extract", "detect", "infer", "e2e"]
# The run that draws, pretrains and extracts for all others.
BASE = "base"
# Under this name a cell's figures hold the mean over the thresholds; all other mAPs are named by their tIoU.
AVERAGE = "average"
MEMORY, MINUTES = "GB", "minutes"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A row of a table, trained once a seed in a run folder of its own.

    Parameters
    ----------
    folder
        Of its runs, below the seed's; other cells name it by this.
    stages
        What is done in its run folder, in order; `infer` takes the detector of the cell that it comes after.
    sets
        Overrides of the config.
    after
        The cell whose encoder, features and detector it takes, where it makes none of its own.
    against
        The cell that its gain is measured over; empty: none.
    paper
        The paper's figures: `average` and tIoUs in per cent, `GB`, `minutes`.
    left_out
        Why it is not run; empty: it is.
    cost
        How long it takes, compared with the others that come after the same cell: the longest are begun first.
    memory
        Whether the memory of a training step is measured.
    is_row
        Whether the table shows it, or it is there for others alone.
    of_all_seeds
        Whether it is one run that all seeds share, since no seed changes it; it comes after no other.
    """

    name: str
    folder: str
    stages: tuple[CellStage, ...]
    sets: tuple[str, ...] = ()
    after: str | None = BASE
    against: str = ""
    paper: Mapping[str, float] = field(default_factory=dict)
    left_out: str = ""
    cost: float = 1.0
    memory: bool = False
    is_row: bool = True
    of_all_seeds: bool = False


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the paper's figures say of two cells.

    Parameters
    ----------
    left, right
        Folders of the cells: the left one's figure is higher; or, with `within`, about as high.
    within
        By how much the left one's is lower at most; none: it is higher.
    column
        Which figure: the average mAP, that at a tIoU, memory or minutes.
    """

    text: str
    left: str
    right: str
    within: float | None = None
    column: str = AVERAGE

    def holds(self, difference: float) -> bool:
        """Whether a difference, see `differences`, is as claimed."""
        return difference > 0 if self.within is None else difference >= -self.within

    @property
    def is_of_cost(self) -> bool:
        return self.column in (MEMORY, MINUTES)

    def differences(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Left minus right: points of mAP, in per cent of the right one's memory or time."""
        return 100 * (left / right - 1) if self.is_of_cost else left - right


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table: its cells, and what the paper found in it.

    Parameters
    ----------
    of, over
        What the paper measured it on, empty where it has no such table; and the tIoUs of its averages.
    sets
        Overrides of the config for all cells, the drawn data included.
    notes
        What a reader of the table has to know.
    """

    name: str
    title: str
    of: str
    over: str = "0.5:0.05:0.95"
    cells: tuple[Cell, ...]
    claims: tuple[Claim, ...] = ()
    sets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        folders = [cell.folder for cell in self.cells]
        assert len(set(folders)) == len(folders), folders
        for cell in self.cells:
            assert cell.after is None or cell.after in folders, cell.after
            assert cell.after is None or not cell.of_all_seeds, cell.folder
            assert not cell.against or cell.against in folders, cell.against
            assert cell.left_out or not any(each.left_out for each in self.chain(cell)), cell.folder
        for claim in self.claims:
            assert {claim.left, claim.right} <= set(folders), claim

    @property
    def rows(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.is_row)

    @property
    def compared(self) -> tuple[Cell, ...]:
        """Rows but for what they all go on from."""
        return tuple(cell for cell in self.rows if cell.folder != BASE)

    def cell(self, folder: str) -> Cell:
        return next(cell for cell in self.cells if cell.folder == folder)

    def chain(self, cell: Cell) -> tuple[Cell, ...]:
        """The cells that one comes after, nearest first."""
        return () if cell.after is None else (self.cell(cell.after), *self.chain(self.cell(cell.after)))

    @property
    def to_run(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if not cell.left_out)

    def after(self, folder: str | None) -> list[Cell]:
        """Cells to run that come next after one, or after none; the longest first."""
        return sorted((cell for cell in self.to_run if cell.after == folder), key=lambda cell: -cell.cost)

    @property
    def paper_columns(self) -> tuple[str, ...]:
        """tIoUs that the paper states figures for, ascending."""
        named = {column for cell in self.rows for column in cell.paper} - {AVERAGE, MEMORY, MINUTES}
        return tuple(sorted(named, key=float))


def unfit(config: Config, sets: Sequence[str]) -> str:
    """Why a cell cannot exist with this config; empty where it can.

    Settings that this version does not have, a share that holds no proposal, a block that does not fit.
    """
    known = {key for key, _ in marks(Config)}
    for key in (each.partition("=")[0] for each in sets):
        if key not in known:
            return f"this version of etad has no setting {key}"
    try:
        detect = override(config, *sets).detect
        ProposalSampler(detect)
        strategy = find_strategy(detect.sampling.strategy, gradients=False)
        if strategy.needs == "nothing":
            cells = lattice(detect.num_snippets, detect.max_duration)
            generator = torch.Generator().manual_seed(0)
            sample_lattice(strategy.name, cells, num_draws=1, ratio=detect.sampling.ratio, generator=generator)
    except EtadError as error:
        return str(error)
    return ""
