"""A grid's outcome as rows, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...data.files.atomic import write_json, write_text
from .grid import AVERAGE, MEMORY, MINUTES, Cell
from .outcome import Outcome, p_text

NOTHING = "-"


def heads(outcome: Outcome, *, wide: bool = True) -> tuple[str, ...]:
    """Names of the columns; ours and the paper's stand side by side.

    Parameters
    ----------
    wide
        The mAP at each of the paper's thresholds, too.
    """
    seeds = tuple(f"seed {seed}" for seed in outcome.seeds)
    found = ["average mAP, %", *seeds, "mean +- sd", *(["paper"] if outcome.grid.of else []), "gain", "p", "seconds"]
    for column in _columns(outcome, wide=wide):
        name = f"tIoU {column}" if column not in (MEMORY, MINUTES) else column
        found += [name, f"paper, {column}"]
    return tuple(found)


def rows(outcome: Outcome, *, wide: bool = True) -> list[tuple[str, ...]]:
    """Cells of the table as text, a row a cell of the grid, those that were left out among them."""
    return [_row(outcome, cell, wide=wide) for cell in outcome.grid.rows]


def markdown(outcome: Outcome, *, made_by: str = "") -> str:
    """The table, which of the paper's claims hold, and what is missing.

    Parameters
    ----------
    made_by
        A line on the command, the machine and the time.
    """
    grid = outcome.grid
    lines = [f"### {grid.title}", "", *markdown_table(heads(outcome), rows(outcome)), ""]
    said = [beside_paper(outcome)] if grid.of else []
    said += gains_line(outcome)
    lines += [" ".join([*said, *grid.notes]), ""]
    if verdicts := outcome.verdicts():
        lines += [verdicts_line(outcome), ""]
        lines += [f"- {verdict.text}" for verdict in verdicts] + [""]
    if outcome.missing:
        lines += ["Without figures:", "", *(f"- {name}: {why}" for name, why in outcome.missing), ""]
    if made_by:
        lines += [made_by, ""]
    return "\n".join(lines)


def gains_line(outcome: Outcome) -> list[str]:
    """What the gains are over; empty where there are none."""
    grid = outcome.grid
    shown = [cell for cell in grid.rows if cell.against and outcome.mean(cell) is not None]
    if not shown:
        return []
    test = "in points; p: paired t-test over the seeds, two-sided"
    compared = [(above.folder, cell) for above, cell in pairwise(grid.rows) if cell in shown]
    if len(compared) > 1 and all(above == cell.against for above, cell in compared):
        return [f"Gain: over the row above, {test}."]
    by_name: dict[str, list[str]] = {}
    for cell in shown:
        by_name.setdefault(grid.cell(cell.against).name, []).append(cell.name)
    *fewer, most = sorted(by_name, key=lambda name: len(by_name[name]))
    quoted = {name: ", ".join(f"'{each}'" for each in by_name[name]) for name in fewer}
    parts = "".join(f"of {rows} over '{name}', " for name, rows in quoted.items())
    return [f"Gain: {parts}of all others over '{most}', {test}." if parts else f"Gain: over {most}, {test}."]


def verdicts_line(outcome: Outcome) -> str:
    """What stands above the verdicts: whose claims they are, and how they were tested."""
    source = "the paper's figures say" if outcome.grid.of else "it is there to show"
    tested = sum(verdict.p is not None for verdict in outcome.verdicts())
    how = f" ({tested} tests, each by itself at 5 %, which one in twenty passes by chance)" if tested > 1 else ""
    return f"What {source}, and whether it holds here{how}:"


def beside_paper(outcome: Outcome) -> str:
    """What the paper's figures are of, and over which thresholds both averages are."""
    grid, ours = outcome.grid, outcome.over
    if ours in ("", grid.over):
        return f"Paper: {grid.of}. Averages over tIoU {grid.over}."
    return f"Paper: {grid.of}. Averages over tIoU {ours}, the paper's over {grid.over}: they are not the same measure."


def markdown_table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a table.

    Examples
    --------
    >>> markdown_table(("a", "b"), [("1|2", "3")])
    ['| a | b |', '|---|---|', '| 1\\\\|2 | 3 |']
    """
    body = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (heads, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in body]
    return [lines[0], "|" + "---|" * len(heads), *lines[1:]]


def as_csv(outcome: Outcome) -> str:
    """The same rows, comma-separated, and of each cell that lacks figures the reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*heads(outcome), "why not"])
    failed: dict[str, list[str]] = {}
    for cell, seed, why in outcome.failed_runs:
        failed.setdefault(cell.name, []).append(f"seed {seed}: {why}")
    for cell, row in zip(outcome.grid.rows, rows(outcome), strict=True):
        writer.writerow([*row, cell.left_out or "; ".join(failed.get(cell.name, []))])
    return text.getvalue()


def write_outcome(outcome: Outcome, folder: Path, *, made_by: str = "") -> list[Path]:
    """Write NAME.md, NAME.csv and NAME.json."""
    place = folder / outcome.grid.name
    return [
        write_text(place.with_suffix(".md"), markdown(outcome, made_by=made_by)),
        write_text(place.with_suffix(".csv"), as_csv(outcome)),
        write_json(place.with_suffix(".json"), outcome.as_json(), indent=1),
    ]


def write_plain(place: Path, text: str, *, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[Path]:
    """Write a table without runs as PLACE.md and PLACE.csv."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([heads, *rows])
    return [write_text(place.with_suffix(".md"), text), write_text(place.with_suffix(".csv"), lines.getvalue())]


def _columns(outcome: Outcome, *, wide: bool) -> tuple[str, ...]:
    costs = [name for name in (MEMORY, MINUTES) if any(name in cell.paper for cell in outcome.grid.rows)]
    return (*(outcome.grid.paper_columns if wide else ()), *costs)


def _row(outcome: Outcome, cell: Cell, *, wide: bool) -> tuple[str, ...]:
    mean, deviation = outcome.mean(cell), outcome.deviation(cell)
    found = [cell.name, *(_shown(None if np.isnan(value) else value) for value in outcome.values(cell))]
    found.append(NOTHING if mean is None else f"{mean:.1f}" + ("" if deviation is None else f" +- {deviation:.1f}"))
    if outcome.grid.of:
        found.append(_shown(cell.paper.get(AVERAGE), 2))
    gain = outcome.gain(cell, outcome.grid.cell(cell.against)) if cell.against else None
    if gain is None:
        found += [NOTHING, NOTHING]
    else:
        spread = "" if gain.p is None else f" +- {gain.deviation:.1f}"
        found += [f"{gain.mean:+.1f}{spread}", NOTHING if gain.p is None else p_text(gain.p)]
    minutes = outcome.mean(cell, MINUTES)
    found.append(NOTHING if minutes is None else f"{60 * minutes:.0f}")
    for column in _columns(outcome, wide=wide):
        digits = 3 if column == MEMORY else 1
        found += [_shown(outcome.mean(cell, column), digits), _shown(cell.paper.get(column), 2)]
    return tuple(found)


def _shown(value: float | None, digits: int = 1) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"
