"""The stages that chain: check, pretrain, extract, detect; and the demo."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...data.errors import EtadError
from .options import Common, StageCommand, common_options, is_first_rank, later_stages, parse_shard, path_sets
from .result import print_result

if TYPE_CHECKING:
    from ..config import Config

_FILE = click.Path(path_type=Path)
# How many findings of one kind `check` tells one by one.
_MOST_TOLD = 3


@click.command(cls=StageCommand)
@click.option("--videos", type=_FILE, help="Folder of videos; their stems are the ids.")
@click.option("--annotations", type=_FILE, help="Annotations in ActivityNet's JSON form.")
@click.option("--weights", type=_FILE, help="Encoder weights that `extract` is going to take.")
@click.option("--scores", type=_FILE, help="Video-level class scores that `detect` is going to take.")
@click.option("--probe/--no-probe", default=True, help="Open every video file, or only look for it.")
@click.option("--all", "every", is_flag=True, help="Tell every single finding, not a few of each kind.")
@common_options
def check(
    common: Common,
    videos: Path | None,
    annotations: Path | None,
    weights: Path | None,
    scores: Path | None,
    probe: bool,
    every: bool,
) -> int:
    """Check annotations, videos, weights, cache and config against each other, before a run.

    In a chain it takes what the stages after it are given, and stops the chain where one of them would be refused.

    \b
    Example:
      etad check -c thumos14 --annotations thumos14.json --videos videos
    """
    from ...data.errors import counted
    from ..run_folder import RunFolder
    from ..show.report import grouped
    from ..stages.check import check as find

    later = list(later_stages(common))
    given: dict[str, Path | None] = {"videos": videos, "annotations": annotations, "weights": weights, "scores": scores}
    for _, of_stage, params in later:
        common = of_stage
        given = {name: path or params.get(name) for name, path in given.items()}
    sets = path_sets(annotations=given["annotations"], videos=given["videos"])
    config = common.load(*sets, *(["detect.labels.source=scores"] if given["scores"] else []))
    findings = find(
        config,
        RunFolder(common.out) if common.out else None,
        probe_videos=probe,
        weights=given["weights"],
        scores=given["scores"],
    )
    rank = ("refused", "problem", "note")
    rows = [(f.kind, f.where, f.what, f.advice) for f in sorted(findings, key=lambda f: rank.index(f.kind))]
    if rows:
        width = shutil.get_terminal_size().columns
        click.echo(grouped(rows, width=width, most=None if every else _MOST_TOLD))
    refused = sum(finding.kind == "refused" for finding in findings)
    problems = refused + sum(finding.kind == "problem" for finding in findings)
    click.echo(f"{counted(problems, 'problem')}, {counted(len(findings) - problems, 'note')}")
    if refused and later:
        names = " ".join(name for name, _, _ in later)
        raise EtadError(
            f"`{names}` not begun: {counted(refused, 'problem')} of those above would be refused on the way. Mend what "
            "is marked 'refused', or leave out `check` to go as far as it gets."
        )
    return 1 if problems else 0


def require_later(common: Common, config: Config, *, there: Collection[str] | None) -> None:
    """Refuse what a later stage of the chain would refuse, before this one takes hours.

    Parameters
    ----------
    config
        That of the stage which is about to begin.
    there
        Ids of the videos that have a file; None where the stage does not look.
    """
    from ..stages.inputs import read_quietly, require_data

    for name, of_stage, params in later_stages(common):
        for option in ("weights", "checkpoint", "scores", "init_detector", "annotations", "videos"):
            path = params.get(option)
            if path is not None and not path.exists():
                dashed = option.replace("_", "-")
                raise EtadError(f"{path}: there is no such file, and `{name}` would want it. Correct --{dashed}.")
        if name not in ("detect", "e2e") or params.get("checkpoint") is not None:
            continue
        scores = params.get("scores")
        paths = path_sets(annotations=params.get("annotations"))
        later = of_stage.load(*paths, *(["detect.labels.source=scores"] if scores else []))
        # Where no config is named, the run folder will know this stage's annotations.
        known = later.data.annotations or (config.data.annotations if of_stage.config is None else None)
        require_data(later, read_quietly(later, known), scores=scores, there=None if params.get("features") else there)


@click.command(cls=StageCommand)
@click.option("--weights", type=_FILE, help="Encoder weights to start from.")
@click.option("--videos", type=_FILE, help="Folder of videos; their stems are the ids.")
@click.option("--annotations", type=_FILE, help="Annotations in ActivityNet's JSON form.")
@common_options
def pretrain(common: Common, weights: Path | None, videos: Path | None, annotations: Path | None) -> int:
    """Fine-tune the encoder by classifying annotated actions (Table 7, TSM-FT); `extract` then takes it.

    \b
    Example:
      etad pretrain -c thumos14 -o runs/t14 --videos videos --annotations thumos14.json --weights tsp.pth
    """
    from ..device import choose_device
    from ..run_folder import RunFolder
    from ..stages.pretrain import pretrain as run_pretrain

    config = common.load(*path_sets(annotations=annotations, videos=videos))
    if config.pretrain.source == "synthetic" and (videos or annotations):
        raise EtadError(
            "--videos and --annotations do not apply here: pretrain.source=synthetic draws its clips. Leave them out, "
            "or set pretrain.source=videos."
        )
    require_later(common, config, there=None)
    result = run_pretrain(config, RunFolder(common.run_folder()), weights=weights, device=choose_device(config.device))
    return print_result(result, f"encoder -> {result.summary}")


@click.command(cls=StageCommand)
@click.option("--weights", type=_FILE, help="Encoder weights, published or from `pretrain`.")
@click.option("--videos", type=_FILE, help="Folder of videos; their stems are the ids.")
@click.option("--annotations", type=_FILE, help="Annotations, to take ids from.")
@click.option("--shard", metavar="I/N", help="Do the I-th of N parts of the work; `merge` joins them.")
@common_options
def extract(
    common: Common, weights: Path | None, videos: Path | None, annotations: Path | None, shard: str | None
) -> int:
    """Run a video encoder over videos into the run's feature cache; safe to repeat.

    \b
    Example:
      etad extract -c thumos14 -o runs/t14 --videos videos --weights tsp.pth
    """
    from ..device import choose_device
    from ..run_folder import RunFolder
    from ..stages.extract import describe_missing, find_sources
    from ..stages.extract import extract as run_extract
    from ..stages.inputs import read_data

    config = common.load(*path_sets(annotations=annotations, videos=videos))
    run = RunFolder(common.run_folder())
    read = read_data(config) if config.data.annotations else None
    sources = find_sources(config, read, None)
    require_later(common, config, there=sources.files)
    result = run_extract(
        config,
        run,
        sources=sources,
        weights=weights,
        shard=parse_shard(shard) if shard else None,
        device=choose_device(config.device),
    )
    return print_result(result, sources.passed_over, result.summary, describe_missing(sources))


@click.command(cls=StageCommand)
@click.option("--features", type=_FILE, help="Feature cache; the run's own by default.")
@click.option("--annotations", type=_FILE, help="Annotations in ActivityNet's JSON form.")
@click.option("--scores", type=_FILE, help="Video-level class scores; sets detect.labels.source=scores.")
@click.option("--checkpoint", type=_FILE, help="A trained detector.")
@click.option("--train/--no-train", default=True, help="Train first, or infer only (with --checkpoint).")
@common_options
def detect(
    common: Common,
    features: Path | None,
    annotations: Path | None,
    scores: Path | None,
    checkpoint: Path | None,
    train: bool,
) -> int:
    """Train the detector on the cached features, infer, evaluate; goes on where it stopped.

    \b
    Example:
      etad detect -c thumos14 -o runs/t14 --annotations thumos14.json --scores video_scores.npy
    """
    from ...data.cache.cache import FeatureCache
    from ..device import choose_device
    from ..run_folder import RunFolder
    from ..stages.detect import detect as run_detect
    from ..stages.inputs import read_data

    if train == (checkpoint is not None):
        raise click.UsageError("--checkpoint FILE and --no-train go together: training starts from scratch.")
    sets = [*path_sets(annotations=annotations), *(["detect.labels.source=scores"] if scores else [])]
    config = common.load(*sets)
    run = RunFolder(common.run_folder())
    read = read_data(config)
    cache = FeatureCache(features or run.cache)
    result = run_detect(
        config,
        run,
        cache=cache,
        annotations=read,
        scores=scores,
        checkpoint=checkpoint,
        device=choose_device(config.device),
    )
    status = print_result(result, result.summary)
    if not is_first_rank():
        return status
    if train:
        from ..show.plots import curves_of_done  # loads matplotlib, which would only delay the start

        curves = curves_of_done(run.files("detect").log, run.curves("detect"))
        click.echo(f"detections, metrics and checkpoints -> {run.detect}, curves -> {curves}")
    else:
        click.echo(f"detections and metrics -> {run.detect}")
    return status


@click.command()
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Parts at a time, one thread each; default: what cores and memory hold.",
)
@common_options
def demo(common: Common, jobs: int | None) -> int:
    """Go the whole way on a synthetic set in about 4 minutes on 2 cores: videos, features, detector, mAP, plots.

    \b
    Example:
      etad demo -o runs/demo
    """
    from ...data.progress import write_above_bars
    from ..device import choose_device
    from ..experiments.demo import MOST_AT_ONCE, PARTS, logs_of
    from ..experiments.demo import demo as run_demo
    from ..experiments.pool import jobs_that_fit
    from ..show.report import percent, table

    config = common.load(default="demo")
    folder = common.run_folder("runs/demo")
    together = min(jobs or jobs_that_fit(choose_device(config.device)), MOST_AT_ONCE)
    at_once = f", {together} at a time, whose bars go to {logs_of(folder)}" if together > 1 else ""
    click.echo(
        f"{PARTS} parts{at_once}; about 4 minutes on 2 cores; called again, it goes on where it stopped.", err=True
    )
    report = run_demo(config, folder, jobs=together, report=write_above_bars)
    tious = config.detect.tious
    shown = [tiou for tiou in (0.3, 0.5, 0.75, 0.95) if tiou in tious] or list(tious)
    rows = [
        (name, *(percent(e.mAP[e.tious.index(tiou)], 1) for tiou in shown), percent(e.average_mAP, 1))
        for name, e in report.evaluations.items()
    ]
    click.echo(table(rows, heads=("mAP, %", *(f"tIoU {tiou:g}" for tiou in shown), "average")))
    click.echo("mAP: how many of the actions are found, with the right class, before false alarms; 100 is all.")
    click.echo("A detection finds an action if the two overlap by at least tIoU, their intersection over their union.")
    click.echo("")
    click.echo(table([(name, f"{seconds:.1f}") for name, seconds in report.seconds.items()], heads=("part", "seconds")))
    click.echo("")
    for picture in report.pictures:
        click.echo(f"picture -> {picture}")
    click.echo(f"videos, features, checkpoints, detections and metrics -> {report.folder}")
    click.echo("")
    place = shlex.quote(str(folder))
    click.echo(f"next: etad plot page -o {place}, to look at the detections beside the videos; or your own videos:")
    click.echo("etad init -o runs/mine --videos FOLDER --labels FILE")
    return 0
