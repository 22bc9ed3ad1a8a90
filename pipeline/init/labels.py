"""What is doubtful in labels: look-alike names, classes without examples, times against videos and each other."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...data.annotations import Action, Video
from ...data.durations import CLAMPED, clean, duration_conflict
from ...data.errors import counted, listing

CASE_OR_BLANKS, ONE_LETTER = "differ by case or blanks alone", "differ by one letter"
# Names shorter than this differ by a letter on purpose: A and B, hop and hip.
_LEAST_LETTERS = 4
# Seconds by which one action may reach into the next without a word.
_TOUCHING_SECONDS = 0.05
# To train on, and to test on.
SUBSETS = ("training", "validation")
CLASS_HEADS = ("label", "to train", "videos", "to test", "videos", "shortest s", "median s", "longest s")


class Doubt(NamedTuple):
    """One thing to look at.

    Parameters
    ----------
    is_problem
        Results would be wrong; otherwise it is worth knowing, and may be meant.
    what, advice
        What was found, and what to do.
    """

    is_problem: bool
    what: str
    advice: str


class LookAlike(NamedTuple):
    """Two labels that may be meant to be one."""

    label: str
    other: str
    how: str


def look_alikes(labels: Iterable[str]) -> list[LookAlike]:
    """Pairs of labels that differ by case or blanks, or by one letter.

    Names of fewer than four letters, and those whose one difference is a digit, differ on purpose.

    Examples
    --------
    >>> look_alikes(["Sway", "sway ", "Turn", "Turm", "step 1", "step 2"])
    [LookAlike(label='Sway', other='sway ', how='differ by case or blanks alone'), \
LookAlike(label='Turm', other='Turn', how='differ by one letter')]
    """
    found = []
    for label, other in itertools.combinations(sorted(set(labels)), 2):
        one, two = _plain(label), _plain(other)
        if one == two:
            found.append(LookAlike(label, other, CASE_OR_BLANKS))
        elif min(len(one), len(two)) >= _LEAST_LETTERS and _one_letter_apart(one, two):
            found.append(LookAlike(label, other, ONE_LETTER))
    return found


def class_table(
    videos: Sequence[Video], subsets: tuple[str, str] = SUBSETS
) -> list[tuple[str, int, int, int, int, float, float, float]]:
    """Of each class: actions and videos to train and to test on, and lengths in seconds; see `CLASS_HEADS`."""
    rows = []
    for label in sorted({action.label for video in videos for action in video.actions}):
        counts = []
        for subset in subsets:
            held = [_of_label(video, label) for video in videos if video.subset == subset]
            counts += [sum(map(len, held)), sum(map(bool, held))]
        lengths = [action.end_seconds - action.start_seconds for video in videos for action in _of_label(video, label)]
        spread = (min(lengths), float(np.median(lengths)), max(lengths))
        rows.append((label, *counts, *(round(seconds, 2) for seconds in spread)))
    return rows  # type: ignore[return-value]


def doubts(
    videos: Sequence[Video], measured_seconds: Mapping[str, float], subsets: tuple[str, str] = SUBSETS
) -> list[Doubt]:
    """Everything doubtful in labelled videos that have been split.

    Parameters
    ----------
    measured_seconds
        How long the file of each video is.
    subsets
        To train on, and to test on.
    """
    return [
        *_of_names(videos),
        *_of_subsets([clean(video, measured_seconds[video.id])[0] for video in videos], subsets),
        *_of_durations(videos, measured_seconds),
        *_of_segments(videos, measured_seconds),
        *_of_overlaps(videos),
    ]


def _of_names(videos: Sequence[Video]) -> Iterator[Doubt]:
    for label, other, how in look_alikes(action.label for video in videos for action in video.actions):
        counts = [sum(len(_of_label(video, each)) for video in videos) for each in (label, other)]
        what = f'"{label}" ({counts[0]}) and "{other}" ({counts[1]}) {how}: they are two classes'
        yield Doubt(how == CASE_OR_BLANKS, what, "write them alike in the labels, if one thing is meant")


def _of_subsets(videos: Sequence[Video], subsets: tuple[str, str]) -> Iterator[Doubt]:
    trained, tested = (
        {action.label for video in videos if video.subset == subset for action in video.actions} for subset in subsets
    )
    if untrained := sorted(tested - trained):
        what = f"{counted(len(untrained), 'class')} without an example to train on: {listing(untrained)}"
        yield Doubt(True, what, "move a video to training, or drop the label with data.dropped_labels")
    if untested := sorted(trained - tested):
        what = f"{counted(len(untested), 'class')} without an example to test on: {listing(untested)}"
        yield Doubt(False, what, "nothing will be known of how well they are found; label another video of each")


def _of_durations(videos: Sequence[Video], measured_seconds: Mapping[str, float]) -> Iterator[Doubt]:
    conflicts = [
        conflict for video in videos if (conflict := duration_conflict(video, measured_seconds[video.id])) is not None
    ]
    if conflicts:
        what = f"{counted(len(conflicts), 'video')} with another duration than labelled: {listing(map(str, conflicts))}"
        yield Doubt(
            True, what, "the measured one counts; was it another cut, or another frame rate, that was labelled?"
        )


def _of_segments(videos: Sequence[Video], measured_seconds: Mapping[str, float]) -> Iterator[Doubt]:
    alike: dict[tuple[str, bool], list[str]] = {}
    for video in videos:
        for repair in clean(video, measured_seconds[video.id])[1]:
            if repair.kind != CLAMPED:
                alike.setdefault((repair.kind, repair.is_problem), []).append(f"{video.id}: {repair.detail}")
    for (kind, is_problem), found in alike.items():
        advice = "correct their times" if is_problem else "nothing, unless another time was meant"
        yield Doubt(is_problem, f"{counted(len(found), 'action')} {kind}: {listing(found, most=3)}", advice)


def _of_overlaps(videos: Sequence[Video]) -> Iterator[Doubt]:
    same: list[str] = []
    different: list[str] = []
    for video in videos:
        for one, two in _overlapping(video.actions):
            where = f"{video.id}: {one.label} {one.start_seconds:g}-{one.end_seconds:g} s and "
            where += f"{two.label} {two.start_seconds:g}-{two.end_seconds:g} s"
            (same if one.label == two.label else different).append(where)
    if same:
        what = f"{counted(len(same), 'pair')} of actions of one class overlap: {listing(same, most=3)}"
        yield Doubt(False, what, "was one of them labelled twice?")
    if different:
        what = f"{counted(len(different), 'pair')} of actions of two classes overlap: {listing(different, most=3)}"
        yield Doubt(False, what, "nothing, if two things happen at once")


def _overlapping(actions: Sequence[Action]) -> Iterator[tuple[Action, Action]]:
    """Pairs that share more than a moment, equal ones aside, which are repeated entries."""
    ordered = sorted(actions, key=lambda action: (action.start_seconds, action.end_seconds))
    for number, one in enumerate(ordered):
        for two in ordered[number + 1 :]:
            if two.start_seconds >= one.end_seconds - _TOUCHING_SECONDS:
                break
            if one != two:
                yield one, two


def _of_label(video: Video, label: str) -> list[Action]:
    return [action for action in video.actions if action.label == label]


def _plain(label: str) -> str:
    """A name without case, blanks, and what stands for blanks."""
    text = unicodedata.normalize("NFKC", label).casefold()
    return "".join(letter for letter in text if not letter.isspace() and letter not in "_-")


def _one_letter_apart(one: str, two: str) -> bool:
    """Whether one letter more, less or other makes one name the other; digits count things and are no slips."""
    if len(one) > len(two):
        one, two = two, one
    if len(two) - len(one) > 1:
        return False
    first = next((place for place, (a, b) in enumerate(zip(one, two)) if a != b), len(one))
    same_length = len(one) == len(two)
    rest = one[first + 1 :] if same_length else one[first:]
    differing = two[first : first + 1] + (one[first : first + 1] if same_length else "")
    return rest == two[first + 1 :] and not any(letter.isdigit() for letter in differing)
