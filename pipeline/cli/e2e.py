"""The stage that trains end to end, and what it will cost."""

from __future__ import annotations

from pathlib import Path

import click

from .options import Common, StageCommand, common_options, is_first_rank, path_sets
from .result import print_result

_FILE = click.Path(path_type=Path)


@click.command(cls=StageCommand)
@click.option("--videos", type=_FILE, help="Folder of videos; their stems are the ids.")
@click.option("--annotations", type=_FILE, help="Annotations in ActivityNet's JSON form.")
@click.option("--init-detector", type=_FILE, help="Detector to start from; the run's own by default.")
@click.option("--weights", type=_FILE, help="Encoder weights, published or from `pretrain`.")
@click.option("--memory-budget", type=float, metavar="GIB", help="Memory that a step may take.")
@click.option("--scores", type=_FILE, help="Video-level class scores; sets detect.labels.source=scores.")
@click.option("--features", type=_FILE, help="Cache to keep the tuned encoder's features in, for `detect`.")
@click.option("--plan", "only_plan", is_flag=True, help="Tell steps, time, memory and disk, and stop there.")
@common_options
def e2e(
    common: Common,
    videos: Path | None,
    annotations: Path | None,
    init_detector: Path | None,
    weights: Path | None,
    memory_budget: float | None,
    scores: Path | None,
    features: Path | None,
    only_plan: bool,
) -> int:
    """Train encoder and detector together from raw video, infer, evaluate; goes on where it stopped.

    \b
    Example:
      etad e2e -c thumos14-e2e-tsm -o runs/t14 --videos videos --annotations thumos14.json --weights tsm.pth
    """
    from ..device import choose_device
    from ..e2e.stage import run_e2e
    from ..run_folder import RunFolder
    from ..stages.extract import describe_missing, find_sources
    from ..stages.inputs import read_data

    sets = path_sets(annotations=annotations, videos=videos)
    sets += ["detect.labels.source=scores"] if scores else []
    sets += [f"e2e.memory_budget_gib={memory_budget}"] if memory_budget is not None else []
    config = common.load(*sets)
    run = RunFolder(common.run_folder())
    read = read_data(config)
    sources = find_sources(config, read, None)
    device = choose_device(config.device)
    if only_plan:
        from ..e2e.cost import plan_e2e

        planned = plan_e2e(
            config,
            run,
            sources=sources,
            annotations=read,
            init_detector=init_detector,
            weights=weights,
            scores=scores,
            device=device,
        )
        for line in filter(None, (describe_missing(sources), *planned.lines())):
            click.echo(line)
        return 0
    result = run_e2e(
        config,
        run,
        sources=sources,
        annotations=read,
        init_detector=init_detector,
        weights=weights,
        scores=scores,
        features=features,
        device=device,
        report=lambda text: click.echo(text, err=True),
    )
    status = print_result(result, sources.passed_over, describe_missing(sources), result.summary)
    curves = str(run.curves("e2e"))
    if is_first_rank():
        from ..show.plots import curves_of_done  # loads matplotlib, which would only delay the start

        curves = curves_of_done(run.files("e2e").log, run.curves("e2e"))
    click.echo(f"encoder, checkpoints, detections and metrics -> {run.e2e}, curves -> {curves}")
    return status


@click.command()
@click.option("--memory-budget", type=float, metavar="GIB", help="Memory that an end-to-end step may take.")
@common_options
def profile(common: Common, memory_budget: float | None) -> int:
    """Measure what a config costs on this machine: parameters, FLOPs, time and memory by phase; needs no data.

    \b
    Example:
      etad profile -c thumos14-e2e-tsm --memory-budget 4
    """
    from ..device import choose_device
    from ..e2e.memory import GIB
    from ..e2e.profile import profile as measure
    from ..show.report import table

    config = common.load(*([f"e2e.memory_budget_gib={memory_budget}"] if memory_budget is not None else []))
    found = measure(config, choose_device(config.device))
    rows = [
        (
            part.name,
            f"{part.parameters / 1e6:.2f}",
            f"{part.trained / 1e6:.2f}",
            f"{part.flops / 1e9:.2f}",
            part.flops_of,
        )
        for part in found.parts
    ]
    click.echo(table(rows, heads=("part", "million parameters", "trained", "GFLOP", "for a")))
    click.echo("")
    phases = [
        (phase.name, f"{phase.seconds:.3f}", f"{phase.peak_bytes / GIB:.3f}", phase.times) for phase in found.phases
    ]
    click.echo(table(phases, heads=("phase", "seconds", "GiB", "times a step")))
    if found.plan is not None:
        click.echo(f"\n{found.plan.text()}, about {found.step_seconds:.2f} s without decoding")
    return 0
