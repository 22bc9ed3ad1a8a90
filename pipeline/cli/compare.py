"""The command that puts runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from .options import Common, LastCommand, common_options, parse_tious

_FILE = click.Path(path_type=Path)


@click.command(cls=LastCommand)
@click.argument("runs", type=_FILE, nargs=-1, required=True)
@click.option("--stage", type=click.Choice(["detect", "e2e"]), help="Whose detections; by default all that there are.")
@click.option("--annotations", type=_FILE, help="Ground truth for all; by default each run's own.")
@click.option("--subset", help="Subset to evaluate on; by default each run's own test subset.")
@click.option("--tiou", help="Thresholds: FIRST:STEP:LAST, or a list; by default each run's own.")
@click.option(
    "--duplicates",
    type=click.Choice(["kept", "dropped"]),
    help="Actions annotated twice; by default as each run's config says.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, in fractions.")
@common_options
def compare(
    common: Common,
    runs: tuple[Path, ...],
    stage: str | None,
    annotations: Path | None,
    subset: str | None,
    tiou: str | None,
    duplicates: Literal["kept", "dropped"] | None,
    as_json: bool,
) -> int:
    """Print runs, or results files, side by side, with intervals over videos, and how far they differ from the first.

    Runs that were not tested on the same videos are refused.

    \b
    Example:
      etad compare runs/demo runs/other
    """
    from ..experiments.compare import compare_runs
    from ..show.report import table

    found = compare_runs(
        runs,
        common.load(),
        annotations=annotations,
        subset=subset,
        stage=stage,
        tious=parse_tious(tiou) if tiou is not None else None,
        duplicates=duplicates,
        sets=common.sets,
    )
    if as_json:
        click.echo(json.dumps(found.as_json(), allow_nan=False))
        return 0
    click.echo(table(found.rows(), heads=found.heads()))
    click.echo("\n".join((*found.faults(), found.text())))
    return 0
