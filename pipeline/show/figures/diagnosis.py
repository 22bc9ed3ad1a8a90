"""A page of what the mAP is lost by: profile of the detections, costs of errors, sensitivity to the actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ....detect.results.characteristics import SIZES
from ....detect.results.diagnosis import PROFILE, Diagnosis, Estimate, Sensitivity
from ....detect.results.errors import KINDS
from ..diagnosis import NAMES
from .style import BLUE, GREEN, GREY, ORANGE, PAGE_WIDTH, PURPLE, SKY, VERMILION, save, styled

_COLOURS = {
    "hit": GREEN,
    "double": SKY,
    "wrong_label": ORANGE,
    "localisation": BLUE,
    "confusion": VERMILION,
    "background": GREY,
    "missed": PURPLE,
}
_MARKERS = {"double": "o", "wrong_label": "s", "localisation": "^", "confusion": "v", "background": "D", "missed": "X"}
# More do not fit under a bar.
_MOST_LETTERS = 7


def plot_diagnosis(found: Diagnosis, paths: Sequence[Path], *, title: str) -> list[Path]:
    """Draw an error analysis on one page, in each of the files."""
    with styled():
        rows = 3 if any(one.groups for one in found.sensitivities) else 1
        figure = Figure(figsize=(PAGE_WIDTH, 0.4 + 2.2 * rows), layout="constrained")
        figure.suptitle(title, fontsize=9)
        parts = figure.subfigures(min(rows, 2), 1, height_ratios=[1, 1.5][: min(rows, 2)], squeeze=False)[:, 0]
        draw = [_draw_profile, _draw_costs, *([_draw_costs_by_tiou] if len(found.tious) > 1 else [])]
        for draw_one, axes in zip(draw, parts[0].subplots(1, len(draw))):
            draw_one(axes, found)
        if rows > 1:
            shown = [one for one in found.sensitivities if one.groups]
            grid = parts[1].subplots(2, len(shown), squeeze=False, sharey="row", sharex="col", height_ratios=[1.4, 1])
            for number, one in enumerate(shown):
                _draw_sensitivity(grid[0, number], grid[1, number], one, found.average_normalised_mAP, number == 0)
            grid[0, 0].set_ylim(0, max(grid[0, 0].get_ylim()[1], 1))  # of all, once they are drawn
        return [save(figure, path) for path in paths]


def _draw_profile(axes: Axes, found: Diagnosis) -> None:
    """Stacked shares of the kinds, of ever more of the best detections, at the first threshold."""
    below = np.zeros(len(PROFILE))
    for number, kind in enumerate(KINDS):
        share = 100 * found.profile[0, :, number]
        label = "hit" if kind == "hit" else NAMES[kind]
        axes.bar(PROFILE, share, bottom=below, width=0.85, color=_COLOURS[kind], label=label)
        below += share
    axes.set(title=f"Best detections at tIoU {found.tious[0]:g}", ylim=(0, 100), xticks=(1, 5, 10))
    axes.set(xlabel="detections, times the actions of the class", ylabel="share, %")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.27), ncols=2, columnspacing=0.8, handletextpad=0.4)


def _draw_costs(axes: Axes, found: Diagnosis) -> None:
    """What each kind costs, mean over the thresholds."""
    place = np.arange(len(found.errors))
    for shift, name, alpha in ((0.2, "average_corrected", 1.0), (-0.2, "average_removed", 0.45)):
        measured = [getattr(error, name) for error in found.errors.values()]
        axes.barh(
            place + shift,
            [100 * each.value for each in measured],
            height=0.38,
            color=[_COLOURS[kind] for kind in found.errors],
            alpha=alpha,
        )
        _draw_intervals(axes.hlines, place + shift, measured)
    axes.set_yticks(place, [NAMES[kind].replace(" and ", "\nand ") for kind in found.errors])
    axes.invert_yaxis()
    many = len(found.tious) > 1
    gained = f"points of {'average ' if many else ''}mAP gained"
    axes.set(title="Cost of each kind", xlabel=f"{gained}\n(light: removed, full: corrected)")


def _draw_costs_by_tiou(axes: Axes, found: Diagnosis) -> None:
    """What correcting each kind gains at each threshold."""
    for kind, error in found.errors.items():
        gains = [100 * value for value in error.corrected]
        axes.plot(found.tious, gains, color=_COLOURS[kind], marker=_MARKERS[kind], markersize=3, label=NAMES[kind])
    axes.set(title="Corrected, by threshold", xlabel="tIoU", ylabel="points of mAP gained")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.27), ncols=2, columnspacing=0.8, handletextpad=0.4)


def _draw_sensitivity(upper: Axes, lower: Axes, one: Sensitivity, whole: Estimate, is_first: bool) -> None:
    """mAP_N of each group above, the share of its actions that is missed below."""
    place = np.arange(len(one.groups))
    measured = [group.average_precision for group in one.groups]
    values = [100 * each.value for each in measured]
    upper.bar(place, values, width=0.7, color=BLUE)
    _draw_intervals(upper.vlines, place, measured)
    upper.axhline(100 * whole.value, color="black", linestyle="--", linewidth=0.8)
    upper.set_title(f"By {one.name}")
    lower.bar(place, [100 * group.missed for group in one.groups], width=0.7, color=PURPLE)
    holds = [group.holds for group in one.groups]
    if max(map(len, holds)) > _MOST_LETTERS:
        holds = [which.replace("-", "-\n").replace(" ", "\n") for which in holds]
    names = [f"{group.name}\n{which}\nn={group.num_actions}" for group, which in zip(one.groups, holds)]
    lower.set_xticks(place, names)
    lower.set_xlim(-0.6, max(len(one.groups), len(SIZES)) - 0.4)
    lower.set_xlabel(f"{one.name}, {one.unit}")
    lower.set_ylim(0, 100)
    if is_first:
        upper.set_ylabel("mAP_N, % (dashed: all)")
        lower.set_ylabel("missed, %")


def _draw_intervals(lines: Callable[..., object], place: np.ndarray, measured: Sequence[Estimate]) -> None:
    """Draw each interval where it lies, in per cent: one of draws need not hold the value itself."""
    for at, each in zip(place, measured):
        if each.low is not None and each.high is not None:
            lines(at, 100 * each.low, 100 * each.high, color="black", linewidth=0.8)
