"""Table 6 of the paper, asked again: what end-to-end training gains over a frozen encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import ttest_rel

# Average mAP, per cent, on THUMOS-14 (Table 6).
PAPER = {
    "TSM": {0.0: 33.26, 0.1: 38.28, 0.3: 38.67, 1.0: 38.79},
    "SlowOnly": {0.0: 34.32, 0.1: 42.23, 0.3: 42.63, 1.0: 43.03},
}


@dataclass(frozen=True)
class Arm:
    """One way to train: which share of the snippets' gradients reaches the encoder, and how these are chosen."""

    ratio: float
    strategy: str = "grid"

    @property
    def name(self) -> str:
        if self.ratio == 0:
            return "frozen encoder, gamma 0 %"
        return f"end to end, gamma {100 * self.ratio:g} %" + (f", {self.strategy}" if self.ratio < 1 else "")


FROZEN = Arm(0.0)
ARMS = (FROZEN, Arm(0.1), Arm(0.3), Arm(0.3, "random"), Arm(1.0))


@dataclass(frozen=True)
class Table6:
    """Average mAP, as fractions, seed by seed.

    Parameters
    ----------
    seeds
        What data, encoder and detector were drawn from.
    before
        (seeds,) of the detector that every run starts from.
    found
        (seeds,) of each arm.
    seconds
        Mean time of a run, beside other runs on the same machine.
    left_out
        Videos that some run went without.
    """

    seeds: tuple[int, ...]
    before: np.ndarray
    found: dict[Arm, np.ndarray]
    seconds: dict[Arm, float]
    left_out: tuple[str, ...] = ()

    def gain(self, arm: Arm) -> tuple[float, float, float | None]:
        """Mean and spread of the gain over the frozen encoder, and the p-value of a paired t-test over the seeds."""
        differences = self.found[arm] - self.found[FROZEN]
        if len(differences) < 2:
            return float(differences.mean()), 0.0, None
        p = float(ttest_rel(self.found[arm], self.found[FROZEN]).pvalue) if differences.any() else 1.0
        return float(differences.mean()), float(differences.std(ddof=1)), p

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of the printed table, in per cent."""
        rows = [("detector to start from", *_cells(self.before), "-", "-", "-", "-", "-")]
        for arm, values in self.found.items():
            mean, spread, p = self.gain(arm)
            gain = "-" if arm == FROZEN else f"{100 * mean:+.1f} +- {100 * spread:.1f}"
            significance = "-" if arm == FROZEN or p is None else f"{p:.2f}"
            paper = tuple(f"{PAPER[encoder][arm.ratio]:.1f}" for encoder in PAPER)
            rows.append((arm.name, *_cells(values), gain, significance, f"{self.seconds[arm]:.0f}", *paper))
        return rows

    @property
    def heads(self) -> tuple[str, ...]:
        seeds = tuple(f"seed {seed}" for seed in self.seeds)
        return ("average mAP, %", *seeds, "mean +- sd", "gain", "p", "seconds", *(f"paper, {name}" for name in PAPER))

    def as_json(self) -> dict[str, object]:
        return {
            "seeds": list(self.seeds),
            "before": self.before.tolist(),
            "average_mAP": {arm.name: values.tolist() for arm, values in self.found.items()},
            "gain_mean_sd_p": {arm.name: self.gain(arm) for arm in self.found if arm != FROZEN},
            "seconds": {arm.name: seconds for arm, seconds in self.seconds.items()},
            "left_out": list(self.left_out),
        }


def _cells(values: np.ndarray) -> tuple[str, ...]:
    spread = f" +- {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return (*(f"{100 * value:.1f}" for value in values), f"{100 * values.mean():.1f}{spread}")
