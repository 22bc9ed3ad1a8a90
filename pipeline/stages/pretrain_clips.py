"""Labelled clips to pretrain an encoder on: drawn ones, or cut out of annotated videos."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from ...data.annotations import Video
from ...data.durations import DurationConflict, clean, describe_conflicts, describe_repairs, duration_conflict
from ...data.errors import EtadError, counted, listing
from ...data.progress import progress_bar
from ...data.synthetic.dataset import SyntheticSpec, draw_clips
from ...data.video import transforms
from ...data.video.video import VideoReader, open_video
from ...extract.clips import ClipPlan, Failure, flaw, lost_frames_text
from ..config import Config
from .extract import find_sources
from .inputs import read_data

BACKGROUND = "background"
# Share of the drawn clips, at the end, in which the scene moves as a whole.
_LAST_CAMERA_SHARE = 0.15
# A broken stretch of a video is passed over; after so many in a row, another class has its turn.
_TRIES = 20
# Finding a video's frames means reading all of its file: so many are remembered.
_INDEXED_VIDEOS = 1000
# Looking at so many takes a while.
_MANY_VIDEOS = 20

_LOG = logging.getLogger(__name__)


class _Part(IntEnum):
    """Streams of random numbers: clips that are trained on, and those that never are."""

    TRAINING = 0
    HELD_OUT = 1


class ClipSource(Protocol):
    """Clips with their classes, a function of seed and number alone: training may stop and go on anywhere."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def failures(self) -> Mapping[str, Failure]:
        """Videos that could not be used, by id, as far as they have been found out."""

    @property
    def flawed(self) -> Mapping[str, Failure]:
        """Videos of which frames were due that could not be decoded rightly, by id."""

    @property
    def files(self) -> Mapping[str, Path]:
        """The video files that are learned from, by id."""

    @property
    def can_measure(self) -> bool:
        """Whether there is any clip that is never trained on."""

    def batch(self, step: int, num_clips: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (N, L, H, W, 3) and int64 (N,) to train on."""

    def held_out(self, number: int, num_clips: int) -> tuple[np.ndarray, np.ndarray]:
        """The same, never trained on."""


@dataclass(frozen=True, kw_only=True)
class DrawnClips:
    """Clips of the synthetic source set; none comes twice.

    Parameters
    ----------
    size
        Side of the frames, pixels.
    steps, camera_steps
        Number of training steps, and the share of them over which scenes that move as a whole get fewer.
    """

    spec: SyntheticSpec
    clip_frames: int
    size: int
    steps: int
    camera_steps: float
    seed: int

    @property
    def labels(self) -> tuple[str, ...]:
        return (*self.spec.labels, BACKGROUND)

    @property
    def failures(self) -> dict[str, Failure]:
        return {}

    @property
    def flawed(self) -> dict[str, Failure]:
        return {}

    @property
    def files(self) -> dict[str, Path]:
        return {}

    @property
    def can_measure(self) -> bool:
        return True

    def batch(self, step: int, num_clips: int) -> tuple[np.ndarray, np.ndarray]:
        until = self.camera_steps * self.steps
        left = max(1 - step / until, 0.0) if until else 0.0
        share = _LAST_CAMERA_SHARE + (1 - _LAST_CAMERA_SHARE) * left
        return self._draw([self.seed, _Part.TRAINING, step], num_clips, share)

    def held_out(self, number: int, num_clips: int) -> tuple[np.ndarray, np.ndarray]:
        return self._draw([self.seed, _Part.HELD_OUT, number], num_clips, 0.0)

    def _draw(self, seed: list[int], num_clips: int, camera_share: float) -> tuple[np.ndarray, np.ndarray]:
        return draw_clips(
            self.spec,
            np.random.default_rng(seed),
            num_clips,
            clip_frames=self.clip_frames,
            size=self.size,
            camera_share=camera_share,
        )


class AnnotatedClips:
    """Clips out of annotated videos: their middle is anywhere in an action, or outside all actions.

    Parameters
    ----------
    sources
        Video files by id.
    training, held_out
        Annotated videos to learn from, and to measure the accuracy on (may be empty). Those without a file are left
        out.
    plan
        How clips are cut: frames, rate, size. Training crops anywhere, measuring in the middle.
    background
        Take clips outside all actions too, as one more class.
    seed
        Where every draw comes from.

    Raises
    ------
    EtadError
        No training video has a file and an action.
    """

    def __init__(
        self,
        sources: Mapping[str, Path],
        *,
        training: Sequence[Video],
        held_out: Sequence[Video],
        plan: ClipPlan,
        background: bool,
        seed: int,
    ) -> None:
        self.failures: dict[str, Failure] = {}
        self._lost_ticks: dict[str, frozenset[int]] = {}
        self.conflicts: list[DurationConflict] = []
        self._sources, self._plan, self._seed = sources, plan, seed
        self.files = {video.id: sources[video.id] for video in training if video.id in sources}
        self._indexed = lru_cache(maxsize=_INDEXED_VIDEOS)(_index)
        classes = sorted({action.label for video in training for action in video.actions})
        self.labels = (*classes, BACKGROUND) if background else tuple(classes)
        self._training = self._stretches(training, background)
        self._held_out = self._stretches(held_out, background)
        if self.conflicts:
            _LOG.warning("%s", describe_conflicts(self.conflicts))
        if not any(self._training.get(label) for label in classes):
            if self.failures:
                raise self._nothing_readable()
            raise EtadError(
                f"no clip to pretrain on: none of {counted(len(training), 'training video')} has both a file and "
                "an action. Name the folder of the videos with --videos, or check data.train_subset."
            )

    @property
    def flawed(self) -> dict[str, Failure]:
        said = ((id, lost_frames_text(len(ticks))) for id, ticks in sorted(self._lost_ticks.items()))
        return {id: flaw(id, self._sources[id], text) for id, text in said}

    @property
    def can_measure(self) -> bool:
        return bool(self._held_out)

    def batch(self, step: int, num_clips: int) -> tuple[np.ndarray, np.ndarray]:
        draws = [np.random.default_rng([self._seed, _Part.TRAINING, step, row]) for row in range(num_clips)]
        return self._cut(self._training, draws, random_crop=True)

    def held_out(self, number: int, num_clips: int) -> tuple[np.ndarray, np.ndarray]:
        draws = [np.random.default_rng([self._seed, _Part.HELD_OUT, number, row]) for row in range(num_clips)]
        return self._cut(self._held_out, draws, random_crop=False)

    def _stretches(self, videos: Sequence[Video], background: bool) -> dict[str, list[_Stretch]]:
        """Stretches of video by label; videos whose annotations are wrong are recorded and left out."""
        found: dict[str, list[_Stretch]] = {}
        for video in progress_bar("look at files", videos, unit="video", shown=len(videos) > _MANY_VIDEOS):
            path = self._sources.get(video.id)
            if path is None:
                continue
            try:
                measured = self._indexed(path).info.duration_seconds
            except EtadError as error:
                self.failures[video.id] = Failure(video.id, path, str(error))
                continue
            conflict = duration_conflict(video, measured)
            if conflict is not None:
                self.conflicts.append(conflict)
            # Where they agree, the stated one, so that clips are cut as they always were.
            seconds = measured if conflict is not None or video.duration_seconds is None else video.duration_seconds
            cleaned, repairs = clean(video, seconds)
            problems = [repair for repair in repairs if repair.is_problem]
            if problems:  # which stretches show what, nobody knows
                self.failures[video.id] = Failure(video.id, path, describe_repairs(problems))
                continue
            at = 0.0
            for action in sorted(cleaned.actions, key=lambda action: action.start_seconds):
                if action.label in self.labels:
                    found.setdefault(action.label, []).append(
                        _Stretch(video.id, path, action.start_seconds, action.end_seconds)
                    )
                if background and action.start_seconds > at:
                    found.setdefault(BACKGROUND, []).append(_Stretch(video.id, path, at, action.start_seconds))
                at = max(at, action.end_seconds)
            if background and seconds > at:
                found.setdefault(BACKGROUND, []).append(_Stretch(video.id, path, at, seconds))
        return found

    def _nothing_readable(self) -> EtadError:
        return EtadError(
            f"no class has a clip that can be read; the last failed with: "
            f"{list(self.failures.values())[-1].reason} Videos with faults: {listing(self.failures)}."
        )

    def _cut(
        self, stretches: Mapping[str, list[_Stretch]], draws: Sequence[np.random.Generator], *, random_crop: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        labels = [label for label in self.labels if stretches.get(label)]
        clips, classes = [], []
        for rng in draws:
            clip, left = None, list(labels)
            while clip is None:
                if not left:
                    raise self._nothing_readable()
                # Every class as often as any other, but for one of which nothing can be read.
                label = left.pop(int(rng.integers(len(left))))
                clip = self._cut_one(stretches[label], rng, random_crop=random_crop)
            clips.append(clip)
            classes.append(self.labels.index(label))
        return np.stack(clips), np.asarray(classes, dtype=np.int64)

    def _cut_one(
        self, stretches: Sequence[_Stretch], rng: np.random.Generator, *, random_crop: bool
    ) -> np.ndarray | None:
        for _ in range(_TRIES):
            stretch = stretches[int(rng.integers(len(stretches)))]
            middle = rng.uniform(stretch.start_seconds, stretch.end_seconds)
            try:
                return self._read(stretch, middle, rng, random_crop=random_crop)
            except EtadError as error:
                self.failures[stretch.video_id] = Failure(stretch.video_id, stretch.path, str(error))
        return None

    def _read(self, stretch: _Stretch, middle: float, rng: np.random.Generator, *, random_crop: bool) -> np.ndarray:
        plan, id = self._plan, stretch.video_id
        with open_video(stretch.path, known=self._indexed(stretch.path)) as video:
            fps = plan.fps or video.info.fps
            span = plan.clip_frames * plan.frame_step
            first = round(middle * fps - span / 2)
            frames = np.clip(first + np.arange(plan.clip_frames) * plan.frame_step, 0, None)
            size = transforms.resized_size(video.info.width, video.info.height, plan.resize)
            if random_crop:
                top, left = transforms.random_corners(1, *size, crop=plan.crop, generator=rng)[0].tolist()
            else:
                top, left = transforms.centre_corner(*size, crop=plan.crop)
            shown = [frame for _, frame in video.read(frames / fps, resize=plan.resize)]
            if video.lost_ticks:  # put in place whole: another thread may have lost others
                self._lost_ticks[id] = self._lost_ticks.get(id, frozenset()) | frozenset(video.lost_ticks)
        return transforms.cut(np.stack(shown), top, left, plan.crop)


@dataclass(frozen=True)
class _Stretch:
    """Part of a video in which one action, or none, is to be seen."""

    video_id: str
    path: Path
    start_seconds: float
    end_seconds: float


def _index(path: Path) -> VideoReader:
    with open_video(path) as video:
        return video


def drawn_clips(config: Config) -> tuple[ClipSource, dict[str, object]]:
    """Clips of the synthetic source set as a config says, and what they depend on.

    Raises
    ------
    EtadError
        Pictures are not square.
    """
    side, other = transforms.crop_size(config.clips.crop)
    if side != other:
        raise EtadError(
            f"clips.crop={[side, other]}: the synthetic source set has square frames. "
            f"Set clips.crop={side}, or pretrain.source='videos'."
        )
    spec = SyntheticSpec(
        domain="source",
        size=config.demo.size,
        fps=config.demo.fps,
        difficulty=config.pretrain.difficulty,
        seed=config.seed,
    )
    source = DrawnClips(
        spec=spec,
        clip_frames=config.clips.clip_frames,
        size=side,
        steps=config.pretrain.steps,
        camera_steps=config.pretrain.camera_steps,
        seed=config.seed,
    )
    return source, {"drawn": spec.digest, "size": side}


def annotated_clips(config: Config) -> tuple[ClipSource, dict[str, object]]:
    """Clips of the annotated videos that a config names, and what they depend on.

    Raises
    ------
    EtadError
        Annotations or videos cannot be read.
    """
    annotations = read_data(config)
    found = find_sources(config, annotations, None)
    plan = ClipPlan(**config.clips.model_dump())
    training = annotations.subset(config.data.train_subset)
    try:
        held_out = annotations.subset(config.data.test_subset)
    except EtadError:
        held_out = []  # nothing to measure the accuracy on is no reason not to train
    source = AnnotatedClips(
        found.files,
        training=training,
        held_out=held_out,
        plan=plan,
        background=config.pretrain.background,
        seed=config.seed,
    )
    videos = [(video.id, [vars(action) for action in video.actions]) for video in training]
    return source, {"plan": plan.describe(), "videos": videos}
