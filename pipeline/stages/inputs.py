"""What a config names, read: annotations, and the videos that go with them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path

from ...data.annotations import (
    Annotations,
    Video,
    match_ids,
    read_annotations,
    read_ids,
    subset_aliases,
)
from ...data.class_scores import read_class_scores
from ...data.errors import EtadError, counted, listing, nearest
from ...data.files.json_file import describe_repeats
from ...detect.windows import training_classes
from ..config import Config
from ..events import require_tensorboard

_logger = logging.getLogger(__name__)

NO_SCORES = (
    "labels come from a file of video-level class scores, and none is named: give --scores FILE, or set "
    "detect.labels.source to classifier or branch."
)


def read_data(
    config: Config, annotations: Path | None = None, *, subsets: Collection[str] = (), blocked: Path | None = None
) -> Annotations:
    """Read the annotations that a config names, less what it blocks and drops; warn of what in them is left out.

    Parameters
    ----------
    subsets
        Those that are used beside the config's.
    blocked
        List of ids that are left out beside the config's.

    Raises
    ------
    EtadError
        No annotations are named, they cannot be read, or a list of blocked ids has none of their videos.
    """
    read = read_quietly(config, annotations, blocked)
    if read.repeated:
        _logger.warning("%s: %s.", read.source, describe_repeats(read.repeated))
    for stray in read.strays([*used_subsets(config), *subsets]):
        _logger.warning("%s: %s.", read.source, stray)
    return read


def used_subsets(config: Config) -> list[str]:
    """Names of the subsets that a config trains, validates and tests on."""
    data = config.data
    return [name for name in (data.train_subset, data.validation_subset, data.test_subset) if name is not None]


def read_quietly(config: Config, annotations: Path | None = None, blocked: Path | None = None) -> Annotations:
    """Read what `read_data` reads, and leave it to the caller to tell what is wrong in it."""
    path = annotations or config.data.annotations
    if path is None:
        raise EtadError(
            "no annotations: name the run that has them with -o RUN, an ActivityNet-form JSON with --annotations, or "
            "set data.annotations."
        )
    lists = [each for each in (config.data.blocked, blocked) if each is not None]
    read = read_annotations(path, leave_out=lambda ids: {id for each in lists for id in _blocked(each, ids, path)})
    return read.without_labels(config.data.dropped_labels)


def validation_videos(config: Config, annotations: Annotations) -> list[Video]:
    """The annotated videos that choose the best checkpoint; none where no subset is set apart for that.

    Raises
    ------
    EtadError
        The subset is empty, or is trained or tested on: a checkpoint that is chosen by what it is then measured on
        looks better than it is.
    """
    name = config.data.validation_subset
    if name is None:
        return []
    for key in ("train_subset", "test_subset"):
        other = getattr(config.data, key)
        if subset_aliases(name) == subset_aliases(other):
            raise EtadError(
                f"data.validation_subset={name} is data.{key}, too: the best checkpoint is chosen on videos that are "
                "neither trained nor tested on. Name a third subset, or leave it out to choose by the training loss."
            )
    return [video for video in annotations.subset(name) if video.actions]


def require_data(
    config: Config, annotations: Annotations, *, scores: Path | None, there: Collection[str] | None = None
) -> None:
    """Refuse what a detector could not be trained, labelled or measured with, before anything that takes long.

    Raises
    ------
    EtadError
        The first of `data_faults`.
    """
    for fault in data_faults(config, annotations, scores=scores, there=there):
        raise fault


def data_faults(
    config: Config, annotations: Annotations, *, scores: Path | None, there: Collection[str] | None = None
) -> Iterator[EtadError]:
    """All that is known of a training's data to end in a refusal, early or late.

    Parameters
    ----------
    scores
        File of video-level class scores.
    there
        Ids of the videos that have features or a file, all others being left out anyway; None where nobody knows.
    """
    if config.tensorboard:
        try:
            require_tensorboard()
        except EtadError as fault:
            yield fault
    classes: tuple[str, ...] = ()
    try:
        classes = training_classes(annotations, config.data.train_subset)
    except EtadError as fault:
        yield fault
    subsets: dict[str, list[Video]] = {}
    try:
        subsets["test_subset"] = annotations.subset(config.data.test_subset)
    except EtadError as fault:
        yield fault
    try:
        subsets["validation_subset"] = validation_videos(config, annotations)
    except EtadError as fault:
        yield fault
    for key, videos in subsets.items() if classes else ():
        seen = None if there is None else match_ids([video.id for video in videos], there, where="videos")
        usable = [video for video in videos if seen is None or video.id in seen]
        yield from _unlearnt(annotations, usable, classes, getattr(config.data, key), config.data.train_subset)
    if scores is None and config.detect.labels.source == "scores":
        yield EtadError(NO_SCORES)
    if scores is not None:
        try:
            tested = [video.id for video in subsets.get("test_subset", ())]
            require_scores(scores, classes, tested, there=there)
        except EtadError as fault:
            yield fault


def require_scores(
    scores: Path, classes: Collection[str], tested: Collection[str], *, there: Collection[str] | None = None
) -> None:
    """Refuse a file of class scores that lacks a class, or a video that is going to be labelled.

    Raises
    ------
    EtadError
        Naming what it lacks.
    """
    labelled = list(tested if there is None else match_ids(tested, there, where="videos"))
    read_class_scores(scores).aligned(list(classes), labelled)


def _unlearnt(
    annotations: Annotations, videos: Collection[Video], classes: Collection[str], subset: str, train_subset: str
) -> Iterator[EtadError]:
    """Classes of a subset that no training video shows."""
    shown_in: dict[str, list[str]] = {}
    for video in videos:
        for label in {action.label for action in video.actions} - set(classes):
            shown_in.setdefault(label, []).append(video.id)
    for label, ids in sorted(shown_in.items()):
        yield EtadError(
            f"{annotations.source}: label '{label}' is none of the {counted(len(classes), 'known class')}: subset "
            f"'{subset}' has it ({counted(len(ids), 'video')}: {listing(ids, most=3)}), but no video of subset "
            f"'{train_subset}', which is learnt from.{nearest(label, classes)} Correct the label, move a video that "
            f"shows it, or leave the class out with data.dropped_labels."
        )


def _blocked(path: Path, ids: Collection[str], source: Path) -> Collection[str]:
    """Those of some annotated ids that a file lists, with or without `v_`."""
    listed = read_ids(path)
    matches = match_ids(listed, ids, where=str(path))
    if listed and not matches:
        raise EtadError(
            f"{path}: none of its {counted(len(listed), 'id')} is a video of {source} "
            f"({listing(listed, most=3)}). Name another list, or correct the ids."
        )
    return matches.values()
