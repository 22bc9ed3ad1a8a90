"""The command that runs one of the paper's tables."""

from __future__ import annotations

from pathlib import Path

import click

from .options import Common, LastCommand, common_options, path_sets

_FILE = click.Path(path_type=Path)


@click.command(cls=LastCommand)
@click.argument("name", metavar="TABLE", type=click.Choice(["table6"]))
@click.option("--videos", type=_FILE, help="Folder of videos; a synthetic set is drawn by default.")
@click.option("--annotations", type=_FILE, help="Annotations of these videos.")
@click.option("--weights", type=_FILE, help="Encoder weights to start from, for videos of your own.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Seeds, from --seed on.")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time, one thread each; one a core by default.")
@common_options
def reproduce(
    common: Common,
    name: str,
    videos: Path | None,
    annotations: Path | None,
    weights: Path | None,
    seeds: int,
    jobs: int | None,
) -> int:
    """Run one of the paper's tables and print it beside the paper's figures.

    table6: a frozen encoder against end-to-end training with the gradients of 10, 30 and 100 % of the snippets,
    evenly spaced, and of 30 % at random.

    \b
    Example:
      etad reproduce table6 -o runs/table6
    """
    import os

    from ...data.errors import EtadError, counted, listing
    from ..device import choose_device
    from ..experiments.reproduce import reproduce_table6
    from ..show.plots import plot_seeds
    from ..show.report import table

    config = common.load(*path_sets(annotations=annotations, videos=videos), default="table6")
    if config.data.videos is not None and config.data.annotations is None:
        raise EtadError(
            f"{config.data.videos}: nothing says which actions these videos show. Name their --annotations, or leave "
            "--videos out: then a synthetic set is drawn."
        )
    folder = common.run_folder(f"runs/{name}")
    click.echo(f"what each run is at: {folder}/seed*/*.log", err=True)
    on_gpu = choose_device(config.device).type != "cpu"
    found = reproduce_table6(
        config,
        folder,
        seeds=range(config.seed, config.seed + seeds),
        weights=weights,
        jobs=jobs or (1 if on_gpu else os.cpu_count() or 1),
    )
    click.echo(table(found.rows(), heads=found.heads))
    click.echo("gain: over the frozen encoder, which is trained as long; p: paired t-test over the seeds")
    named = {arm.name.split(", ", 1)[1].replace(", ", "\n"): values.tolist() for arm, values in found.found.items()}
    picture = plot_seeds(named, folder / "table6.png", title="Gradients of so many snippets reach the encoder")
    click.echo(f"picture -> {picture}")
    click.echo(f"all runs, and table6.json -> {folder}")
    if found.left_out:
        click.echo(
            f"{counted(len(found.left_out), 'video')} left out, missing or unreadable: {listing(found.left_out)}"
        )
    return 1 if found.left_out else 0
