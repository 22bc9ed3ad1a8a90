"""Commands on results: evaluate and plot."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import Common, LastCommand, common_options

_FILE = click.Path(path_type=Path)


@click.command(cls=LastCommand)
@click.argument("results", type=_FILE)
@click.option("--annotations", type=_FILE, help="Ground truth in ActivityNet's JSON form.")
@click.option("--subset", help="Subset to evaluate on; the config's test subset by default.")
@click.option("--tiou", help="Thresholds: FIRST:STEP:LAST, or a list; the config's by default.")
@click.option("--blocked", type=_FILE, help="File of video ids to leave out, one a line.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, in fractions.")
@common_options
def evaluate(
    common: Common,
    results: Path,
    annotations: Path | None,
    subset: str | None,
    tiou: str | None,
    blocked: Path | None,
    as_json: bool,
) -> int:
    """Measure mAP and AR@AN of any results file in ActivityNet's form.

    \b
    Example:
      etad evaluate detections.json --annotations thumos14.json --subset test --tiou 0.3:0.1:0.7
    """
    from ...data.detections import read_detections
    from ..stages.evaluate import evaluate as measure
    from ..stages.evaluate import parse_tious
    from ..stages.inputs import read_data

    config = common.load()
    read = read_data(config, annotations, subsets=[subset] if subset else [], blocked=blocked)
    evaluation = measure(
        read,
        subset or config.data.test_subset,
        read_detections(results),
        tious=parse_tious(tiou) if tiou else config.detect.tious,
        source=str(results),
    )
    click.echo(json.dumps(evaluation.as_json()) if as_json else evaluation.text())
    return 0


@click.command(cls=LastCommand)
@click.argument("kind", type=click.Choice(["qualitative", "curves"]))
@click.option("--results", type=_FILE, help="Detections; the run's own by default.")
@click.option("--annotations", type=_FILE, help="Ground truth; the config's by default.")
@click.option("--video", "videos", multiple=True, help="Video to show; repeatable. The first few by default.")
@click.option("--stage", type=click.Choice(["detect", "e2e"]), help="Whose; by default detect's, if there is one.")
@common_options
def plot(
    common: Common,
    kind: str,
    results: Path | None,
    annotations: Path | None,
    videos: tuple[str, ...],
    stage: str | None,
) -> int:
    """Draw pictures of a run: detections beside the ground truth (Fig. 3), or training curves.

    \b
    Example:
      etad plot qualitative -o runs/demo --video target_0041
    """
    from ...data.detections import read_detections
    from ..run_folder import RunFolder
    from ..show.plots import plot_curves, plot_qualitative, qualitative_strips
    from ..stages.inputs import read_data

    run = RunFolder(common.run_folder())
    chosen = stage or ("e2e" if run.e2e.exists() and not run.detect.exists() else "detect")
    if kind == "curves":
        path = plot_curves(run.files(chosen).log, run.curves(chosen))
    else:
        config = common.load(default=str(run.config) if run.config.exists() else None)
        read = read_data(config, annotations)
        found = read_detections(results or run.files(chosen).detections)
        path = plot_qualitative(qualitative_strips(read, found, videos=videos), run.qualitative(chosen))
    click.echo(f"wrote {path}")
    return 0
