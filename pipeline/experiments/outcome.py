"""What a grid came to: means, spreads, gains, and which of the paper's claims hold here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import ttest_1samp

from ...data.errors import listing
from .grid import AVERAGE, MEMORY, MINUTES, Cell, Claim, Grid
from .runs import Measured


class Gain(NamedTuple):
    """A cell's average mAP less another's, seed by seed, in points.

    Parameters
    ----------
    p
        Of a paired t-test over the seeds, two-sided; none with a single seed.
    """

    mean: float
    deviation: float
    p: float | None


@dataclass(frozen=True)
class Verdict:
    """Whether a claim of the paper holds on this data.

    Parameters
    ----------
    holds
        In the mean over the seeds; none: a cell of it is missing.
    text
        The claim with its figures.
    """

    claim: Claim
    holds: bool | None
    text: str


@dataclass(frozen=True)
class Outcome:
    """A grid with its figures.

    Parameters
    ----------
    found
        Of each cell that was run, by folder: a run a seed.
    """

    grid: Grid
    seeds: tuple[int, ...]
    found: Mapping[str, tuple[Measured, ...]]

    def values(self, cell: Cell) -> np.ndarray:
        """(seeds,) average mAP in per cent; NaN where a run failed or the cell was left out."""
        runs = self.found.get(cell.folder, ())
        values = [np.nan if each.average_mAP is None else 100 * each.average_mAP for each in runs]
        return np.array(values or [np.nan] * len(self.seeds))

    def mean(self, cell: Cell, column: str = AVERAGE) -> float | None:
        """Mean over the seeds of one figure, in the paper's unit; none where no run has it."""
        runs = self.found.get(cell.folder, ())
        if column == AVERAGE:
            values = list(self.values(cell))
        elif column == MEMORY:
            values = [each.memory_bytes / 1e9 for each in runs if each.memory_bytes is not None]
        elif column == MINUTES:
            values = [each.seconds / 60 for each in runs if each.seconds is not None]
        else:
            values = [100 * each.mAP[column] for each in runs if column in each.mAP]
        known = [value for value in values if np.isfinite(value)]
        return float(np.mean(known)) if known else None

    def deviation(self, cell: Cell) -> float | None:
        """Standard deviation of the average mAP over the seeds; none with fewer than two."""
        known = self.values(cell)[np.isfinite(self.values(cell))]
        return float(known.std(ddof=1)) if len(known) > 1 else None

    def gain(self, left: Cell, right: Cell) -> Gain | None:
        """The left cell over the right one; none where no seed has both."""
        return self._compared(left, right, 0.0)

    def _compared(self, left: Cell, right: Cell, margin: float) -> Gain | None:
        """Compare two cells seed by seed; p is that of their difference if it were `margin` points in truth."""
        differences = self.values(left) - self.values(right)
        differences = differences[np.isfinite(differences)]
        if not len(differences):
            return None
        mean = float(differences.mean())
        if len(differences) < 2:
            return Gain(mean, 0.0, None)
        if np.ptp(differences) == 0:  # no spread to test against: certain, or no difference at all
            return Gain(mean, 0.0, 0.0 if mean != margin else 1.0)
        return Gain(mean, float(differences.std(ddof=1)), float(ttest_1samp(differences, margin).pvalue))

    def verdicts(self) -> list[Verdict]:
        """Each claim of the paper, and whether it holds here."""
        return [self._verdict(claim) for claim in self.grid.claims]

    def _verdict(self, claim: Claim) -> Verdict:
        left, right = self.grid.cell(claim.left), self.grid.cell(claim.right)
        paper = ""
        if AVERAGE in left.paper and AVERAGE in right.paper:
            paper = f" ({left.paper[AVERAGE] - right.paper[AVERAGE]:+.2f} in the paper)"
        margin = claim.within or 0.0
        gain = self._compared(left, right, -margin)
        if gain is None:
            missing = [f"without {cell.name}" for cell in (left, right) if self.mean(cell) is None]
            why = missing[0] if missing else "no seed has both"
            return Verdict(claim, None, f"{claim.text}{paper}: not known, {why}")
        holds = claim.holds(gain.mean)
        word = "holds" if holds else "does not hold"
        if gain.p is None or gain.p >= 0.05:
            word += " in the mean, but may be chance" if holds else " in the mean, which may be chance"
        figures = f"{gain.mean:+.1f} points"
        if gain.p is not None:
            against = f" against {-margin:g}" if margin else ""
            figures = f"{gain.mean:+.1f} +- {gain.deviation:.1f} points, p {p_text(gain.p)}{against}"
        return Verdict(claim, holds, f"{claim.text}{paper}: {word}, {figures}")

    @property
    def over(self) -> str:
        """tIoUs of the averages, as `first:step:last` where they are evenly spaced; empty where no run has any."""
        tious = sorted({float(tiou) for runs in self.found.values() for run in runs for tiou in run.mAP})
        steps = np.diff(tious)
        if len(tious) > 2 and np.allclose(steps, steps[0]):
            return f"{tious[0]:g}:{steps[0]:.4g}:{tious[-1]:g}"
        return ", ".join(f"{tiou:g}" for tiou in tious)

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Cells without figures, each with the reason: left out beforehand, or failed."""
        found = [(cell.name, cell.left_out) for cell in self.grid.rows if cell.left_out]
        return found + self.failures

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Runs that were begun and came to nothing; seeds of a cell that failed alike stand together."""
        found: dict[tuple[str, str], list[str]] = {}
        for cell, seed, why in self.failed_runs:
            found.setdefault((cell.name, why), []).append(str(seed))
        shared = {cell.name for cell in self.grid.cells if cell.of_all_seeds}
        return [
            (name if name in shared else f"{name}, seed{'s' * (len(seeds) > 1)} {listing(seeds)}", why)
            for (name, why), seeds in found.items()
        ]

    @property
    def failed_runs(self) -> list[tuple[Cell, int, str]]:
        """The same by cell and seed."""
        return [
            (cell, seed, run.failed)
            for cell in self.grid.cells
            for seed, run in zip(self.seeds, self.found.get(cell.folder, ()))
            if run.failed
        ]

    @property
    def seconds(self) -> float | None:
        """Of all runs together; none where some were interrupted, and nobody knows."""
        seconds = [run.seconds for runs in self.found.values() for run in runs if not run.failed]
        return sum(each for each in seconds if each is not None) if None not in seconds else None

    @property
    def left_out(self) -> tuple[str, ...]:
        """Videos that some run went without."""
        return tuple(sorted({id for runs in self.found.values() for run in runs for id in run.left_out}))

    def as_json(self) -> dict[str, Any]:
        rows = self.grid.rows
        gains = {cell.name: self.gain(cell, self.grid.cell(cell.against)) for cell in rows if cell.against}
        return {
            "seeds": list(self.seeds),
            "average_mAP": {
                cell.name: [None if np.isnan(value) else round(float(value) / 100, 6) for value in self.values(cell)]
                for cell in rows
            },
            "gain_mean_sd_p": {name: gain for name, gain in gains.items() if gain is not None},
            "seconds": {cell.name: [run.seconds for run in self.found.get(cell.folder, ())] for cell in rows},
            "claims": [{"text": verdict.text, "holds": verdict.holds} for verdict in self.verdicts()],
            "missing": dict(self.missing),
            "left_out": list(self.left_out),
        }


def p_text(p: float) -> str:
    """Word a p-value with two digits that say something.

    Examples
    --------
    >>> p_text(0.1273), p_text(0.00821), p_text(0.0000213), p_text(1.0)
    ('0.13', '0.0082', '<0.001', '1.0')
    """
    return "<0.001" if p < 0.001 else f"{p:.2g}" if p < 0.995 else "1.0"
