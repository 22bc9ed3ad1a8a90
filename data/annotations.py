"""Annotations in ActivityNet's JSON form, in seconds."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import EtadError, counted, listing, shown
from .files.json_file import read_json, refuse_repeats, repeated_keys, without_collector

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")
# Actions whose ends differ by no more are one that was annotated twice.
SAME_SECONDS = 1e-3
_SUBSET_ALIASES = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))


@dataclass(frozen=True)
class Action:
    """One annotated action, in seconds."""

    start_seconds: float
    end_seconds: float
    label: str


@dataclass(frozen=True)
class Video:
    """One annotated video. The duration is None where the file gives none (THUMOS-14)."""

    id: str
    subset: str
    duration_seconds: float | None
    actions: tuple[Action, ...]

    def without_duplicates(self) -> Video:
        """Drop actions that have the label and, within a millisecond, both ends of one before them."""
        starts = sorted((action.label, action.start_seconds) for action in self.actions)
        # Twice the distance, for rounding: whatever is as near as a duplicate is looked at below.
        if not any(
            one == other and after - before <= 2 * SAME_SECONDS
            for (one, before), (other, after) in itertools.pairwise(starts)
        ):
            return self
        kept: dict[tuple[str, int, int], list[Action]] = {}
        chosen = []
        for action in self.actions:
            start, end = (int(seconds // SAME_SECONDS) for seconds in (action.start_seconds, action.end_seconds))
            # What is as near as that lies in the same cell of a grid, or in one beside it.
            cells = ((action.label, start + i, end + j) for i in (-1, 0, 1) for j in (-1, 0, 1))
            near = (other for cell in cells for other in kept.get(cell, ()))
            if not any(_is_same(action, other) for other in near):
                kept.setdefault((action.label, start, end), []).append(action)
                chosen.append(action)
        return replace(self, actions=tuple(chosen))


@dataclass(frozen=True)
class Stray:
    """Videos that are left out because of the subset that their entries state.

    Parameters
    ----------
    subset
        What is stated; empty where nothing is.
    nearest
        The subset that was probably meant; empty where there is none like it.
    """

    subset: str
    nearest: str
    ids: tuple[str, ...]

    @property
    def is_mistake(self) -> bool:
        """Whether nobody can have meant this; a name of its own may be meant for another run."""
        return not self.subset.strip() or bool(self.nearest)

    def __str__(self) -> str:
        stated = f"subset {shown(self.subset)}" if self.subset else "no subset stated"
        hint = f", did you mean '{self.nearest}'?" if self.nearest else ""
        return f"{counted(len(self.ids), 'video')} in none of the subsets: {stated}{hint} ({listing(self.ids)})"


@dataclass(frozen=True)
class Annotations:
    """Annotated videos by id, in the order of the file.

    Parameters
    ----------
    repeated
        Ids that stand twice in the file; the last entry of each counts.
    known_labels
        Labels of the file that no action here has: those of videos and actions that were left out.
    """

    source: Path
    videos: dict[str, Video]
    repeated: tuple[str, ...] = ()
    known_labels: frozenset[str] = frozenset()

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label in use, sorted."""
        return tuple(sorted({action.label for video in self.videos.values() for action in video.actions}))

    def subset(self, name: str) -> list[Video]:
        """Videos of one subset; `train` and `training` (and so on) mean the same.

        Raises
        ------
        EtadError
            No video is in it.
        """
        wanted = subset_aliases(name)
        videos = [video for video in self.videos.values() if video.subset.lower() in wanted]
        if not videos:
            counts = Counter(video.subset for video in self.videos.values())
            there = ", ".join(f"'{subset}' ({counted(count, 'video')})" for subset, count in counts.items()) or "none"
            raise EtadError(f"{self.source}: subset '{name}' is empty. Subsets in this file: {there}.")
        return videos

    def strays(self, used: Collection[str]) -> list[Stray]:
        """Videos that no run can use: in none of the `used` subsets, nor in another one that goes by a usual name."""
        known = {alias for aliases in (*_SUBSET_ALIASES, *map(subset_aliases, used)) for alias in aliases}
        ids: dict[str, list[str]] = {}
        for video in self.videos.values():
            if video.subset.lower() not in known:
                ids.setdefault(video.subset, []).append(video.id)
        return [Stray(subset, _nearest_subset(subset, used), tuple(found)) for subset, found in ids.items()]

    def without_labels(self, labels: Collection[str]) -> Annotations:
        """Drop the actions of some labels (THUMOS-14's "Ambiguous"), keeping their videos."""
        if not labels:
            return self
        videos = {
            id: replace(video, actions=tuple(action for action in video.actions if action.label not in labels))
            for id, video in self.videos.items()
        }
        return replace(self, videos=videos, known_labels=self.known_labels | set(labels))


def read_annotations(
    path: Path, *, leave_out: Callable[[Collection[str]], Collection[str]] = lambda ids: ()
) -> Annotations:
    """Read and check an annotation file; actions stay as annotated, past their video's end too (see `clean`).

    Parameters
    ----------
    leave_out
        Says which of the file's ids are left out, before anything in their entries is looked at.

    Raises
    ------
    EtadError
        The file is missing or no JSON, or an entry lacks a field, has a number that is none or not finite, a duration
        that is not positive, or a reversed segment; the message counts all that are wrong.
    """
    path = Path(path)
    with without_collector():
        return _annotations(path, read_json(path, what="annotations", find_repeats=True), leave_out)


def check_ids(source: Path, ids: Iterable[str]) -> None:
    """Refuse ids that no terminal should be shown.

    Raises
    ------
    EtadError
        One of them holds a control character.
    """
    for id in ids:
        if _CONTROL.search(id):
            raise EtadError(f"{source}: the id {shown(id)} holds a control character. Give the video another one.")


def match_ids(wanted: Iterable[str], known: Collection[str], *, where: str) -> dict[str, str]:
    """Match ids exactly first, then with or without a leading `v_`.

    Returns
    -------
    dict
        Known id by wanted id; wanted ids without a match are left out.

    Raises
    ------
    EtadError
        An id matches two known ones, or two ids match the same one.

    Examples
    --------
    >>> match_ids(["a", "v_b", "c"], ["v_a", "b"], where="cache")
    {'a': 'v_a', 'v_b': 'b'}
    """
    wanted, known = list(dict.fromkeys(wanted)), set(known)
    matches: dict[str, str] = {}
    claimed: dict[str, str] = {}
    for id in sorted(wanted, key=lambda id: id not in known):
        candidates = [id] if id in known else [other for other in (f"v_{id}", id.removeprefix("v_")) if other in known]
        if len(candidates) > 1:
            raise EtadError(f"{where}: '{id}' could be {candidates[0]!r} or {candidates[1]!r}. Rename one of them.")
        if not candidates:
            continue
        match = candidates[0]
        if match in claimed:
            raise EtadError(f"{where}: '{match}' could be {claimed[match]!r} or {id!r}. Rename one of them.")
        matches[id], claimed[match] = match, id
    return {id: matches[id] for id in wanted if id in matches}


def subset_aliases(name: str) -> tuple[str, ...]:
    """Name every spelling of a subset, in lower case.

    Examples
    --------
    >>> subset_aliases("train")
    ('train', 'training')
    """
    for aliases in _SUBSET_ALIASES:
        if name.lower() in aliases:
            return aliases
    return (name.lower(),)


def read_ids(path: Path) -> list[str]:
    """Read a list of ids, one a line; blank lines and # comments are passed over."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise EtadError(f"{path}: cannot read the list of ids: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise EtadError(f"{path}: expected a text file of ids, one a line, but it is no UTF-8 text.") from error
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def _annotations(path: Path, root: Any, leave_out: Callable[[Collection[str]], Collection[str]]) -> Annotations:
    database = root.get("database") if isinstance(root, dict) else None
    if not isinstance(database, dict):
        raise EtadError(f'{path}: no "database" of videos by id. Expected ActivityNet\'s JSON form.')
    refuse_repeats(str(path), root, {"database"})
    left_out = set(leave_out(database))
    check_ids(path, database)
    videos: dict[str, Video] = {}
    faults: dict[str, str] = {}
    for id, entry in database.items():
        if id in left_out:
            continue
        try:
            videos[id] = _read_video(id, entry)
        except EtadError as error:
            faults[id] = f"{path}: video '{id}'{error}"
    if faults:
        first, *others = faults
        more = f" So have {counted(len(others), 'other video')}: {listing(others)}." if others else ""
        raise EtadError(faults[first] + more)
    repeated = tuple(id for id in repeated_keys(database) if id not in left_out)
    return Annotations(path, videos, repeated, frozenset(_labels_of(database[id] for id in left_out)))


def _read_video(id: str, entry: Any) -> Video:
    """Read one entry; complaints begin behind the video's name."""
    if not isinstance(entry, dict):
        raise EtadError(": expected an object with subset, duration and annotations.")
    refuse_repeats("", entry, {"subset", "duration", "annotations"})
    duration = None
    if entry.get("duration") is not None:
        duration = _number(entry["duration"], "duration")
        if duration <= 0:
            raise EtadError(f": duration is {duration:g} s. Expected a positive number of seconds.")
    items = entry.get("annotations", [])
    if not isinstance(items, list):
        raise EtadError(': "annotations" is no list. Expected [{"segment": [start, end], "label": name}, ..].')
    actions = []
    for number, item in enumerate(items, start=1):
        try:
            actions.append(_read_action(item))
        except EtadError as error:
            raise EtadError(f", annotation {number}{error}") from error
    subset = entry.get("subset")
    return Video(
        id, "" if subset is None else subset if isinstance(subset, str) else shown(subset), duration, tuple(actions)
    )


def _read_action(item: Any) -> Action:
    segment = item.get("segment") if isinstance(item, dict) else None
    if not isinstance(segment, list) or len(segment) != 2:
        raise EtadError(f': expected "segment": [start, end] in seconds, found {shown(segment)}.')
    refuse_repeats("", item, {"segment", "label"})
    label = item.get("label")
    if not isinstance(label, str) or not label:
        raise EtadError(f': expected "label": a name, found {shown(label)}.')
    start, end = _number(segment[0], "segment"), _number(segment[1], "segment")
    if end < start:
        raise EtadError(f": segment ends at {end:g} s before it starts at {start:g} s. Swap or remove it.")
    return Action(start, end, label)


def _is_same(action: Action, other: Action) -> bool:
    """Whether the ends of two actions of one label are the same."""
    ends = (
        (action.start_seconds, other.start_seconds),
        (action.end_seconds, other.end_seconds),
    )
    return all(abs(one - another) <= SAME_SECONDS for one, another in ends)


def _labels_of(entries: Iterable[Any]) -> Iterator[str]:
    """Labels in entries that may be of any form."""
    for entry in entries:
        items = entry.get("annotations") if isinstance(entry, dict) else None
        for item in items if isinstance(items, list) else ():
            label = item.get("label") if isinstance(item, dict) else None
            if isinstance(label, str):
                yield label


def _nearest_subset(stated: str, used: Collection[str]) -> str:
    """The used subset, in the file's likely spelling, that comes nearest to what is stated; empty where none does."""
    names = {alias: alias for name in used for alias in subset_aliases(name)}
    names |= {name.lower(): name for name in used}
    found = difflib.get_close_matches(stated.strip().lower(), list(names), n=1)
    return names[found[0]] if found else ""


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise EtadError(f": {what}: expected a number of seconds, found {shown(value)}.") from error
    if isinstance(value, bool) or not math.isfinite(number):
        raise EtadError(f": {what}: expected a finite number of seconds, found {shown(value)}.")
    return number
