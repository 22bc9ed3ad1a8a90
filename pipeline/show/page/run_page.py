"""The review page of a run that is done: what it detected beside what is annotated, and where the videos lie."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ....data.annotations import Annotations, Video, match_ids
from ....data.cache.cache import FeatureCache
from ....data.detections import Detections
from ....data.errors import EtadError, counted, listing
from ....data.video.video import find_videos, probe
from .content import PageAction, PageVideo
from .page import write_page

# A detector reports hundreds of segments a video, most of them with next to no score.
MOST_DETECTIONS = 200
# Stands for the class where detections have none.
UNLABELLED = "action"

_logger = logging.getLogger(__name__)


def write_run_page(
    path: Path,
    annotations: Annotations,
    detections: Detections,
    *,
    folder: Path | None,
    cache: Path,
    title: str,
    videos: Sequence[str] = (),
    thresholds: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the review page of some detections; videos that are not found are named, and the page asks for them.

    Parameters
    ----------
    folder
        Where the videos lie; None where nobody has said.
    cache
        Features that tell how long videos are and how many frames a second they have; videos that it lacks, or all
        where it does not exist, are opened for that.
    videos
        Ids of the videos to show; all that have detections by default.
    thresholds
        Score from which on a class is shown at first; by default that with as many detections as actions annotated.

    Raises
    ------
    EtadError
        There is nothing to show: no detections at all, or none of a video that is asked for.
    """
    shown_ids = _chosen(detections, videos)
    matches = match_ids(shown_ids, annotations.videos, where=str(annotations.source))
    annotated = {id: annotations.videos[known] for id, known in matches.items()}
    unknown = [id for id in shown_ids if id not in matches]
    if unknown and annotations.videos and not matches:
        raise EtadError(
            f"{annotations.source}: knows none of the {counted(len(unknown), 'video')} that were detected in "
            f"({listing(unknown, most=3)}), as if it were of another set. Name the right one with --annotations."
        )
    files = _files(shown_ids, folder)
    measured = _measured(shown_ids, files, cache)
    told = list(notes)
    if unknown and annotations.videos:
        told.append(f"Without annotations, and saved as of subset training: {listing(unknown)}.")
    if thresholds is None:
        thresholds = count_thresholds(detections, annotated)
        told.append(
            "Thresholds: for each class the score that as many detections reach as actions of it are annotated."
        )
    most = int(np.bincount(detections.video, minlength=1).max(initial=0))
    if most > MOST_DETECTIONS:
        told.append(f"Of each video the {MOST_DETECTIONS} detections with the best scores are shown; one has {most}.")
    entries = []
    for id in shown_ids:
        actions = _detected(detections, id)
        known = annotated.get(id)
        truth = (
            None
            if known is None
            else [PageAction(a.start_seconds, a.end_seconds, a.label, None) for a in known.actions]
        )
        duration, fps = measured.get(id, (0.0, None))
        stated = (known.duration_seconds or 0.0) if known else 0.0
        last = max((action.end_seconds for action in (*actions, *(truth or ()))), default=1.0)
        subset = known.subset if known else "training"
        entries.append(PageVideo(id, files.get(id), duration or stated or last, fps, actions, truth, subset))
    labels = sorted({*annotations.labels, *detections.labels})
    return write_page(path, entries, labels=labels, thresholds=thresholds, title=title, notes=told)


def count_thresholds(detections: Detections, annotated: Mapping[str, Video]) -> dict[str, float]:
    """Choose the score of each class that as many detections reach as actions of it are annotated in these videos.

    A class without an action gets what as many detections of all classes reach as there are actions.
    """
    known = np.isin(detections.video, [number for number, id in enumerate(detections.video_ids) if id in annotated])
    counts: dict[str, int] = {}
    for video in annotated.values():
        for action in video.actions:
            counts[action.label] = counts.get(action.label, 0) + 1
    overall = _score_of_place(detections.score[known], sum(counts.values()))
    return {
        label: _score_of_place(detections.score[known & (detections.label == number)], counts[label])
        if label in counts
        else overall
        for number, label in enumerate(detections.labels)
    } | ({} if detections.labels else {UNLABELLED: overall})


def _score_of_place(scores: np.ndarray, place: int) -> float:
    """The score that so many reach; 0 where there are not as many."""
    return float(np.sort(scores)[-place]) if 0 < place <= len(scores) else 0.0


def _chosen(detections: Detections, videos: Sequence[str]) -> list[str]:
    if not detections.video_ids:
        raise EtadError("the detections name no video, so there is nothing to show.")
    for id in videos:
        if id not in detections.video_ids:
            raise EtadError(f"the detections have no result for video '{id}'.")
    return list(dict.fromkeys(videos)) or list(detections.video_ids)


def _detected(detections: Detections, video_id: str) -> list[PageAction]:
    """The best detections of a video, by falling score."""
    rows = detections.rows_of(video_id)
    rows = rows[np.argsort(-detections.score[rows], kind="stable")][:MOST_DETECTIONS]
    names = [*detections.labels, UNLABELLED]  # where -1 looks one up
    return [
        PageAction(start, max(start, end), names[label], score)
        for start, end, label, score in zip(
            detections.start_seconds[rows].tolist(),
            detections.end_seconds[rows].tolist(),
            detections.label[rows].tolist(),
            detections.score[rows].tolist(),
        )
    ]


def _files(ids: Sequence[str], folder: Path | None) -> dict[str, Path]:
    """Files of videos, by id; those that are not there are named."""
    if folder is None:
        _logger.warning("no folder of videos is known: the page asks for each. Name it with --set data.videos=FOLDER.")
        return {}
    try:
        found = find_videos(folder).files
    except EtadError as error:
        _logger.warning("%s The page asks for each video.", error)
        return {}
    files = {id: found[match] for id, match in match_ids(ids, list(found), where=str(folder)).items()}
    missing = [id for id in ids if id not in files]
    if missing:
        _logger.warning(
            "%s: %s not here, the page asks for them: %s.", folder, counted(len(missing), "video"), listing(missing)
        )
    return files


def _measured(ids: Sequence[str], files: Mapping[str, Path], cache: Path) -> dict[str, tuple[float, float]]:
    """Duration and frames a second of videos, by id, of those that can be measured."""
    measured = {}
    if cache.exists():
        with FeatureCache(cache) as features:
            for id, known in match_ids(ids, features.ids, where=str(cache)).items():
                timing = features.timing(known)
                if timing.is_measured and timing.fps > 0:
                    measured[id] = (timing.duration_seconds, timing.fps)
    for id, file in files.items():
        if id in measured:
            continue
        try:
            info = probe(file)
        except EtadError as error:
            _logger.warning("%s", error)  # the browser may play it all the same
        else:
            measured[id] = (info.duration_seconds, info.fps)
    return measured
