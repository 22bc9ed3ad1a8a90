"""A synthetic data set whose actions differ by motion, not by look: drawn, encoded and annotated in seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..annotations import Action, read_json
from ..digest import values_digest
from ..errors import EtadError
from ..files.atomic import write_json
from ..progress import progress_bar
from ..video.video import write_video
from .motion import DOMAINS, REST, draw_scenes, move, render

# Of a set's folder.
ANNOTATIONS, VIDEOS, _STAMP = "annotations.json", "videos", "synthetic.json"
_VERSION = 1  # of the pictures: a folder drawn by another version is refused, not mixed
_FRAMES_AT_ONCE = 64
_SHORTEST_ACTION_SECONDS = 3.0
_LONGEST_ACTION_SECONDS = 14.0
_SHORTEST_REST_SECONDS = 2.0


@dataclass(frozen=True)
class SyntheticSpec:
    """What to draw.

    Of eight videos one has no action, two have actions of two classes and five of one; classes take turns.

    Parameters
    ----------
    num_videos
        Videos of the set, training and validation together.
    domain
        `target` is the set to detect on. `source` has other actions and another look, to pretrain an encoder on.
    shortest_seconds, longest_seconds
        Range of the videos' lengths.
    size
        Side of the square frames, pixels; even.
    fps
        Frames per second.
    difficulty
        0 to 1: how faint the actors are, how grainy the picture, how many distractors, how fast the background.
    validation_share
        Share of the videos, the last ones, in the subset `validation`; the others are in `training`.
    seed
        Two sets of one seed are the same, frame by frame.

    Raises
    ------
    EtadError
        A value is out of its range.
    """

    num_videos: int = 56
    domain: str = "target"
    shortest_seconds: float = 20.0
    longest_seconds: float = 60.0
    size: int = 48
    fps: float = 10.0
    difficulty: float = 0.2
    validation_share: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            f"num_videos={self.num_videos}, expected at least 1": self.num_videos >= 1,
            f"domain={self.domain!r}, expected one of {', '.join(DOMAINS)}": self.domain in DOMAINS,
            f"seconds from {self.shortest_seconds:g} to {self.longest_seconds:g}, expected 5 or more, ascending": (
                5 <= self.shortest_seconds <= self.longest_seconds < float("inf")
            ),
            f"size={self.size}, expected an even number from 16 on": self.size >= 16 and self.size % 2 == 0,
            f"fps={self.fps:g}, expected 5 to 60": 5 <= self.fps <= 60,
            f"difficulty={self.difficulty:g}, expected 0 to 1": 0 <= self.difficulty <= 1,
            f"validation_share={self.validation_share:g}, expected 0 to 1": 0 <= self.validation_share <= 1,
            f"seed={self.seed}, expected 0 or more": self.seed >= 0,
        }
        for complaint, kept in rules.items():
            if not kept:
                raise EtadError(f"synthetic set: {complaint}.")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the domain's actions."""
        return tuple(DOMAINS[self.domain].actions)

    @property
    def digest(self) -> str:
        """Name this very set: same digest, same frames and annotations."""
        return values_digest({**asdict(self), "version": _VERSION})[:16]


def make_dataset(folder: Path, spec: SyntheticSpec, *, workers: int = 2) -> Path:
    """Write `videos/<id>.mp4` and `annotations.json`; returns the path of the annotations.

    Safe to repeat: videos that are there are kept, and a finished set is left alone.

    Raises
    ------
    EtadError
        The folder holds a synthetic set of another spec.
    """
    folder = Path(folder)
    annotations, stamp, videos = folder / ANNOTATIONS, folder / _STAMP, folder / VIDEOS
    check_drawn(folder, spec)
    paths = [videos / f"{_video_id(spec, index)}.mp4" for index in range(spec.num_videos)]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    if annotations.exists() and not missing:
        return annotations
    videos.mkdir(parents=True, exist_ok=True)
    write_json(stamp, {"digest": spec.digest, **asdict(spec)}, indent=2)
    # Drawing and encoding both release Python's lock, so threads keep all cores busy.
    with ThreadPoolExecutor(max(1, min(workers, os.cpu_count() or 1))) as pool:
        drawn = pool.map(lambda index: _write_one(paths[index], spec, index), missing)
        list(progress_bar("draw", drawn, unit="video", total=len(missing)))
    return write_json(annotations, _annotate(spec), indent=1)


def check_drawn(folder: Path, spec: SyntheticSpec) -> None:
    """Refuse a folder with a set that was drawn otherwise.

    Raises
    ------
    EtadError
        The folder holds a synthetic set of another spec.
    """
    stamp = folder / _STAMP
    if not stamp.exists():
        return
    found = read_json(stamp, what="the stamp of a synthetic set")
    if not isinstance(found, dict) or found.get("digest") != spec.digest:
        raise EtadError(
            f"{stamp.parent}: holds a synthetic set of another kind than the one asked for. "
            "Name another folder, or remove this one."
        )


def draw_video(spec: SyntheticSpec, index: int) -> tuple[Iterator[np.ndarray], tuple[Action, ...]]:
    """Draw one video.

    Returns
    -------
    frames
        uint8 (S, S, 3) RGB each, drawn as they are asked for.
    actions
        In seconds, ascending, none overlapping; they start and end with a frame.
    """
    num_frames, plan = _plan(spec, index)
    labels = spec.labels
    actions = tuple(Action(start / spec.fps, end / spec.fps, labels[label]) for label, start, end in plan)
    return _draw_frames(spec, index, num_frames, plan), actions


def draw_clips(
    spec: SyntheticSpec,
    rng: np.random.Generator,
    num_clips: int,
    *,
    clip_frames: int,
    size: int | None = None,
    camera_share: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw clips, each of another scene: a stream of them never repeats.

    Parameters
    ----------
    size
        Side of the frames, pixels; none: the spec's.
    camera_share
        Share of the clips in which the whole scene moves as the actor would. There every pixel shows the motion, so
        that a network learns from them first what it hardly finds in small actors.

    Returns
    -------
    clips
        uint8 (N, L, S, S, 3) RGB.
    classes
        int64 (N,): index into `spec.labels`; one past the last means no action.
    """
    domain = DOMAINS[spec.domain]
    rest = len(domain.actions)
    classes = rng.integers(0, rest + 1, num_clips)
    scenes = draw_scenes(domain, rng, num_clips, difficulty=spec.difficulty)
    action_of_frame = np.repeat(np.where(classes == rest, REST, classes)[:, None], clip_frames, axis=1)
    paths = move(scenes, action_of_frame, fps=spec.fps, easing=False, camera_moves=rng.random(num_clips) < camera_share)
    return render(scenes, paths, rng, size=size or spec.size), classes


def _write_one(path: Path, spec: SyntheticSpec, index: int) -> None:
    frames, _ = draw_video(spec, index)
    write_video(path, frames, fps=spec.fps)


def _draw_frames(
    spec: SyntheticSpec, index: int, num_frames: int, plan: list[tuple[int, int, int]]
) -> Iterator[np.ndarray]:
    rng = np.random.default_rng([spec.seed, index, 1])
    scenes = draw_scenes(DOMAINS[spec.domain], rng, 1, difficulty=spec.difficulty)
    action_of_frame = np.full((1, num_frames), REST)
    for label, start, end in plan:
        action_of_frame[0, start:end] = label
    paths = move(scenes, action_of_frame, fps=spec.fps)
    for first in range(0, num_frames, _FRAMES_AT_ONCE):
        part = paths.cut(first, first + _FRAMES_AT_ONCE)
        yield from render(scenes, part, rng, size=spec.size)[0]


def _plan(spec: SyntheticSpec, index: int) -> tuple[int, list[tuple[int, int, int]]]:
    """Number of frames, and (class, first frame, one past the last) of each action."""
    rng = np.random.default_rng([spec.seed, index, 0])
    seconds = rng.uniform(spec.shortest_seconds, spec.longest_seconds)
    num_frames = round(seconds * spec.fps)
    classes = _classes_of(spec, index)
    if not classes:
        return num_frames, []
    # 1. Lengths from short to long, as many as fill about half of the video.
    lengths: list[float] = []
    while len(lengths) < len(classes) or sum(lengths) < rng.uniform(0.3, 0.5) * seconds:
        longest = min(_LONGEST_ACTION_SECONDS, seconds / 3)
        shortest = min(_SHORTEST_ACTION_SECONDS, longest)
        lengths.append(float(np.exp(rng.uniform(np.log(shortest), np.log(longest)))))
    while sum(lengths) > 0.7 * seconds and len(lengths) > len(classes):
        lengths.pop()
    # 2. The rest of the video is shared out among the gaps, each with its least.
    least = min(_SHORTEST_REST_SECONDS, (seconds - sum(lengths)) / (len(lengths) + 1))
    spare = seconds - sum(lengths) - least * (len(lengths) + 1)
    gaps = least + spare * rng.dirichlet(np.ones(len(lengths) + 1))
    # 3. Every class of the video occurs.
    order = rng.permutation(np.resize(classes, len(lengths)))
    plan, at = [], 0.0
    for label, length, gap in zip(order, lengths, gaps):
        start = at + gap
        at = start + length
        plan.append((int(label), round(start * spec.fps), min(round(at * spec.fps), num_frames)))
    return num_frames, plan


def _classes_of(spec: SyntheticSpec, index: int) -> list[int]:
    first, classes = index % len(spec.labels), len(spec.labels)
    if index % 8 == 5:
        return []
    return [first, (first + 1) % classes] if index % 8 in (2, 6) else [first]


def _annotate(spec: SyntheticSpec) -> dict[str, object]:
    num_training = spec.num_videos - round(spec.validation_share * spec.num_videos)
    database = {}
    for index in range(spec.num_videos):
        num_frames, plan = _plan(spec, index)
        database[_video_id(spec, index)] = {
            "subset": "training" if index < num_training else "validation",
            "duration": num_frames / spec.fps,
            "annotations": [
                {"segment": [start / spec.fps, end / spec.fps], "label": spec.labels[label]}
                for label, start, end in plan
            ],
        }
    return {"version": f"synthetic {spec.digest}", "taxonomy": [], "database": database}


def _video_id(spec: SyntheticSpec, index: int) -> str:
    return f"{spec.domain}_{index:04d}"
