"""A picture of a reproduced table: our figures, seed by seed, beside the paper's."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .figures.style import BLUE, GREY, ORANGE, PAGE_WIDTH, SMALLEST, save, styled

# That fit into a line of the picture's width.
_MOST_LETTERS = 120
# Inches of a row, and of all that is above and below the rows.
_ROW, _REST = 0.24, 1.2


def plot_grid(
    values: Mapping[str, Sequence[float]],
    paper: Mapping[str, float],
    paths: Sequence[Path],
    *,
    title: str,
    of: str,
    left_out: Collection[str] = (),
) -> list[Path]:
    """Draw a row a cell: on the left a dot for each seed and a bar at the mean, on the right the paper's figure.

    Parameters
    ----------
    values
        Per cent by cell, top to bottom; NaN where there is none.
    paths
        Where the picture is written; each ending is a format.
    paper
        The paper's figure of some cells.
    of
        A line on what the paper measured; empty: it has no such table, and the right side is left out.
    left_out
        Names of cells that were not run; all others without figures failed.
    """
    with styled():
        figure = _drawn(values, paper, title=title, of=of, left_out=left_out)
        return [save(figure, path) for path in paths]


def _drawn(
    values: Mapping[str, Sequence[float]],
    paper: Mapping[str, float],
    *,
    title: str,
    of: str,
    left_out: Collection[str],
) -> Figure:
    names = list(values)
    heights = {name: -number for number, name in enumerate(names)}
    figure = Figure(figsize=(PAGE_WIDTH, _ROW * len(names) + _REST), layout="constrained")
    sides = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2), squeeze=False)[0] if of else [figure.subplots()]
    ours = sides[0]
    for name in names:
        known = [value for value in values[name] if np.isfinite(value)]
        ours.plot(known, [heights[name]] * len(known), linestyle="none", marker="o", markersize=3, color=GREY)
        if known:
            ours.plot(np.mean(known), heights[name], marker="|", markersize=10, markeredgewidth=2.5, color=BLUE)
        else:
            why = "left out" if name in left_out else "failed"
            ours.annotate(why, (0.02, heights[name]), xycoords=("axes fraction", "data"), va="center")
    ours.set(title="here: seeds and their mean", xlabel="average mAP, %", yticks=list(heights.values()))
    ours.set_yticklabels(names)
    ours.set_ylim(-len(names) + 0.4, 0.6)
    for theirs in sides[1:]:
        shown = [name for name in names if name in paper]
        theirs.plot([paper[name] for name in shown], [heights[name] for name in shown], "D", color=ORANGE, markersize=4)
        theirs.set(title="the paper", xlabel="average mAP, %")
        theirs.tick_params(left=False)
        figure.supxlabel(textwrap.fill(of, _MOST_LETTERS), fontsize=SMALLEST)
    for axes in sides:
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=9)
    return figure
