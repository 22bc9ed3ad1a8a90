"""Commands on results and on videos: evaluate, plot, transcode."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ...data.errors import EtadError
from .options import Common, LastCommand, Number, common_options, parse_tious

if TYPE_CHECKING:
    from ...data.annotations import Annotations
    from ...data.detections import Detections
    from ..config import Config
    from ..run_folder import RunFolder

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
    from ...data.progress import progress_bar
    from ..show.report import class_table
    from ..stages.evaluate import evaluate as measure
    from ..stages.inputs import read_data

    if not diagnose and (pictures or formats):
        raise click.UsageError("--pictures and --format say where and how --diagnose writes: add that.")
    config = common.load()
    read = read_data(config, annotations, subsets=[subset] if subset else [], blocked=blocked)
    with progress_bar("read results", unit="file", total=1, delay=1) as bar:
        detections = read_detections(results)
        bar.update()
    tious = parse_tious(tiou) if tiou is not None else config.detect.tious
    asked, rule = subset or config.data.test_subset, duplicates or config.data.duplicates
    evaluation = measure(read, asked, detections, tious=tious, source=str(results), duplicates=rule)
    told, lines = evaluation.as_json(), [evaluation.text(), class_table(evaluation.per_class, every="add --json")]
    if diagnose:
        from ...data.files.atomic import write_json
        from ..show.diagnosis import diagnosis_text
        from ..show.figures.diagnosis import plot_diagnosis
        from ..stages.evaluate import diagnose as find_causes

        if not as_json:  # also where nothing can be written
            click.echo("\n".join(filter(None, lines)))
            lines = []
        found = find_causes(read, asked, detections, tious=tious, source=str(results), duplicates=rule)
        named = f"{results.stem}_{_mark_of(results)}" if pictures else results.stem
        stem = (pictures or results.parent) / f"{named}_diagnosis"
        numbers = write_json(stem.with_name(f"{stem.name}.json"), found.as_json(), indent=1)
        paths = [stem.with_name(f"{stem.name}.{kind}") for kind in dict.fromkeys(formats or ("png", "pdf"))]
        plot_diagnosis(found, paths, title=f"{results.name}, {asked}: mAP {100 * found.average_mAP.value:.1f} %")
        told |= {"diagnosis": found.as_json(), "files": [str(path) for path in (numbers, *paths)]}
        lines += ["", diagnosis_text(found), f"wrote {', '.join(str(path) for path in (numbers, *paths))}"]
    click.echo(json.dumps(told, allow_nan=False) if as_json else "\n".join(filter(None, lines)))
    return 0


# Share of the snippets that is sampled where a run's own is all of them, or none.
_USUAL_RATIO = 0.3
# Kinds of pictures, and the options that apply to them beside the common ones.
_KINDS = {
    "qualitative": {"RUN", "--results", "--annotations", "--video", "--colour", "--stage", "--to", "--format"},
    "curves": {"--stage", "--to", "--format"},
    "page": {"--results", "--annotations", "--video", "--stage"},
    "sampling": {"--annotations", "--video", "--features", "--ratio", "--to", "--format"},
    "architecture": {"--stage", "--to", "--format"},
}


@click.command(cls=LastCommand)
@click.argument("kind", type=click.Choice(list(_KINDS)))
@click.argument("runs", nargs=-1, type=_FILE, metavar="[RUN|RESULTS]...")
@click.option("--results", type=_FILE, help="Detections; the run's own by default.")
@click.option("--annotations", type=_FILE, help="Ground truth; the config's by default.")
@click.option(
    "--video", "videos", multiple=True, help="Video to show; repeatable. By default the first few, in `page` all."
)
@click.option(
    "--colour",
    type=click.Choice(["class", "tiou"]),
    help="In `qualitative`: by class, or tiou as in Fig. 3, which several runs always are.",
)
@click.option("--stage", type=click.Choice(["detect", "e2e"]), help="Whose; by default detect's, if there is one.")
@click.option("--features", type=_FILE, help="In `sampling`: feature cache; the run's own by default.")
@click.option(
    "--ratio",
    type=Number(0, 1, min_open=True),
    help="In `sampling`: share of the snippets; e2e.ratio by default, or 0.3 where that is all or nothing.",
)
@click.option(
    "--to", type=_FILE, metavar="FILE", help="Picture to write: .png, .pdf or .svg; by default below the run."
)
@_FORMATS
@common_options
def plot(
    common: Common,
    kind: str,
    runs: tuple[Path, ...],
    results: Path | None,
    annotations: Path | None,
    videos: tuple[str, ...],
    colour: Literal["class", "tiou"] | None,
    stage: str | None,
    features: Path | None,
    ratio: float | None,
    to: Path | None,
    formats: tuple[str, ...],
) -> int:
    """Draw pictures of a run: training curves, detections, a page to review them, and the paper's figures.

    `qualitative` draws detections beside the ground truth; of several runs, or results files, their best proposals
    under each other (Fig. 3). `page` writes plots/review.html for a browser: it plays the videos beside a timeline,
    where detections are accepted and corrected, and saves them as annotations. `sampling` maps the snippets of a video
    by t-SNE and marks what FPS and DPP pick (Fig. 2). `architecture` draws feature enhancement from the live model
    (Fig. 1).

    \b
    Example:
      etad plot qualitative -o runs/demo --video target_0121
      etad plot qualitative runs/demo runs/other --format pdf
      etad plot page -o runs/demo
      etad plot sampling -o runs/demo --ratio 0.3
      etad plot architecture -c thumos14 --set detect.in_channels=2048 --to enhancement.svg
    """
    from ...data.detections import read_detections
    from ..run_folder import RunFolder
    from ..show.plots import plot_curves, plot_qualitative, qualitative_strips
    from ..stages.inputs import read_data

    if common.out is not None and len(runs) == 1 and runs[0].is_dir() and "RUN" in _KINDS[kind]:
        raise click.UsageError(
            f"-o {common.out} names one run, and {runs[0]} another: to compare them, name both without -o; to draw one "
            "of them, leave the other one out."
        )
    if runs and results is not None and "RUN" in _KINDS[kind] and (len(runs) > 1 or runs[0].is_file()):
        raise click.UsageError("--results is drawn alone: to compare its file with others, name it beside them.")
    if common.out is None and runs and not runs[0].is_file():
        # The one run is the run; of several, the first one's config says what is annotated.
        common, runs = replace(common, out=runs[0]), runs if len(runs) > 1 else ()
    videos = tuple(dict.fromkeys(videos))
    named: dict[str, object] = {
        "RUN": runs,
        "--results": results,
        "--annotations": annotations,
        "--video": videos,
        "--colour": colour,
    }
    named |= {"--stage": stage, "--features": features, "--ratio": ratio, "--to": to, "--format": formats}
    if runs and "RUN" not in _KINDS[kind]:
        other = "; --results FILE shows detections from elsewhere" if "--results" in _KINDS[kind] else ""
        raise click.UsageError(f"`plot {kind}` draws one run: name its folder, and no other one or file{other}.")
    if wrong := [option for option, value in named.items() if value and option not in _KINDS[kind]]:
        raise click.UsageError(
            f"{' and '.join(wrong)} {'does' if len(wrong) == 1 else 'do'} not apply to `plot {kind}`."
        )
    if to is not None and formats:
        raise click.UsageError("--to names one file, whose ending is its format: leave --format out.")
    run = RunFolder(common.run_folder("." if to is not None else None))
    if kind != "architecture" and results is None and not run.path.is_dir():
        raise EtadError(f"{run.path}: there is no run folder here. Name one that a stage has written to with -o.")
    chosen = stage or _stage_of(run)

    def paths(default: Path) -> list[Path]:
        return [to] if to is not None else [default.with_suffix(f".{each}") for each in formats or ("png",)]

    if kind == "curves":
        written = [plot_curves(run.files(chosen).log, path) for path in paths(run.curves(chosen))]
    elif kind == "architecture":
        written = _draw_architecture(common, run, chosen, paths(run.plots / "architecture.png"))
    elif kind == "sampling":
        config = common.load()
        read = read_data(config, annotations)
        written = _draw_sampling(config, read, features or run.cache, videos, ratio, paths(run.plots / "sampling.png"))
    elif kind == "page":
        written = [_write_page(common, run, chosen, results, annotations, videos)]
    elif runs:
        read = read_data(common.load(), annotations)
        stem = "_".join(["qualitative", *(each.resolve().with_suffix("").name for each in runs), _mark_of(*runs)])
        models = [_model(each, stage) for each in runs]
        written = _draw_comparison(read, models, videos, paths(run.plots / f"{stem}.png"))
    else:
        read = read_data(common.load(), annotations)
        file = results or run.files(chosen).detections
        picture = _told_apart(run.qualitative(chosen), results, run.files(chosen).detections)
        if colour == "tiou":
            name = results.stem if results else run.path.resolve().name
            written = _draw_comparison(read, [(name, read_detections(file))], videos, paths(picture))
        else:
            strips = qualitative_strips(read, read_detections(file), videos=videos)
            written = [plot_qualitative(strips, path) for path in paths(picture)]
    click.echo("\n".join(f"wrote {path}" for path in written))
    return 0


def _stage_of(run: RunFolder) -> str:
    """Whose results are shown where nobody says: the detector's, or those of end-to-end training alone."""
    return "e2e" if run.e2e.exists() and not run.detect.exists() else "detect"


def _told_apart(path: Path, results: Path | None, own: Path) -> Path:
    """Detections from elsewhere get a file of their own beside the run's, also where two of them have one name."""
    if results is None or results.resolve() == own.resolve():
        return path
    return path.with_stem(f"{path.stem}_{results.stem}_{_mark_of(results)}")


def _mark_of(*places: Path) -> str:
    """Six letters that tell files of one name apart by where they lie."""
    from ...data.digest import values_digest

    return values_digest({"results": [str(each.resolve()) for each in places]})[:6]


def _write_page(
    common: Common,
    run: RunFolder,
    stage: str,
    results: Path | None,
    annotations: Path | None,
    videos: tuple[str, ...],
) -> Path:
    from ...data.detections import read_detections
    from ..show.page.run_page import UNLABELLED, write_run_page
    from ..stages.inputs import read_data
    from ..stages.operating import read_thresholds

    config = common.load()
    read = read_data(config, annotations)
    found = read_detections(results or run.files(stage).detections)
    # Thresholds were chosen for the run's own detections; others may be scored otherwise.
    known = None if results else read_thresholds(run.files(stage).thresholds)
    names = {*read.labels, *found.labels, UNLABELLED}
    return write_run_page(
        _told_apart(run.review_page(stage), results, run.files(stage).detections),
        read,
        found,
        folder=config.data.videos,
        cache=run.cache,
        title=f"{run.path.resolve().name}: {'end-to-end ' if stage == 'e2e' else ''}detections",
        videos=videos,
        thresholds={name: known.of(name) for name in names} if known else None,
        notes=[known.text()] if known else [],
    )


def _model(place: Path, stage: str | None) -> tuple[str, Detections]:
    """The name and detections of a run folder, or of a results file."""
    from ...data.detections import read_detections
    from ..run_folder import RunFolder

    if not place.is_dir():
        return str(place), read_detections(place)
    run = RunFolder(place)
    chosen = stage or _stage_of(run)
    name = f"{place} (end to end)" if chosen == "e2e" else str(place)
    return name, read_detections(run.files(chosen).detections)


def _draw_comparison(
    annotations: Annotations, models: list[tuple[str, Detections]], videos: tuple[str, ...], paths: list[Path]
) -> list[Path]:
    from ..show.figures.comparison import compare, plot_comparison

    return plot_comparison(compare(annotations, models, videos=videos), paths)


def _draw_sampling(
    config: Config,
    annotations: Annotations,
    cache: Path,
    videos: tuple[str, ...],
    ratio: float | None,
    paths: list[Path],
) -> list[Path]:
    from ...data.cache.cache import FeatureCache
    from ..show.figures.sampling import map_snippets, plot_sampling

    with FeatureCache(cache) as features:
        maps = map_snippets(
            annotations,
            features,
            subset=config.data.train_subset,
            videos=videos,
            # What trains on all snippets or on none samples nothing.
            ratio=ratio or (config.e2e.ratio if 0 < config.e2e.ratio < 1 else _USUAL_RATIO),
            seed=config.seed,
        )
    return plot_sampling(maps, paths)


def _draw_architecture(common: Common, run: RunFolder, stage: str, paths: list[Path]) -> list[Path]:
    """Draw the enhancement of the run's trained detector, or of a fresh one where there is none."""
    from ...data.cache.cache import FeatureCache
    from ...detect.model.build import build_detector, load_detector
    from ..show.figures.architecture import enhancement_of, plot_enhancement, read_enhancement

    checkpoint = run.files(stage).last
    if common.out is not None and checkpoint.exists():
        trained = load_detector(checkpoint)
        detector, settings, channels = trained.detector, trained.settings, int(trained.state["in_channels"])
    else:
        settings = common.load().detect
        known = settings.in_channels
        if known is None and common.out is not None and run.cache.exists():
            with FeatureCache(run.cache) as features:
                known = features.channels
        if known is None:
            raise EtadError(
                "how many channels the features have is not known: name a run with -o that has features, or set "
                "detect.in_channels, as in --set detect.in_channels=2048."
            )
        channels = known
        detector = build_detector(settings, in_channels=channels, num_classes=0, seed=0)
    found = read_enhancement(enhancement_of(detector), in_channels=channels, num_snippets=settings.num_snippets)
    return plot_enhancement(found, paths, title=f"Feature enhancement ({settings.enhancement})")


@click.command(cls=LastCommand)
@click.argument("videos", type=_FILE)
@click.option("-o", "--out", type=_FILE, required=True, metavar="FOLDER", help="Folder of the copies.")
@click.option("--fps", type=Number(min=0, min_open=True), help="The video's own if fewer.")
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
