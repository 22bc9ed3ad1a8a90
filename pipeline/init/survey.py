"""Video files and labels of one's own, looked at together: what there is, what goes with what, who is trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ...data.annotations import Action, Video, match_ids, subset_aliases
from ...data.durations import OUTSIDE, clean
from ...data.errors import EtadError, counted, listing, nearest
from ...data.importers.labels.read import read_labels
from ...data.importers.labels.rows import Labels
from ...data.progress import progress_bar
from ...data.video.reader import VideoInfo
from ...data.video.video import VIDEO_SUFFIXES, find_videos, probe
from .choose import choose_split

TRAINING, VALIDATION, TEST = "training", "validation", "test"


@dataclass(frozen=True)
class Survey:
    """What files and labels hold.

    Parameters
    ----------
    folder, source
        Where the videos lie, and the labels.
    videos
        Labelled videos that have a file: with its id and measured duration, actions as labelled, in a subset.
    labelled
        The same videos as they were labelled: with the durations that are stated.
    files
        What was measured of their files, by id.
    subsets
        To train on, to choose the best checkpoint by (none: None), to test on.
    split_seed
        What the videos were split by; None: the labels say who is in which subset.
    num_kept
        Videos that stayed in the subset that they were in before.
    without_file, without_labels
        Videos that are left out of the annotations.
    unreadable
        Why a file could not be opened, by its name.
    left_out
        Rows of the labels that could not be used, and why.
    notes
        How the labels were understood; what was passed over, or matched by less than the whole name.
    """

    folder: Path
    source: Path
    videos: tuple[Video, ...]
    labelled: tuple[Video, ...]
    files: Mapping[str, VideoInfo]
    subsets: tuple[str, str | None, str]
    split_seed: int | None
    num_kept: int
    without_file: tuple[str, ...]
    without_labels: tuple[str, ...]
    unreadable: Mapping[str, str]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def tested_subsets(self) -> tuple[str, str]:
        """To train on and to test on."""
        return self.subsets[0], self.subsets[2]


def survey(
    folder: Path,
    source: Path,
    *,
    seed: int,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    fps: float | None = None,
    known_subsets: Mapping[str, str] | None = None,
) -> Survey:
    """Look at a folder of videos and a file of labels.

    Parameters
    ----------
    seed
        Of the split, where the labels state no subset.
    layout, columns, fps
        How the labels are to be read, where that is not to be found out.
    known_subsets
        Subsets that videos were in before: they stay there.

    Raises
    ------
    EtadError
        There is no video, no label, nothing that goes with each other, or nothing to tell who is trained on.
    """
    labels = read_labels(source, layout=layout, columns=columns, fps=fps)
    read, notes = _videos(labels), [*labels.notes]
    found = find_videos(folder)
    notes += [found.passed_over_text()] if found.passed_over else []
    matches, loosely = match_names(list(read), found.files, where=str(folder))
    if not matches:
        raise EtadError(
            f"{source}: none of its {counted(len(read), 'video')} ({listing(read, most=3)}) has a file "
            f"in {folder} ({listing(found.files, most=3)}). A video is named by its file, with or without the suffix."
        )
    if loosely:
        pairs = [f"'{name}' is {found.files[id].name}" for name, id in loosely.items()]
        notes.append(f"{counted(len(pairs), 'video')} matched by part of the name: {listing(pairs, most=3)}")
    files: dict[str, VideoInfo] = {}
    unreadable: dict[str, str] = {}
    for id in progress_bar("look at files", matches.values(), unit="video"):
        try:
            files[id] = probe(found.files[id])
        except EtadError as error:
            unreadable[found.files[id].name] = str(error)
    labelled = tuple(replace(read[name], id=id) for name, id in matches.items() if id in files)
    usable, lost = _usable(labelled, files)
    if not any(video.actions for video in usable):
        raise EtadError(
            f"{source}: no video that can be opened has a labelled action within it. Check the files, and the labels' "
            "times and their unit."
        )
    split = _subsets(usable, seed=seed, known=known_subsets or {}, source=source)
    videos = tuple(replace(video, subset=split.subsets[video.id]) for video in usable)
    return Survey(
        folder=folder,
        source=source,
        videos=videos,
        labelled=tuple(replace(video, subset=split.subsets.get(video.id, TRAINING)) for video in labelled),
        files=files,
        subsets=split.roles,
        split_seed=seed if split.is_drawn else None,
        num_kept=split.num_kept,
        without_file=tuple(name for name in read if name not in matches),
        without_labels=tuple(sorted(set(found.files) - set(matches.values()))),
        unreadable=unreadable,
        left_out=(*labels.left_out, *lost),
        notes=(*notes, *split.notes),
    )


def match_names(
    names: Sequence[str], files: Mapping[str, Path], *, where: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Find the file that each labelled video means: by its id, else by its file name, whatever folder and case.

    Returns
    -------
    Ids by name, all of them; and those of them that were found by less than the whole name.

    Raises
    ------
    EtadError
        Two names mean one file, or one name could mean two.
    """
    matches = match_ids(names, files, where=where)
    loosely: dict[str, str] = {}
    for name in names:
        if name in matches:
            continue
        path = PurePosixPath(name.strip().replace("\\", "/"))
        stem = (path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name).casefold()
        candidates = [id for id, file in files.items() if stem in (id.casefold(), file.stem.casefold())]
        exact = [id for id in candidates if files[id].name == path.name]
        candidates = exact if len(exact) == 1 else candidates
        if len(candidates) > 1:
            raise EtadError(f"{where}: '{name}' could be {' or '.join(candidates[:2])}. Rename one of the files.")
        if candidates:
            matches[name] = candidates[0]
            if files[candidates[0]].name != name:
                loosely[name] = candidates[0]
    named: dict[str, str] = {}
    for name, id in matches.items():
        if id in named:
            raise EtadError(f"{where}: '{named[id]}' and '{name}' both mean {files[id].name}. Name it in one way.")
        named[id] = name
    return {name: matches[name] for name in names if name in matches}, loosely


def _videos(labels: Labels) -> dict[str, Video]:
    """Labelled videos by name; one for which no subset is stated is in none."""
    actions: dict[str, list[Action]] = {name: [] for name in labels.videos}
    for row in labels.rows:
        actions[row.video].append(Action(row.start_seconds, row.end_seconds, row.label))
    return {
        name: Video(name, labels.subsets.get(name, ""), labels.durations.get(name), tuple(found))
        for name, found in actions.items()
    }


def _usable(videos: Sequence[Video], files: Mapping[str, VideoInfo]) -> tuple[list[Video], list[str]]:
    """Videos with their measured durations and the actions that lie in them, and why others cannot be used.

    One whose every action lies outside of it is left out: something happens in it, at times that nobody knows.
    """
    usable, lost = [], []
    for video in videos:
        seconds = files[video.id].duration_seconds
        cleaned, repairs = clean(video, seconds)
        if not cleaned.actions and any(repair.kind == OUTSIDE for repair in repairs):
            lost.append(f"all of video '{video.id}', whose every action lies outside its {seconds:.2f} s")
        else:
            usable.append(cleaned)
    return usable, lost


@dataclass(frozen=True)
class _Split:
    """Subset of each video; those to train, validate and test on; whether they were drawn; what there is to say."""

    subsets: dict[str, str]
    roles: tuple[str, str | None, str]
    is_drawn: bool
    num_kept: int
    notes: list[str]


def _subsets(videos: Sequence[Video], *, seed: int, known: Mapping[str, str], source: Path) -> _Split:
    if len(videos) < 2:
        raise EtadError(f"{source}: one video with a file is too few: at least one to train on and one to test on.")
    stated = {video.id: _canonical(video.subset) for video in videos if video.subset.strip()}
    kept = {video.id: _canonical(known[video.id]) for video in videos if video.id in known and video.id not in stated}
    open_videos = [video for video in videos if video.id not in stated | kept]
    notes = []
    if not stated:
        split = kept | _dealt(open_videos, kept.values(), seed=seed)
        if kept and len(set(split.values())) < 2:
            notes.append(f"all of them were in subset {next(iter(kept.values()))} before: they were dealt anew")
            kept, split = {}, _dealt(videos, (), seed=seed)
        names = {TRAINING, VALIDATION} if not kept else {TRAINING, *split.values()}
        where = f"{source} and the annotations of before"
        return _Split(split, _roles(names, where), True, len(kept), notes)
    if open_videos:
        some = counted(len(open_videos), "video")
        notes.append(f"{some} without a stated subset: trained on ({listing(video.id for video in open_videos)})")
    split = {video.id: (stated | kept).get(video.id, TRAINING) for video in videos}
    return _Split(split, _roles(set(split.values()), str(source)), False, len(kept), notes)


def _dealt(videos: Sequence[Video], names: Collection[str], *, seed: int) -> dict[str, str]:
    """Deal videos out, to the subset that is tested on among those that there are."""
    dealt = choose_split({video.id: [action.label for action in video.actions] for video in videos}, seed=seed)
    tested = TEST if TEST in names else VALIDATION
    return {id: TRAINING if subset == TRAINING else tested for id, subset in dealt.items()}


def _roles(names: Collection[str], source: str) -> tuple[str, str | None, str]:
    """Which subset is for what, by the usual names."""
    usual = [name for name in (TRAINING, VALIDATION, TEST) if name in names]
    if len(usual) == 3:
        return TRAINING, VALIDATION, TEST
    if len(usual) == 2:
        return usual[0], None, usual[1]
    others = sorted(set(names) - set(usual))
    hint = "".join(nearest(name, (TRAINING, VALIDATION, TEST)) for name in others[:1])
    raise EtadError(
        f"{source}: the subsets are {listing(sorted(names))}; expected two or three of training, validation and "
        f"test.{hint} Name them so, or leave all out to have the videos split."
    )


def _canonical(subset: str) -> str:
    aliases = subset_aliases(subset.strip())
    return next((name for name in (TRAINING, VALIDATION, TEST) if name in aliases), subset.strip())
