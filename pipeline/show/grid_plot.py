"""A picture of a reproduced table: our figures, seed by seed, beside the paper's."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...data.files.atomic import replacing

# That fit into a line of the picture's width.
_MOST_LETTERS = 140


def plot_grid(
    values: Mapping[str, Sequence[float]],
    paper: Mapping[str, float],
    path: Path,
    *,
    title: str,
    of: str,
    left_out: Collection[str] = (),
) -> Path:
    """Draw a row a cell: on the left a dot for each seed and a bar at the mean, on the right the paper's figure.

    Parameters
    ----------
    values
        Per cent by cell, top to bottom; NaN where there is none.
    paper
        The paper's figure of some cells.
    of
        A line on what the paper measured; empty: it has no such table, and the right side is left out.
    left_out
        Names of cells that were not run; all others without figures failed.
    """
    names = list(values)
    heights = {name: -number for number, name in enumerate(names)}
    figure = Figure(figsize=(9, 0.32 * len(names) + 1.4), layout="constrained")
    sides = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2), squeeze=False)[0] if of else [figure.subplots()]
    ours = sides[0]
    for name in names:
        known = [value for value in values[name] if np.isfinite(value)]
        ours.plot(known, [heights[name]] * len(known), linestyle="none", marker="o", markersize=4, color="0.55")
        if known:
            ours.plot(np.mean(known), heights[name], marker="|", markersize=14, markeredgewidth=3, color="C0")
        else:
            why = "left out" if name in left_out else "failed"
            ours.annotate(why, (0.02, heights[name]), xycoords=("axes fraction", "data"), va="center", fontsize=7)
    ours.set(title="here: seeds and their mean", xlabel="average mAP, %", yticks=list(heights.values()))
    ours.set_yticklabels(names, fontsize=7, parse_math=False)
    ours.set_ylim(-len(names) + 0.4, 0.6)
    for theirs in sides[1:]:
        shown = [name for name in names if name in paper]
        theirs.plot([paper[name] for name in shown], [heights[name] for name in shown], "D", color="C1", markersize=5)
        theirs.set(title="the paper", xlabel="average mAP, %")
        theirs.tick_params(left=False)
        figure.supxlabel(textwrap.fill(of, _MOST_LETTERS), fontsize=7)
    for axes in sides:
        axes.grid(alpha=0.3)
        axes.title.set_fontsize(9)
    figure.suptitle(title, fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png", dpi=130)
    return path
