"""The predict stage: a trained run on videos that nobody has annotated."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...data.annotations import check_ids
from ...data.cache.cache import FeatureCache
from ...data.cache.names import escape
from ...data.detections import Detections, write_detections
from ...data.digest import values_digest
from ...data.errors import DiskError, EtadError, counted
from ...data.files.atomic import remove_leftovers, write_json
from ...data.files.json_file import read_json
from ...data.importers.detections.detection_table import write_detections_csv
from ...data.importers.detections.subtitles import write_subtitles
from ...detect.results.postprocess import VideoDetections
from ...extract.clips import Failure
from ..device import threads_for
from ..run_folder import RunFolder
from ..stages.extract import extract_with_all
from ..stages.operating import above_thresholds
from ..stages.result import StageResult
from .trained import TrainedRun
from .videos import file_stem


@dataclass(frozen=True)
class Prediction:
    """What was found in new videos.

    Parameters
    ----------
    result
        Where it lies, and what was left out.
    found
        All detections.
    reported
        Those above their thresholds.
    files
        Video files by id, of those that were predicted.
    durations
        Seconds of each.
    fps
        Frames per second of each.
    """

    result: StageResult
    found: Detections
    reported: Detections
    files: Mapping[str, Path]
    durations: Mapping[str, float]
    fps: Mapping[str, float]


def predict(
    loaded: TrainedRun,
    out: RunFolder,
    files: Mapping[str, Path],
    *,
    device: torch.device,
    weights: Path | None = None,
    threshold: float | None = None,
) -> Prediction:
    """Detect actions in video files and write what was found below `RUN/predict`; safe to repeat.

    Features are kept, as are the detections of each video: what was done with the same file and the same detector is
    not done again.

    Parameters
    ----------
    files
        Video files by id.
    weights
        The encoder's, where they have been moved.
    threshold
        Least score of what is reported, instead of the run's own thresholds.
    """
    folder = out.predict
    named, failed = _checked(files)
    _ = loaded.digest  # complains of what is missing before any video is read
    encoders = loaded.encoders(weights)
    kind = values_digest({"weights": encoders.digests, "clips": loaded.config.clips.model_dump(mode="json")})
    cache_path = folder / f"features-{kind[:12]}.h5"
    with out.hold("predict"):
        for place in (folder, folder / "videos", folder / "subtitles"):
            remove_leftovers(place)
        with threads_for(encoders.first):
            report = extract_with_all(
                encoders, config=loaded.config, files=named, cache=cache_path, shard=None, device=device
            )
        failed += report.failed
        done: dict[str, VideoDetections] = {}
        durations, fps, skipped = {}, {}, 0
        if report.done or report.skipped:
            with FeatureCache(cache_path) as features:
                for id in sorted({*report.done, *report.skipped}):
                    try:
                        done[id], is_old = _detected(loaded, features, id, folder=folder, device=device)
                    except DiskError:
                        raise
                    except EtadError as error:
                        failed.append(Failure(id, files[id], str(error)))
                        continue
                    skipped += is_old
                    durations[id], fps[id] = features.durations[id], features.timing(id).fps
        found = Detections.join(
            [(each.video_id, each.segments, each.labels, each.scores) for each in done.values()],
            labels=loaded.trained.classes,
        )
        limits = loaded.thresholds if threshold is None else threshold
        reported = above_thresholds(found, 0.0 if limits is None else limits)
        # What fails altogether takes nothing away.
        if done or not (folder / "detections.json").exists():
            write_detections(folder / "detections.json", found)
            write_detections_csv(folder / "detections.csv", reported)
        for id in done:
            for subtitle_kind in ("srt", "vtt"):
                subtitles = folder / "subtitles" / f"{file_stem(id)}.{subtitle_kind}"
                write_subtitles(subtitles, reported, id, kind=subtitle_kind)
    lacked = loaded.trained.training_notes(loaded.checkpoint)
    notes = [*report.notes, *lacked, *_threshold_notes(loaded, threshold), *_notes_of_others(folder, done)]
    made = f"{counted(len(done), 'video')} predicted ({skipped} done before), {len(failed)} failed"
    result = StageResult(
        folder,
        notes=tuple(notes),
        failed=tuple(failed),
        flawed=report.flawed,
        summary=f"{made}, {counted(len(reported), 'detection')} -> {folder}",
    )
    return Prediction(result, found, reported, {id: files[id] for id in done}, durations, fps)


def _notes_of_others(folder: Path, done: Collection[str]) -> list[str]:
    """Say what the tables of a folder do not hold: videos of earlier calls."""
    own = {f"{file_stem(id)}.json" for id in done}
    others = sum(each.name not in own for each in (folder / "videos").glob("*.json"))
    if not others:
        return []
    if not done:
        return [f"nothing was predicted now: the results of {counted(others, 'earlier video')} stay as they are"]
    return [
        f"detections.csv, detections.json and the page hold the videos of this call alone; {counted(others, 'other')} "
        "predicted before: name them, too, and they are read from what is kept"
    ]


def _checked(files: Mapping[str, Path]) -> tuple[dict[str, Path], list[Failure]]:
    """Leave out files whose names can be no id."""
    sound, failed = {}, []
    for id, path in files.items():
        try:
            check_ids(path, [id])
            escape(id)
            sound[id] = path
        except EtadError as error:
            failed.append(Failure(id, path, str(error)))
    return sound, failed


def _detected(
    loaded: TrainedRun, features: FeatureCache, id: str, *, folder: Path, device: torch.device
) -> tuple[VideoDetections, bool]:
    """Detections of one video, and whether they were there already."""
    meta = features.meta(id)
    timing = repr(features.timing(id))
    made_from = values_digest(
        {
            "run": loaded.digest,
            "features": [features.path.name, meta.source_sha256, meta.lost_frames, timing],
        }
    )
    path = folder / "videos" / f"{file_stem(id)}.json"
    with contextlib.suppress(EtadError, KeyError, TypeError, ValueError):  # damaged: made again
        kept = read_json(path, what="detections of a video") if path.exists() else {}
        rows = np.array(kept["detections"], dtype=np.float64).reshape(-1, 4)
        if kept["made_from"] == made_from and np.isfinite(rows).all():
            return VideoDetections(id, rows[:, :2], rows[:, 2].astype(np.int64), rows[:, 3]), True
    found = loaded.detect(features, id, device=device)
    rows = np.column_stack([found.segments, found.labels, found.scores])
    write_json(path, {"made_from": made_from, "detections": rows.tolist()})
    return found, False


def _threshold_notes(loaded: TrainedRun, threshold: float | None) -> Iterator[str]:
    if not loaded.has_labels:
        yield (
            "labels of this run come from a file of video-level scores, which tells nothing of new videos: detections "
            "have no label. Train with detect.labels.source=classifier or branch for labels"
        )
    if threshold is not None:
        yield f"threshold: {threshold:g}, as named"
    elif loaded.thresholds is not None:
        yield loaded.thresholds.text()
    else:
        stage = loaded.files.folder.name
        yield (
            f"no thresholds: none were chosen in {loaded.files.folder}, so every detection is reported. Call "
            f"`etad {stage if stage in ('detect', 'e2e') else 'detect'}` again, which chooses them, or name --threshold"
        )
