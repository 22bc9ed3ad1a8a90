"""How commands print what a stage did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import num_processes

if TYPE_CHECKING:
    from ..stages.result import StageResult


def print_result(result: StageResult, *closing: str) -> int:
    """Print notes, failures and closing lines (empty ones are left out); returns the exit status."""
    from ..show.report import class_table, table

    for note in result.notes:
        click.echo(note)
    if result.failed:
        rows = [(failure.video_id, failure.path.name, failure.reason) for failure in result.failed]
        click.echo(table(rows, heads=("video", "file", "why not")))
    if result.flawed:
        rows = [(flaw.video_id, flaw.path.name, flaw.reason) for flaw in result.flawed]
        click.echo(table(rows, heads=("video", "file", "used, but")))
    for line in filter(None, closing):
        click.echo(line)
    if result.evaluation is not None:
        metrics = result.path / "metrics.json"
        click.echo(class_table(result.evaluation.per_class, every=f"see per_class in {metrics}"), nl=False)
    if num_processes() > 1:
        click.echo(f"{num_processes()} processes took part")
    return 1 if result.left_out or result.flawed else 0
