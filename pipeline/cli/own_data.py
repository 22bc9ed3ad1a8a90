"""Commands for one's own data: from files and labels to a config, from there to a detector."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace as with_changes
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...data.errors import EtadError
from .options import Common, LastCommand, Number, common_options, is_first_rank, told_columns
from .result import print_result

if TYPE_CHECKING:
    from ..config import Config
    from ..run_folder import RunFolder

_FILE = click.Path(path_type=Path)
# Characters of a setting's value that a table repeats.
_MOST_SHOWN = 28


@click.command()
@click.option("--videos", type=_FILE, required=True, help="Folder of videos.")
@click.option("--labels", type=_FILE, required=True, help="Spreadsheet, CSV, or an annotation tool's export.")
@click.option("--layout", metavar="NAME", help="What wrote the labels, where that is not found out.")
@click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", help="A column of the table; repeatable.")
@click.option("--fps", type=Number(min=0, min_open=True), help="Frames a second, for times in frames.")
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
        columns=told_columns(columns),
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
    click.echo(f"next: etad train -o {shlex.quote(str(run.path))}")
    return 0 if found.is_sound else 1


@click.command()
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs in all; a trained run that is given more goes on.")
@click.option("--weights", type=_FILE, help="Encoder weights, where no package has them.")
@click.option("--scores", type=_FILE, help="Video-level class scores; sets detect.labels.source=scores.")
@click.option("--plan", "only_plan", is_flag=True, help="Tell steps, time and disk, and stop there.")
@common_options
def train(common: Common, epochs: int | None, weights: Path | None, scores: Path | None, only_plan: bool) -> int:
    """Extract features and train a detector with the run folder's settings; goes on where it stopped.

    \b
    Example:
      etad train -o runs/mine
    """
    from ..device import choose_device
    from ..run_folder import RunFolder
    from ..stages.extract import describe_missing
    from ..stages.train import make_plan
    from ..stages.train import train as run_train

    run = RunFolder(common.run_folder())
    sets = [f"detect.training.epochs={epochs}"] if epochs else []
    config = common.load(*sets, *(["detect.labels.source=scores"] if scores else []))
    if config.data.annotations is None:
        raise EtadError(
            f"{run.path}: this run knows no videos and labels. `etad init -o {run.path} --videos DIR --labels FILE` "
            "comes first; or name a config with -c that has data.annotations and data.videos."
        )
    device = choose_device(config.device)
    prepared = make_plan(config, run, weights=weights, device=device)
    for line in prepared.lines():
        click.echo(line)
    if only_plan:
        return 0
    extracted, detected = run_train(config, run, prepared, weights=weights, scores=scores, device=device)
    status = print_result(
        extracted, prepared.sources.passed_over, extracted.summary, describe_missing(prepared.sources)
    )
    click.echo("")
    status = max(status, print_result(detected, detected.summary))
    if not is_first_rank():
        return status
    for picture in _pictures(config, run):
        click.echo(f"picture -> {picture}")
    click.echo(f"detections, metrics and checkpoints -> {run.detect}")
    place = shlex.quote(str(run.path))
    click.echo(f"next: etad predict VIDEO -o {place} --html; more training: etad train -o {place} --epochs N")
    return status


@click.command(cls=LastCommand)
@click.argument("name", required=False, metavar="[NAME|FILE|KEY]")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the whole reference, as docs/config.md.")
@common_options
def config(common: Common, name: str | None, as_markdown: bool) -> int:
    """Explain a setting or a group of them, or show what a preset, a file or a run folder (-o) comes to.

    \b
    Example:
      etad config detect.training
    """
    from ..config import preset_names
    from ..show.report import table
    from ..show.settings_reference import markdown, rows_of, setting_rows

    if as_markdown:
        if name is not None:
            raise EtadError("--markdown prints all settings; leave out the name.")
        click.echo(markdown(), nl=False)
        return 0
    if name is not None and (name in preset_names() or name.lower().endswith(".toml") or Path(name).is_file()):
        click.echo(with_changes(common, config=name).load().to_toml(), nl=False)
        return 0
    if name is None and (common.config is not None or common.out is not None):
        click.echo(common.load().to_toml(), nl=False)
        return 0
    if name is not None and name.lower() in preset_names():
        raise EtadError(f"there is no preset, no file and no setting '{name}'. Did you mean '{name.lower()}'?")
    rows = setting_rows() if name is None else rows_of(name)
    if len(rows) == 1:
        (row,) = rows
        click.echo(
            f"{row.key} ({row.type}; by default {row.default})\n{row.meaning}\nWhen changed: {row.when_changed}."
        )
        return 0
    width = shutil.get_terminal_size((110, 24)).columns
    cells = [(row.key, row.default if len(row.default) <= _MOST_SHOWN else "...", row.meaning) for row in rows]
    click.echo(table(cells, heads=("setting", "default", "meaning"), width=width))
    return 0


def _pictures(config: Config, run: RunFolder) -> list[Path]:
    from ...data.annotations import Annotations
    from ...data.detections import read_detections
    from ..show.plots import plot_curves, plot_qualitative, qualitative_strips
    from ..stages.inputs import read_quietly

    read = read_quietly(config)
    tested = Annotations(read.source, {video.id: video for video in read.subset(config.data.test_subset)})
    curves = plot_curves(run.files("detect").log, run.curves("detect"))
    if not any(video.actions for video in tested.videos.values()):
        return [curves]
    strips = qualitative_strips(tested, read_detections(run.files("detect").detections))
    return [curves, plot_qualitative(strips, run.qualitative("detect"))]


def _shown(value: object) -> str:
    """A value for a table: names of encoders alone, and of a path its end."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = ", ".join(str(each.get("name")) for each in value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _MOST_SHOWN else f"...{text[3 - _MOST_SHOWN :]}"
