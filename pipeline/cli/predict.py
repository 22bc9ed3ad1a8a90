"""The command `predict`: what happens in videos that nobody has annotated."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Common, LastCommand, Number, common_options

if TYPE_CHECKING:
    from ...data.annotations import Annotations
    from ...extract.clips import Failure
    from ..predict.stage import Prediction
    from ..predict.trained import TrainedRun

_FILE = click.Path(path_type=Path)
# Lines of a video in the table on the terminal; the files have all of them.
_MOST_SHOWN = 20


@click.command(cls=LastCommand)
@click.argument("videos", nargs=-1, required=True)
@click.option("--checkpoint", type=_FILE, help="Detector to use; the run's own by default.")
@click.option("--weights", type=_FILE, help="Encoder weights, where they have been moved since training.")
@click.option("--threshold", type=Number(0, 1), help="Least score; the run's own, by class, by default.")
@click.option("--draw", is_flag=True, help="Write copies of the videos with the labels drawn in.")
@click.option("--html", is_flag=True, help="Write a page that plays the videos beside what was found.")
@click.option("--ground-truth", type=_FILE, help="Annotations in ActivityNet's JSON form, to show on the page.")
@common_options
def predict(
    common: Common,
    videos: tuple[str, ...],
    checkpoint: Path | None,
    weights: Path | None,
    threshold: float | None,
    draw: bool,
    html: bool,
    ground_truth: Path | None,
) -> int:
    """Detect actions in new videos: files, folders or patterns; no annotations needed. Safe to repeat.

    Writes below RUN/predict: detections.json has every detection with its score, in ActivityNet's form; the table,
    detections.csv and the subtitles have those above the thresholds that the run chose on held-out videos.

    \b
    Example:
      etad predict new.mp4 -o runs/mine --html
    """
    from ...data.annotations import read_annotations
    from ...data.errors import counted
    from ..device import choose_device
    from ..predict.stage import predict as run_predict
    from ..predict.trained import load_run, run_of
    from ..predict.videos import find_inputs
    from ..run_folder import RunFolder
    from .result import print_result

    if ground_truth is not None and not html:
        raise click.UsageError("--ground-truth FILE is shown on the page: it goes with --html.")
    run = RunFolder(common.run_folder())
    # A checkpoint from elsewhere is used as its own run says.
    origin = run_of(checkpoint) if checkpoint is not None else run
    loaded = load_run(run.path, checkpoint, replace(common, out=origin.path).load())
    annotated = read_annotations(ground_truth) if ground_truth is not None else None
    files, passed_over = find_inputs(videos)
    prediction = run_predict(
        loaded, run, files, device=choose_device(loaded.config.device), weights=weights, threshold=threshold
    )
    closing = [passed_over, what_happens_when(prediction), prediction.result.summary]
    if draw:
        drawn, failed = draw_copies(prediction)
        closing.append(f"{counted(drawn, 'video')} with labels drawn in -> {prediction.result.path / 'drawn'}")
        prediction = replace(prediction, result=replace(prediction.result, failed=prediction.result.failed + failed))
    if html:
        page = review_page(prediction, loaded, annotated, threshold=threshold) if prediction.files else None
        closing.append(f"page -> {page}" if page else "no page was written: no video was predicted")
    return print_result(prediction.result, *closing)


def what_happens_when(prediction: Prediction) -> str:
    """A table of what is reported, in the order of time; of each video the best few."""
    import numpy as np

    from ..show.report import table

    found, rows = prediction.reported, []
    for id in found.video_ids:
        own = found.rows_of(id)
        best = own[np.argsort(-found.score[own], kind="stable")][:_MOST_SHOWN]
        for row in best[np.argsort(found.start_seconds[best], kind="stable")].tolist():
            label = found.labels[found.label[row]] if found.label[row] >= 0 else None
            seconds = (f"{each[row]:.1f}" for each in (found.start_seconds, found.end_seconds))
            rows.append((id, *seconds, label, f"{found.score[row]:.3g}"))
        if not len(own):
            rows.append((id, None, None, "nothing above its threshold", None))
        elif len(own) > _MOST_SHOWN:
            rows.append((id, None, None, f"{len(own) - _MOST_SHOWN} more", None))
    return table(rows, heads=("video", "start", "end", "label", "score"))


def draw_copies(prediction: Prediction) -> tuple[int, tuple[Failure, ...]]:
    """Write a copy of each video with what is reported in its frames; returns how many there are, and what failed."""
    from ...data.errors import DiskError, EtadError
    from ...data.files.atomic import remove_leftovers
    from ...data.importers.detections.subtitles import score_text
    from ...data.progress import progress_bar
    from ...extract.clips import Failure
    from ..predict.videos import file_stem
    from ..show.drawn import DrawnLabel, draw_labels

    found, failed = prediction.reported, []
    folder = prediction.result.path / "drawn"
    if folder.is_dir():
        remove_leftovers(folder)
    for id in found.video_ids:
        labels = []
        for row in found.rows_of(id).tolist():
            code = int(found.label[row])
            name, score = found.labels[code] if code >= 0 else "proposal", float(found.score[row])
            start, end = float(found.start_seconds[row]), float(found.end_seconds[row])
            labels.append(DrawnLabel(start, end, f"{name} {score_text(score)}", score, max(code, 0)))
        path = prediction.files[id]
        with progress_bar(f"draw: {id}", unit="%", total=100) as bar:
            try:
                draw_labels(
                    path,
                    folder / f"{file_stem(id)}.mp4",
                    labels,
                    report=partial(_show_share, bar),
                )
            except DiskError:
                raise
            except EtadError as error:
                failed.append(Failure(id, path, f"no copy was drawn: {str(error).removeprefix(f'{path}: ')}"))
    return len(found.video_ids) - len(failed), tuple(failed)


def _show_share(bar: Any, share: float) -> None:
    bar.update(int(100 * share) - bar.n)


def review_page(
    prediction: Prediction, loaded: TrainedRun, annotated: Annotations | None, *, threshold: float | None
) -> Path:
    """Write the page of what was found in each video, with what is annotated where that is known."""
    from ...data.annotations import match_ids
    from ..show.page.content import PageAction, PageVideo
    from ..show.page.page import write_page

    found, videos = prediction.found, []
    truth = {}
    if annotated is not None:
        matches = match_ids(found.video_ids, annotated.videos, where=str(annotated.source))
        truth = {id: annotated.videos[known] for id, known in matches.items()}
    for id in found.video_ids:
        rows = found.rows_of(id).tolist()
        detected = [
            PageAction(
                float(found.start_seconds[row]),
                float(found.end_seconds[row]),
                found.labels[found.label[row]] if found.label[row] >= 0 else "proposal",
                float(found.score[row]),
            )
            for row in rows
        ]
        file, known = prediction.files[id], truth.get(id)
        page_video = PageVideo(id, file, prediction.durations[id], prediction.fps[id], detected, None)
        if known is not None:
            actions = [PageAction(a.start_seconds, a.end_seconds, a.label, None) for a in known.actions]
            page_video = replace(page_video, ground_truth=actions, subset=known.subset)
        videos.append(page_video)
    labels = loaded.trained.classes if loaded.has_labels else ("proposal",)
    limits = loaded.thresholds
    least = {label: threshold if threshold is not None else limits.of(label) if limits else 0.0 for label in labels}
    result = prediction.result
    notes = [f"detector: {loaded.checkpoint}", *result.notes]
    notes += [f"{failure.path.name}: {failure.reason}" for failure in (*result.failed, *result.flawed)]
    name = result.path.parent.name or str(result.path.parent)
    return write_page(result.path / "index.html", videos, labels=labels, thresholds=least, title=name, notes=notes)
