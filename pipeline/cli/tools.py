"""Commands on results and on videos: evaluate, plot, transcode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from .options import Common, LastCommand, common_options, parse_tious

_FILE = click.Path(path_type=Path)
_FORMATS = click.option(
    "--format",
    "formats",
    type=click.Choice(["png", "pdf", "svg"]),
    multiple=True,
    help="Of the pictures; repeatable.",
)


@click.command(cls=LastCommand)
@click.argument("results", type=_FILE)
@click.option("--annotations", type=_FILE, help="Ground truth in ActivityNet's JSON form.")
@click.option("--subset", help="Subset to evaluate on; the config's test subset by default.")
@click.option("--tiou", help="Thresholds: FIRST:STEP:LAST, or a list; the config's by default.")
@click.option("--blocked", type=_FILE, help="File of video ids to leave out, one a line.")
@click.option(
    "--duplicates",
    type=click.Choice(["kept", "dropped"]),
    help="Actions annotated twice: kept, as official evaluations do, or dropped, as ActionFormer and OpenTAD do.",
)
@click.option("--diagnose", is_flag=True, help="Also say what the mAP is lost by: tables, numbers and a page of plots.")
@click.option(
    "--pictures", type=_FILE, metavar="FOLDER", help="Where --diagnose writes; by default beside the results."
)
@_FORMATS
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, in fractions.")
@common_options
def evaluate(
    common: Common,
    results: Path,
    annotations: Path | None,
    subset: str | None,
    tiou: str | None,
    blocked: Path | None,
    duplicates: Literal["kept", "dropped"] | None,
    diagnose: bool,
    pictures: Path | None,
    formats: tuple[str, ...],
    as_json: bool,
) -> int:
    """Measure mAP and AR@AN of any results file in ActivityNet's form.

    --diagnose splits false positives by what is wrong with them, and says what each kind and the missed actions cost,
    and on which actions: by length, by share of the video, by how many there are (after DETAD, ECCV 2018).

    \b
    Example:
      etad evaluate detections.json --annotations thumos14.json --subset test --tiou 0.3:0.1:0.7
      etad evaluate detections.json --annotations thumos14.json --subset test --diagnose
    """
    from ...data.detections import read_detections
    from ..stages.evaluate import evaluate as measure
    from ..stages.inputs import read_data

    if not diagnose and (pictures or formats):
        raise click.UsageError("--pictures and --format say where and how --diagnose writes: add that.")
    config = common.load()
    read = read_data(config, annotations, subsets=[subset] if subset else [], blocked=blocked)
    detections = read_detections(results)
    tious = parse_tious(tiou) if tiou else config.detect.tious
    asked, rule = subset or config.data.test_subset, duplicates or config.data.duplicates
    evaluation = measure(read, asked, detections, tious=tious, source=str(results), duplicates=rule)
    told, lines = evaluation.as_json(), [evaluation.text()]
    if diagnose:
        from ...data.files.atomic import write_json
        from ..show.diagnosis import diagnosis_text
        from ..show.figures.diagnosis import plot_diagnosis
        from ..stages.evaluate import diagnose as find_causes

        found = find_causes(read, asked, detections, tious=tious, source=str(results), duplicates=rule)
        stem = (pictures or results.parent) / f"{results.stem}_diagnosis"
        numbers = write_json(stem.with_name(f"{stem.name}.json"), found.as_json(), indent=1)
        paths = [stem.with_name(f"{stem.name}.{kind}") for kind in dict.fromkeys(formats or ("png", "pdf"))]
        plot_diagnosis(found, paths, title=f"{results.name}, {asked}: mAP {100 * found.average_mAP.value:.1f} %")
        told |= {"diagnosis": found.as_json(), "files": [str(path) for path in (numbers, *paths)]}
        lines += ["", diagnosis_text(found), f"wrote {', '.join(str(path) for path in (numbers, *paths))}"]
    click.echo(json.dumps(told, allow_nan=False) if as_json else "\n".join(lines))
    return 0


@click.command(cls=LastCommand)
@click.argument("kind", type=click.Choice(["qualitative", "curves", "page"]))
@click.option("--results", type=_FILE, help="Detections; the run's own by default.")
@click.option("--annotations", type=_FILE, help="Ground truth; the config's by default.")
@click.option(
    "--video", "videos", multiple=True, help="Video to show; repeatable. By default the first few, in `page` all."
)
@click.option(
    "--colour",
    type=click.Choice(["class", "tiou"]),
    help="In `qualitative`: by class, or tiou as in Fig. 3.",
)
@click.option("--stage", type=click.Choice(["detect", "e2e"]), help="Whose; by default detect's, if there is one.")
@common_options
def plot(
    common: Common,
    kind: str,
    results: Path | None,
    annotations: Path | None,
    videos: tuple[str, ...],
    colour: Literal["class", "tiou"] | None,
    stage: str | None,
) -> int:
    """Draw pictures of a run: detections beside the ground truth (Fig. 3), training curves, or a page to review them.

    `page` writes plots/review.html for a browser: it plays the videos beside a timeline, where detections are
    accepted and corrected, and saves them as annotations.

    \b
    Example:
      etad plot qualitative -o runs/demo --video target_0041
      etad plot page -o runs/demo
    """
    from ...data.detections import read_detections
    from ...data.digest import values_digest
    from ..run_folder import RunFolder
    from ..show.page.run_page import UNLABELLED, write_run_page
    from ..show.plots import plot_curves, plot_qualitative, qualitative_strips
    from ..stages.inputs import read_data
    from ..stages.operating import read_thresholds

    run = RunFolder(common.run_folder())
    chosen = stage or ("e2e" if run.e2e.exists() and not run.detect.exists() else "detect")
    if kind == "curves":
        named = {"--results": results, "--annotations": annotations, "--video": videos, "--colour": colour}
        if wrong := [option for option, value in named.items() if value]:
            raise click.UsageError(
                f"{' and '.join(wrong)} do not apply to `plot curves`, which reads the run's own log."
            )
        path = plot_curves(run.files(chosen).log, run.curves(chosen))
    else:
        config = common.load()
        read = read_data(config, annotations)
        found = read_detections(results or run.files(chosen).detections)
        if kind == "page":
            if colour is not None:
                raise click.UsageError("--colour does not apply to `plot page`, where each class has a lane.")
            # Thresholds were chosen for the run's own detections; others may be scored otherwise.
            known = None if results else read_thresholds(run.files(chosen).thresholds)
            names = {*read.labels, *found.labels, UNLABELLED}
            page = run.review_page(chosen)
            path = write_run_page(
                page.with_stem(f"{page.stem}_{results.stem}") if results else page,
                read,
                found,
                folder=config.data.videos,
                cache=run.cache,
                title=f"{run.path.resolve().name}: {'end-to-end ' if chosen == 'e2e' else ''}detections",
                videos=videos,
                thresholds={name: known.of(name) for name in names} if known else None,
                notes=[known.text()] if known else [],
            )
            click.echo(f"wrote {path}")
            return 0
        picture = run.qualitative(chosen)
        if results is not None and results.resolve() != run.files(chosen).detections.resolve():
            # Detections from elsewhere get a picture of their own, beside the run's.
            mark = values_digest({"results": str(results.resolve())})[:6]
            picture = picture.with_name(f"{picture.stem}_{results.stem}_{mark}.png")
        path = plot_qualitative(qualitative_strips(read, found, videos=videos), picture, colour=colour or "class")
    click.echo(f"wrote {path}")
    return 0


@click.command(cls=LastCommand)
@click.argument("videos", type=_FILE)
@click.option("-o", "--out", type=_FILE, required=True, metavar="FOLDER", help="Folder of the copies.")
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), help="The video's own if fewer.")
@click.option("--short-side", type=click.IntRange(min=16), default=256, show_default=True, help="Never enlarged.")
@click.option("--gop", type=click.IntRange(min=1), default=12, show_default=True, help="Frames between key frames.")
@click.option("--crf", type=click.IntRange(0, 51), default=18, show_default=True, help="H.264 quality, 0 is lossless.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Videos copied at once.")
def transcode(videos: Path, out: Path, fps: float | None, short_side: int, gop: int, crf: int, workers: int) -> int:
    """Make working copies of videos: small frames, near key frames, the same times; quick to read again and again.

    A copy has no sound, and is looked through before it counts. Repeating the command makes what is missing.

    \b
    Example:
      etad transcode videos -o copies --fps 15 --short-side 160
    """
    from ...data.video.copies import CopySettings
    from ..stages.transcode import transcode as copy_all
    from .result import print_result

    settings = CopySettings(fps=fps, short_side=short_side, gop=gop, crf=crf)
    result = copy_all(videos, out, settings, workers=workers)
    return print_result(result, result.summary)
