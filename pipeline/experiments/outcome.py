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
        Of a paired t-test over the seeds, two-sided; none with a single seed, or without any spread.
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
    p
        Of a paired t-test, two-sided; none where nothing could be tested.
    """

    claim: Claim
    holds: bool | None
    text: str
    p: float | None


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

    def values(self, cell: Cell, column: str = AVERAGE) -> np.ndarray:
        """(seeds,) one figure in the paper's unit; NaN where a run lacks it, failed, or the cell was left out."""
        runs = self.found.get(cell.folder, ())
        if column == AVERAGE:
            values = [None if each.average_mAP is None else 100 * each.average_mAP for each in runs]
        elif column == MEMORY:
            values = [None if each.memory_bytes is None else each.memory_bytes / 1e9 for each in runs]
        elif column == MINUTES:
            values = [None if each.seconds is None or each.failed else each.seconds / 60 for each in runs]
        else:
            values = [100 * each.mAP[column] if column in each.mAP else None for each in runs]
        return np.array([np.nan if value is None else value for value in values] or [np.nan] * len(self.seeds))

    def mean(self, cell: Cell, column: str = AVERAGE) -> float | None:
        """Mean of one figure over the seeds; none where no run has it."""
        values = self.values(cell, column)
        return float(np.nanmean(values)) if np.isfinite(values).any() else None

    def deviation(self, cell: Cell) -> float | None:
        """Standard deviation of the average mAP over the seeds; none with fewer than two."""
        known = self.values(cell)[np.isfinite(self.values(cell))]
        return float(known.std(ddof=1)) if len(known) > 1 else None

    def gain(self, left: Cell, right: Cell) -> Gain | None:
        """The left cell over the right one; none where no seed has both."""
        return _compared(self.values(left) - self.values(right), 0.0)

    def verdicts(self) -> list[Verdict]:
        """Each claim of the paper, and whether it holds here."""
        return [self._verdict(claim) for claim in self.grid.claims]

    def _verdict(self, claim: Claim) -> Verdict:
        left, right = self.grid.cell(claim.left), self.grid.cell(claim.right)
        column = claim.column
        paper = ""
        if column in left.paper and column in right.paper:
            stated = claim.differences(np.array(left.paper[column]), np.array(right.paper[column])).item()
            paper = f" ({stated:+.0f} % in the paper)" if claim.is_of_cost else f" ({stated:+.2f} in the paper)"
        margin = claim.within or 0.0
        gain = _compared(claim.differences(self.values(left, column), self.values(right, column)), -margin)
        if gain is None:
            missing = [cell.name for cell in (left, right) if self.mean(cell, column) is None]
            why = f"without {missing[0]}" if missing else "no seed has both"
            return Verdict(claim, None, f"{claim.text}{paper}: not known, {why}", None)
        if column == MEMORY:  # of a step, which seeds change by a few bytes: there is nothing to test
            gain = Gain(gain.mean, 0.0, None)
        holds = claim.holds(gain.mean)
        figures = _difference(claim, gain)
        if gain.p is not None:
            figures += f", p {p_text(gain.p)}" + (f" against {-margin:g}" if margin else "")
        word = "holds" if holds else "does not hold"
        if column == MEMORY:
            pass  # measured, not drawn
        elif len(self.seeds) == 1:
            word += " on this one set, which may be chance"
        elif gain.p is None or gain.p >= 0.05:
            word += " in the mean, but may be chance" if holds else " in the mean, which may be chance"
        return Verdict(claim, holds, f"{claim.text}{paper}: {word}, {figures}", gain.p)

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


def _compared(differences: np.ndarray, margin: float) -> Gain | None:
    """Test differences of each seed; p is that of their mean if it were `margin` in truth."""
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        return None
    mean = float(differences.mean())
    if len(differences) < 2 or np.ptp(differences) < 1e-9:  # without a spread there is nothing to test against
        return Gain(mean, 0.0, None)
    return Gain(mean, float(differences.std(ddof=1)), float(ttest_1samp(differences, margin).pvalue))


def _difference(claim: Claim, gain: Gain) -> str:
    """Word a difference in its unit, with its spread where it is known."""
    digits, unit = (0, "%") if claim.is_of_cost else (1, "points")
    spread = "" if gain.p is None else f" +- {gain.deviation:.{digits}f}"
    where = "" if claim.is_of_cost or claim.column == AVERAGE else f" at tIoU {claim.column}"
    return f"{gain.mean:+.{digits}f}{spread} {unit}{where}"


def p_text(p: float) -> str:
    """Word a p-value with two digits that say something.

    Examples
    --------
    >>> p_text(0.1273), p_text(0.00821), p_text(0.0000213), p_text(1.0)
    ('0.13', '0.0082', '<0.001', '1.0')
    """
    return "<0.001" if p < 0.001 else f"{p:.2g}" if p < 0.995 else "1.0"
