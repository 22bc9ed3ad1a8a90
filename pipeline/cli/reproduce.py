"""The commands that run the paper's tables, and a benchmark, again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
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
_DEMO = "demo"


@click.command(cls=LastCommand)
@click.argument("name", metavar="TABLE", type=click.Choice([*_TABLES, _DEMO, "all", _SBHAR]))
@click.option("--data", metavar="NAME|FILE", help="Config of the data set, as -c; demo, or table6, by default.")
@click.option("--videos", type=_FILE, help="Folder of videos; a synthetic set is drawn by default.")
@click.option("--features", type=_FILE, help="A cache of features, for cells that train on features alone.")
@click.option("--annotations", type=_FILE, help="Annotations of these videos.")
@click.option("--scores", type=_FILE, help="Video-level class scores; sets detect.labels.source=scores.")
@click.option("--weights", type=_FILE, help="Encoder weights to start from, for videos of your own.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    help="Seeds, from --seed on, or from one that nothing was chosen on; by default 3, of table6 and demo 5.",
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
    resolution, pretraining. demo: the rows of `etad demo`, over several seeds. all: these tables, and the demo where
    videos are drawn. Each cell is a run of its own; called again, the command goes on where it stopped.

    sbhar: a benchmark of accelerometer recordings, one subject left out in turn, beside published figures; it takes
    --features and --annotations (docs/datasets.md).

    \b
    Example:
      etad reproduce table6 -o runs/table6
    """
    from ...data.cache.cache import FeatureCache
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
        config = common.updated(preset if named is None else named, None, (), None, None, None).load(*sets)
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
        _check_page(page, {_SBHAR: folder})
        command = _command(_SBHAR, common, named, config, inputs, None)
        return _run_sbhar(config, features, folder, command=command, jobs=jobs, page=page)
    tables: tuple[str, ...] = (name,)
    if name == "all":
        # Features, or annotations, are of a data set of one's own, on which the demo has little to show.
        is_own = features is not None or config_of(DEFAULT_PRESET).data.annotations is not None
        tables = _TABLES if is_own else (*_TABLES, _DEMO)
    _check_page(page, {table: (folder / table if name == "all" else folder) for table in tables})
    if name == ARCHITECTURE:
        unused = {"videos": videos, "annotations": annotations, "scores": scores, "weights": weights}
        for option, value in (unused | {"seeds": seeds, "jobs": jobs}).items():
            if value is not None:
                raise click.UsageError(f"table2 is read off a model that nothing trains: leave --{option} out.")
    is_seed_said = common.seed is not None or any(is_of(each, "seed") for each in common.sets)
    configs, grids, refused = dict[str, Config](), dict[str, Grid](), dict[str, EtadError]()
    for table in tables:
        # Now, not when the tables before it are done.
        try:
            if table == ARCHITECTURE:
                config = config_of(DEFAULT_PRESET)
                configs[table] = override(config, f"detect.in_channels={_channels(config, features)}")
            else:
                config = config_of(TABLES[table].preset)
                if config.data.annotations is None and not is_seed_said:
                    config = override(config, f"seed={max(config.seed, TABLES[table].seed)}")
                configs[table], grids[table] = config, _grid(table, config, inputs)
        except EtadError as error:
            refused[table] = error
    if refused and not grids:
        raise next(iter(refused.values()))
    if features is not None:
        FeatureCache(features)  # complains of what is none
    for table in refused:
        click.echo(f"{table} is left out: {refused[table]}")
    statuses = [1] * len(refused)
    for table, config in configs.items():
        place = folder / table if name == "all" else folder
        if table == ARCHITECTURE:
            command = _command(table, common, named, config, Inputs(features=features), None)
            statuses.append(_print_architecture(config, place, command=command, page=page))
            continue
        row = TABLES[table]
        # Tables of one preset share what is drawn, pretrained and extracted.
        home = folder / "base" if name == "all" and (named or row.preset == DEFAULT_PRESET) else None
        num_seeds = seeds or row.seeds
        command = _command(table, common, named, config, inputs, num_seeds)
        try:
            statuses.append(
                _run_table(
                    grids[table], config, inputs, place, home, command=command, seeds=num_seeds, jobs=jobs, page=page
                )
            )
        except EtadError as error:
            if name != "all":
                raise
            click.echo(f"{table}: {error}")
            statuses.append(1)
    return max(statuses)


def _grid(table: str, config: Config, inputs: Inputs) -> Grid:
    """Cells of a table.

    Raises
    ------
    EtadError
        What it would be run on does not do, or leaves no row to run.
    """
    from ...data.errors import EtadError
    from ..experiments.catalogue import TABLES

    grid = TABLES[table].cells(config, inputs)
    if all(cell.left_out for cell in grid.compared):
        first = grid.compared[0]
        raise EtadError(f"{table}: no row of it can be run. {first.name}: {first.left_out}.")
    return grid


def _check_page(page: Path | None, folders: Mapping[str, Path]) -> None:
    """Complain of a page before hours of runs whose tables it could not take; these are written to folders, too."""
    from ...data.errors import EtadError
    from ..experiments.page import split_page

    if page is not None:
        for name, folder in folders.items():
            split_page(page, name)
            if page.resolve() == (folder / f"{name}.md").resolve():
                raise EtadError(f"{page}: is where the table alone is written. Name another page.")


def _command(table: str, common: Common, data: str | None, config: Config, inputs: Inputs, seeds: int | None) -> str:
    """Word the call that a table comes from; files that it took are `FILE`, for their names are private."""
    from ..config import PATH_KEYS

    words = ["etad", "reproduce", table, *(["--data", Path(data).name] if data else [])]
    words += [] if seeds is None else ["--seeds", str(seeds)]
    words += [] if common.seed is None else ["--seed", str(common.seed)]
    given = {"weights": inputs.weights, "features": inputs.features, "scores": inputs.scores}
    given |= {"videos": config.data.videos, "annotations": config.data.annotations}
    words += [word for name, path in given.items() if path is not None for word in (f"--{name}", "FILE")]
    for key, _, value in (each.partition("=") for each in common.sets):
        if key.strip() in PATH_KEYS:
            value = "FILE"
        elif "/" in value:
            value = "..."  # paths among others, as in encoder.also
        if key.strip() not in ("data.annotations", "data.videos"):
            words += ["--set", f"{key}={value}"]
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
    from ..experiments.written import beside_paper, gains_line, heads, markdown, rows, verdicts_line, write_outcome
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
    verdicts = [verdict.text for verdict in outcome.verdicts()]
    for line in (
        *([beside_paper(outcome)] if grid.of else []),
        *gains_line(outcome),
        *grid.notes,
        *([verdicts_line(outcome)] if verdicts else []),
        *verdicts,
    ):
        click.echo(line)
    for cell, why in outcome.missing:
        click.echo(f"without figures: {cell}: {why}")
    if all(outcome.mean(cell) is None for cell in grid.compared):
        click.echo("no run came to a figure: what was written before, on the page, too, stays as it is.")
        return 1
    for written in write_outcome(outcome, folder, made_by=made_by):
        click.echo(f"table -> {written}")
    values = {cell.name: outcome.values(cell).tolist() for cell in grid.rows}
    paper = {cell.name: cell.paper["average"] for cell in grid.rows if "average" in cell.paper}
    pictures = plot_grid(
        values,
        paper,
        [folder / f"{grid.name}.{kind}" for kind in ("png", "pdf")],
        title=grid.title,
        of=beside_paper(outcome) if grid.of else "",
        left_out=[cell.name for cell in grid.rows if cell.left_out],
    )
    for picture in pictures:
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


def _channels(config: Config, features: Path | None) -> int:
    """Channels of the features that a detector of the config takes.

    Raises
    ------
    EtadError
        Nothing tells them.
    """
    from ...data.cache.cache import FeatureCache
    from ...data.errors import EtadError
    from ...extract.encoders.encoder import ENCODERS, build_encoder

    if features is not None:
        return FeatureCache(features).channels
    name = config.encoder.name
    found = config.detect.in_channels or (build_encoder(name).channels if name in ENCODERS else None)
    if found is None:
        raise EtadError(f"encoder {name} says nothing of its channels: give --features, or --set detect.in_channels=N.")
    return found


def _print_architecture(config: Config, folder: Path, *, command: str, page: Path | None) -> int:
    from ..experiments.page import put_into_page
    from ..experiments.tables.table2 import HEADS, architecture
    from ..experiments.written import markdown_table, write_plain
    from ..show.report import table as aligned

    channels = config.detect.in_channels
    assert channels is not None
    found = architecture(config.detect, in_channels=channels)
    rows = [layer.cells() for layer in found.layers]
    title = f"Table 2: proposal evaluation with {config.detect.roi_bins} bins, read off the model"
    click.echo(title)
    click.echo(aligned(rows, heads=HEADS))
    for line in found.notes():
        click.echo(line)
    text = "\n".join([f"### {title}", "", *markdown_table(HEADS, rows), "", *found.notes(), "", f"`{command}`", ""])
    for written in write_plain(folder / "table2", text, heads=HEADS, rows=rows):
        click.echo(f"table -> {written}")
    if page is not None:
        click.echo(f"page -> {put_into_page(page, 'table2', text)}")
    return 0
