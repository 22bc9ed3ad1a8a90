"""The commands that run the paper's tables, and a benchmark, again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import Common, LastCommand, common_options, path_sets

if TYPE_CHECKING:
    from ..config import Config
    from ..experiments.grid import Grid
    from ..experiments.runs import Inputs

_FILE = click.Path(path_type=Path)
_TABLES = tuple(f"table{number}" for number in range(1, 8))
_SBHAR = "sbhar"
_SEEDS = 3


@click.command(cls=LastCommand)
@click.argument("name", metavar="TABLE", type=click.Choice([*_TABLES, "demo", "all", _SBHAR]))
@click.option("--data", metavar="NAME|FILE", help="Config of the data set, as -c; demo, or table6, by default.")
@click.option("--videos", type=_FILE, help="Folder of videos; a synthetic set is drawn by default.")
@click.option("--features", type=_FILE, help="A cache of features, for cells that train on features alone.")
@click.option("--annotations", type=_FILE, help="Annotations of these videos.")
@click.option("--scores", type=_FILE, help="Video-level class scores; sets detect.labels.source=scores.")
@click.option("--weights", type=_FILE, help="Encoder weights to start from, for videos of your own.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    help=f"Seeds, from --seed on, or from one that nothing was chosen on; {_SEEDS} by default.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Runs at a time, one thread each; by default what cores and memory hold."
)
@click.option("--page", type=_FILE, help="Markdown page to put the tables into; all else on it is kept.")
@common_options
def reproduce(
    common: Common,
    name: str,
    data: str | None,
    videos: Path | None,
    features: Path | None,
    annotations: Path | None,
    scores: Path | None,
    weights: Path | None,
    seeds: int | None,
    jobs: int | None,
    page: Path | None,
) -> int:
    """Run one of the paper's tables, all of them, or the demo over seeds, and print it beside the paper's figures.

    table1: feature enhancement and stages. table2: the architecture, read off a live model. table3: share of the
    proposals in training, frozen and end to end. table4: the same at inference. table5: sampling strategies and other
    detectors. table6: share of the snippets whose gradients reach the encoder. table7: augmentation, frozen stages,
    resolution, pretraining. demo: the rows of `etad demo`, over several seeds. Each cell is a run of its own; called
    again, the command goes on where it stopped.

    sbhar: a benchmark of accelerometer recordings, one subject left out in turn, beside published figures; it takes
    --features and --annotations (docs/datasets.md).

    \b
    Example:
      etad reproduce table6 -o runs/table6
    """
    from ...data.errors import EtadError
    from ..config import Config, override
    from ..experiments.catalogue import ARCHITECTURE, DEFAULT_PRESET, TABLES
    from ..experiments.grid import Grid
    from ..experiments.runs import Inputs

    if data is not None and common.config is not None:
        raise click.UsageError("--data and -c name the same thing: give one of them.")
    folder = common.run_folder(f"runs/{name}")
    inputs = Inputs(weights=weights, features=features, scores=scores)
    sets = [*path_sets(annotations=annotations, videos=videos), *(["detect.labels.source=scores"] if scores else [])]
    named = common.config if data is None else data

    def is_of(setting: str, key: str) -> bool:
        return setting.partition("=")[0].strip() == key

    def config_of(preset: str) -> Config:
        config = common.updated(named or preset, None, (), None, None, None).load(*sets)
        if config.data.videos is not None and config.data.annotations is None:
            raise EtadError(
                f"{config.data.videos}: nothing says which actions these videos show. Name their --annotations, or "
                "leave --videos out: then a synthetic set is drawn."
            )
        return config

    if name == _SBHAR:
        if features is None or annotations is None or videos or weights or scores:
            raise click.UsageError("sbhar takes --features CACHE and --annotations FILE, and no other data.")
        if seeds is not None:
            raise click.UsageError("sbhar trains once a subject: leave --seeds out. --seed N takes another seed.")
        if any(is_of(each, "detect.tious") for each in common.sets):
            raise click.UsageError("sbhar is measured at the thresholds of what is published: leave detect.tious out.")
        config = config_of(_SBHAR)
        _check_page(page, [_SBHAR])
        command = _command(_SBHAR, common, named, config, inputs, None)
        return _run_sbhar(config, features, folder, command=command, jobs=jobs, page=page)
    statuses, seeds = [], seeds or _SEEDS
    tables = _TABLES if name == "all" else (name,)
    _check_page(page, tables)
    is_seed_said = common.seed is not None or any(is_of(each, "seed") for each in common.sets)
    configs, grids, refused = dict[str, Config](), dict[str, Grid](), dict[str, EtadError]()
    for table in tables:
        preset = TABLES[table].preset if table in TABLES else DEFAULT_PRESET
        config = config_of(preset)
        first = TABLES[table].seed if table in TABLES and named in (None, preset) else None
        if first is not None and config.data.annotations is None and not is_seed_said:
            config = override(config, f"seed={first}")
        configs[table] = config
        if table in TABLES:
            # Now, not when the tables before it are done.
            try:
                grids[table] = TABLES[table].cells(config, inputs)
            except EtadError as error:
                refused[table] = error
    if refused and all(table in refused for table in tables if table in TABLES):
        raise next(iter(refused.values()))
    for table in refused:
        click.echo(f"{table} is left out: {refused[table]}")
        statuses.append(1)
    for table, config in configs.items():
        if table in refused:
            continue
        place = folder / table if name == "all" else folder
        if table == ARCHITECTURE:
            statuses.append(_print_architecture(config, place, page))
            continue
        preset = TABLES[table].preset
        # Tables of one preset share what is drawn, pretrained and extracted.
        home = folder / "base" if name == "all" and (named or preset == DEFAULT_PRESET) else None
        command = _command(table, common, named, config, inputs, seeds)
        statuses.append(
            _run_table(grids[table], config, inputs, place, home, command=command, seeds=seeds, jobs=jobs, page=page)
        )
    return max(statuses)


def _check_page(page: Path | None, names: Sequence[str]) -> None:
    """Complain of a page before hours of runs whose tables it could not take."""
    from ..experiments.page import split_page

    if page is not None:
        for name in names:
            split_page(page, name)


def _command(table: str, common: Common, data: str | None, config: Config, inputs: Inputs, seeds: int | None) -> str:
    """Word the call that a table comes from; files that it took are `FILE`, for their names are private."""
    words = ["etad", "reproduce", table, *(["--data", Path(data).name] if data else [])]
    words += [] if seeds is None else ["--seeds", str(seeds)]
    words += [] if common.seed is None else ["--seed", str(common.seed)]
    given = {"weights": inputs.weights, "features": inputs.features, "scores": inputs.scores}
    given |= {"videos": config.data.videos, "annotations": config.data.annotations}
    words += [word for name, path in given.items() if path is not None for word in (f"--{name}", "FILE")]
    for key, _, value in (each.partition("=") for each in common.sets):
        words += ["--set", f"{key}={Path(value).name}"]  # of a path its name
    return shlex.join(words)


def _run_table(
    grid: Grid,
    config: Config,
    inputs: Inputs,
    folder: Path,
    home: Path | None,
    *,
    command: str,
    seeds: int,
    jobs: int | None,
    page: Path | None,
) -> int:
    from ...data.errors import counted, listing
    from ..device import choose_device
    from ..experiments.page import describe_call, put_into_page
    from ..experiments.pool import jobs_that_fit
    from ..experiments.reproduce import reproduce_grid
    from ..experiments.written import beside_paper, heads, markdown, rows, write_outcome
    from ..show.grid_plot import plot_grid
    from ..show.report import table as aligned

    device = choose_device(config.device)
    at_once = jobs or jobs_that_fit(device)
    place = folder if home is None or grid.sets else home
    logs = [str(place / f"{cell.folder}.log") for cell in grid.cells if cell.of_all_seeds]
    logs += [f"{each}/seed*/*.log" for each in dict.fromkeys([place, folder])]
    click.echo(f"what each run is at: {', '.join(logs)}", err=True)
    outcome = reproduce_grid(
        grid,
        config,
        folder,
        seeds=range(config.seed, config.seed + seeds),
        inputs=inputs,
        jobs=at_once,
        home=place,
    )
    made_by = describe_call(command, seconds=outcome.seconds, jobs=at_once, device=device)
    click.echo(grid.title)
    click.echo(aligned(rows(outcome, wide=False), heads=heads(outcome, wide=False)))
    paper_line = [beside_paper(outcome)] if grid.of else []
    for line in (*paper_line, *grid.notes, *(verdict.text for verdict in outcome.verdicts())):
        click.echo(line)
    for cell, why in outcome.missing:
        click.echo(f"without figures: {cell}: {why}")
    for written in write_outcome(outcome, folder, made_by=made_by):
        click.echo(f"table -> {written}")
    values = {cell.name: outcome.values(cell).tolist() for cell in grid.rows}
    paper = {cell.name: cell.paper["average"] for cell in grid.rows if "average" in cell.paper}
    picture = plot_grid(
        values,
        paper,
        folder / f"{grid.name}.png",
        title=grid.title,
        of=beside_paper(outcome) if grid.of else "",
        left_out=[cell.name for cell in grid.rows if cell.left_out],
    )
    click.echo(f"picture -> {picture}")
    if page is not None:
        click.echo(f"page -> {put_into_page(page, grid.name, markdown(outcome, made_by=made_by))}")
    if outcome.left_out:
        left_out = outcome.left_out
        click.echo(f"{counted(len(left_out), 'video')} left out, missing or unreadable: {listing(left_out)}")
    return 1 if outcome.left_out or outcome.failures else 0


def _run_sbhar(
    config: Config, features: Path, folder: Path, *, command: str, jobs: int | None, page: Path | None
) -> int:
    from ...data.errors import counted, listing
    from ..device import choose_device
    from ..experiments.page import describe_call, put_into_page
    from ..experiments.pool import jobs_that_fit
    from ..experiments.sbhar import reproduce_sbhar
    from ..show.report import table as aligned

    device = choose_device(config.device)
    at_once = jobs or jobs_that_fit(device)
    click.echo(f"what each fold is at: {folder}/user*.log", err=True)
    found = reproduce_sbhar(config, folder, features=features, jobs=at_once)
    made_by = describe_call(command, seconds=None, jobs=at_once, device=device)
    click.echo(aligned(found.rows(), heads=found.heads()))
    click.echo(found.text())
    for written in found.write(folder, made_by=made_by):
        click.echo(f"table -> {written}")
    if page is not None:
        click.echo(f"page -> {put_into_page(page, _SBHAR, found.markdown(made_by=made_by))}")
    if found.left_out:
        click.echo(f"{counted(len(found.left_out), 'recording')} left out: {listing(found.left_out)}")
    return 1 if found.left_out else 0


def _print_architecture(config: Config, folder: Path, page: Path | None) -> int:
    from ...data.files.atomic import write_text
    from ...extract.encoders.encoder import ENCODERS, build_encoder
    from ..experiments.page import put_into_page
    from ..experiments.tables.table2 import HEADS, architecture
    from ..experiments.written import markdown_table
    from ..show.report import table as aligned

    settings, name = config.detect, config.encoder.name
    channels = settings.in_channels or (build_encoder(name).channels if name in ENCODERS else None)
    if channels is None:
        raise click.UsageError(f"encoder {name} says nothing of its channels: give --set detect.in_channels=N.")
    found = architecture(settings, in_channels=channels)
    rows = [layer.cells() for layer in found.layers]
    title = f"Table 2: proposal evaluation with {settings.roi_bins} bins, read off the model"
    click.echo(title)
    click.echo(aligned(rows, heads=HEADS))
    for line in found.notes():
        click.echo(line)
    text = "\n".join([f"### {title}", "", *markdown_table(HEADS, rows), "", *found.notes(), ""])
    click.echo(f"table -> {write_text(folder / 'table2.md', text)}")
    if page is not None:
        click.echo(f"page -> {put_into_page(page, 'table2', text)}")
    return 0
