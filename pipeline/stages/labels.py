"""Video-level class scores of a run: from a file, or from a classifier trained on the cached features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...data.annotations import Annotations, match_ids
from ...data.cache.source import FeatureSource
from ...data.class_scores import read_class_scores
from ...data.digest import values_digest
from ...data.errors import EtadError
from ...data.files.atomic import write_text
from ...data.progress import progress_bar
from ...detect.results.classify import VideoClassifier, load_classifier, pool, save_classifier, train_classifier
from ...detect.results.postprocess import VideoScores
from ...detect.settings import DetectSettings
from ..run_folder import StageFolder


def video_scores(
    settings: DetectSettings,
    cache: FeatureSource,
    annotations: Annotations,
    *,
    train_subset: str,
    videos: Sequence[str],
    classes: Sequence[str],
    scores: Path | None,
    files: StageFolder,
    checkpoint_classifier: Path | None,
) -> VideoScores:
    """Find every video's class scores.

    Parameters
    ----------
    scores
        File of video-level class scores.
    files
        Where a classifier of the run's own is kept.
    checkpoint_classifier
        The classifier of a checkpoint that came from elsewhere.

    Raises
    ------
    EtadError
        The file lacks a class or a video, or a checkpoint's classifier is not beside it.
    """
    if settings.labels.source == "scores":
        assert scores is not None
        return read_class_scores(scores).aligned(classes, list(dict.fromkeys(videos))).of
    classifier = _classifier(
        cache,
        annotations,
        train_subset=train_subset,
        classes=classes,
        files=files,
        checkpoint_classifier=checkpoint_classifier,
    )
    matches = match_ids(list(dict.fromkeys(videos)), cache.ids, where=str(cache.path))
    return lambda video_id: classifier.scores(cache.read(matches[video_id]))


def _classifier(
    cache: FeatureSource,
    annotations: Annotations,
    *,
    train_subset: str,
    classes: Sequence[str],
    files: StageFolder,
    checkpoint_classifier: Path | None,
) -> VideoClassifier:
    """Load the classifier that belongs to a given checkpoint, or the run's own, trained anew where the data changed."""
    if checkpoint_classifier is not None:
        if checkpoint_classifier.exists():
            return load_classifier(checkpoint_classifier)
        raise EtadError(
            f"{checkpoint_classifier}: the checkpoint's video classifier is not beside it. Copy it there, give "
            "--scores FILE, or set detect.labels.source=branch if the detector has a class branch."
        )
    videos = [video for video in annotations.subset(train_subset) if video.actions]
    matches = match_ids([video.id for video in videos], cache.ids, where=str(cache.path))
    videos = [video for video in videos if video.id in matches]
    number_of = {label: number for number, label in enumerate(classes)}
    shown = [[number_of[action.label] for action in video.actions] for video in videos]
    provenance = values_digest({"cache": cache.digest, "videos": [video.id for video in videos], "shown": shown})
    path, provenance_file = files.classifier, files.classifier_digest
    # Whatever else that file holds, damaged or not: the classifier is made again.
    if path.exists() and provenance_file.is_file() and provenance_file.read_bytes() == provenance.encode():
        return load_classifier(path)
    bar = progress_bar("classify: pool", videos, unit="video")
    pooled = np.stack([pool(cache.read(matches[video.id])) for video in bar])
    classifier = train_classifier(pooled, shown, labels=classes)
    save_classifier(path, classifier)
    write_text(provenance_file, provenance)
    return classifier
