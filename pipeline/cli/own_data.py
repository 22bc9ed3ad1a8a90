"""Commands for one's own data: from files and labels to a config, from there to a detector."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from ...data.errors import EtadError
from .options import Common, common_options

_FILE = click.Path(path_type=Path)
# Characters of a setting's value that a table repeats.
_MOST_SHOWN = 28


@click.command()
@click.option("--videos", type=_FILE, required=True, help="Folder of videos.")
@click.option("--labels", type=_FILE, required=True, help="Spreadsheet, CSV, or an annotation tool's export.")
@click.option("--layout", metavar="NAME", help="What wrote the labels, where that is not found out.")
@click.option("--column", "columns", multiple=True, metavar="NAME=COLUMN", help="A column of the table; repeatable.")
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), help="Frames a second, for times in frames.")
@click.option("--replace", is_flag=True, help="Write settings and annotations again; keep those of before beside them.")
@common_options
def init(
    common: Common,
    videos: Path,
    labels: Path,
    layout: str | None,
    columns: tuple[str, ...],
    fps: float | None,
    replace: bool,
) -> int:
    """Look at videos and labels of your own, and write a run's annotations and commented settings.

    \b
    Example:
      etad init -o runs/mine --videos clips --labels labels.csv
    """
    from ..init.initialise import initialise, worth
    from ..init.labels import CLASS_HEADS
    from ..run_folder import RunFolder
    from ..show.report import table

    if common.config is not None:
        raise EtadError("-c does not apply to `init`, which chooses the settings; change single ones with --set.")
    run = RunFolder(common.run_folder())
    found = initialise(
        run,
        videos=videos,
        labels=labels,
        seed=common.seed or 0,
        layout=layout,
        columns=_columns(columns),
        fps=fps,
        sets=common.own_sets(),
        replace=replace,
    )
    for note in found.survey.notes:
        click.echo(note)
    click.echo(table(found.classes, heads=CLASS_HEADS))
    width = shutil.get_terminal_size((110, 24)).columns
    rows = [("problem" if doubt.is_problem else "note", f"{doubt.what}: {doubt.advice}") for doubt in found.doubts]
    if rows:
        click.echo("")
        click.echo(table(sorted(rows, reverse=True), heads=("kind", "what was found: what to do"), width=width))
    click.echo("")
    chosen = [(setting.key, _shown(setting.value), setting.why) for setting in found.settings]
    click.echo(table(chosen, heads=("setting", "value", "why"), width=width))
    click.echo("")
    if note := worth(found.survey):
        click.echo(note)
    click.echo(f"annotations -> {run.annotations}, settings, with the reasons -> {run.settings}")
    click.echo(f"next: etad train -o {run.path}")
    return 0 if found.is_sound else 1


def _shown(value: object) -> str:
    """A value for a table: of a path its end."""
    text = str(value)
    return text if len(text) <= _MOST_SHOWN else f"...{text[3 - _MOST_SHOWN :]}"


def _columns(pairs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not name.strip() or not column.strip():
            raise EtadError(f"--column {pair}: expected NAME=COLUMN, such as video=Clip.")
        found[name.strip()] = column.strip()
    return found
