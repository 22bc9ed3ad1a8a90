"""Videos to clips: which frames each snippet takes, each frame decoded once, in memory that no length can fill."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..data.errors import EtadError
from ..data.timeline import Timeline, Timing, WantedFrames, spread, strided
from ..data.video import transforms
from ..data.video.files import FileStamp, file_stamp
from ..data.video.video import Readers, VideoInfo, VideoReader, open_video
from .augment import ColourJitter, RandAugment, apply_to_clips, draw_steps
from .prefetch import in_order

# A long video is decoded in stretches of so many batches by several workers at once.
_STRETCH_BATCHES = 8


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """From video to snippets (method, section 1); the fields are those of ClipSettings, which says what they mean."""

    layout: Literal["spread", "sliding"]
    num_snippets: int
    stride_frames: int
    fps: float | None
    clip_frames: int
    frame_step: int
    resize: tuple[int, int] | int
    crop: tuple[int, int] | int
    edge: Literal["repeat", "wrap"]
    still: bool = False

    def timeline(self, info: VideoInfo) -> Timeline:
        """Place the snippets of one video."""
        fps = self.fps or info.fps
        shape = {"clip_frames": self.clip_frames, "frame_step": self.frame_step}
        if self.layout == "spread":
            return spread(duration_seconds=info.duration_seconds, fps=fps, num_snippets=self.num_snippets, **shape)
        return strided(duration_seconds=info.duration_seconds, fps=fps, stride_frames=self.stride_frames, **shape)

    def describe(self) -> dict[str, Any]:
        """Tell what is done to frames, for the cache to keep; only what has a bearing on the layout."""
        idle = "stride_frames" if self.layout == "spread" else "num_snippets"
        return {name: value for name, value in asdict(self).items() if name != idle} | {"interpolation": "bilinear"}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is drawn anew for each training sample (Table 7).

    Parameters
    ----------
    crop
        `random`: anywhere in the frame; `centre`: the middle.
    jitter_frames
        How far each frame may be shifted in time, in frames of the grid.
    flip_probability
        How often clips are mirrored.
    rand_augment, colour_jitter
        How colours and shapes are changed; none: not at all.
    per_video
        Draw crop, mirroring, colours and shapes once for all snippets of a video (the released model), not for each.
    """

    crop: Literal["random", "centre"] = "random"
    jitter_frames: int = 0
    flip_probability: float = 0.0
    rand_augment: RandAugment | None = None
    colour_jitter: ColourJitter | None = None
    per_video: bool = False


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was noticed while a video was read.

    Parameters
    ----------
    stamp
        The file as it was before it was opened.
    lost_ticks
        When frames were due that could not be decoded, or not rightly.
    rules
        What is uncommon about the file, so that reading it needs a rule of its own.
    states_its_length
        A file cut short would have been refused.
    """

    stamp: FileStamp | None
    lost_ticks: frozenset[int] = frozenset()
    rules: tuple[str, ...] = ()
    states_its_length: bool = True


@dataclass(frozen=True, kw_only=True)
class ClipBatch:
    """Consecutive clips of one video.

    Parameters
    ----------
    clips
        uint8 (N, L, H, W, 3) RGB.
    first_snippet
        Number of the first of them among the video's snippets.
    timeline
        Where all of the video's snippets stand.
    reading
        What was noticed up to here, from the beginning of a stretch of the video.
    further
        The same clips in the sizes of other plans.
    """

    video_id: str
    path: Path
    clips: np.ndarray
    first_snippet: int
    timeline: Timeline
    reading: Reading
    further: tuple[np.ndarray, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether the video's last snippet is among these."""
        return self.first_snippet + len(self.clips) == self.timeline.num_snippets


@dataclass(frozen=True)
class Failure:
    """A video that could not be used: recorded, so that the others go on.

    Parameters
    ----------
    stamp
        The file as it was before it was opened; None where there was none.
    """

    video_id: str
    path: Path
    reason: str
    stamp: FileStamp | None = field(default=None, compare=False)

    def as_row(self) -> list[str]:
        """As JSON and checkpoints hold it; `of_row` reads it back."""
        return [self.video_id, str(self.path), self.reason]

    @classmethod
    def of_row(cls, row: Sequence[str]) -> Failure:
        video_id, path, reason = row
        return cls(video_id, Path(path), reason)


def clip_batches(
    sources: Mapping[str, Path],
    plan: ClipPlan,
    *,
    batch_clips: int,
    workers: int,
    further: Sequence[ClipPlan] = (),
) -> Generator[ClipBatch | Failure, None, None]:
    """Decode videos ahead of their use, in batches that never mix videos.

    Parameters
    ----------
    sources
        Video files by id.
    batch_clips
        Clips in a batch; a video's last batch may have fewer.
    workers
        Threads that decode ahead; 0 decodes when asked.
    further
        Other plans of the same snippets, with a resize and a crop of their own: videos are decoded once for all.

    Yields
    ------
    Every video's batches in the order of `sources`, the same whatever the number of workers; or its failure, in place
    of the batches that are missing.
    """

    plans = [plan, *further]

    def stretches(video_id: str, path: Path) -> list[Iterator[ClipBatch | Failure]]:
        """Open a video and say how it is to be read: in one go, or in stretches where several workers gain by it."""
        stamp = file_stamp(path)
        try:
            with open_video(path) as video:
                timeline = plan.timeline(video.info)
                corners = [_corners(video, timeline, each) for each in plans]
        except EtadError as error:
            return [iter([Failure(video_id, path, str(error), stamp)])]
        step = _STRETCH_BATCHES * batch_clips if workers > 1 and video.can_seek else timeline.num_snippets
        starts = range(0, timeline.num_snippets, step)
        readers = Readers(video, stretches=len(starts))
        return [stretch(video_id, readers, stamp, timeline, corners, start, start + step) for start in starts]

    def stretch(
        video_id: str,
        readers: Readers,
        stamp: FileStamp | None,
        timeline: Timeline,
        corners: Sequence[np.ndarray],
        start: int,
        stop: int,
    ) -> Iterator[ClipBatch | Failure]:
        part = replace(timeline, start_frames=timeline.start_frames[start:stop])

        def indices_of(first: int, last: int) -> np.ndarray:
            some = replace(part, start_frames=part.start_frames[first:last])
            return some.clip_frame_indices(plan.edge, still=plan.still)

        first, places = start, [each[start:stop] for each in corners]
        try:
            with readers.one() as video:
                for clips, *others in _read(video, indices_of, timeline.fps, places, plans, batch_clips):
                    reading = Reading(
                        stamp=stamp,
                        lost_ticks=video.lost_ticks,
                        rules=video.rules,
                        states_its_length=video.states_its_length,
                    )
                    yield ClipBatch(
                        video_id=video_id,
                        path=readers.path,
                        clips=clips,
                        first_snippet=first,
                        timeline=timeline,
                        reading=reading,
                        further=tuple(others),
                    )
                    first += len(clips)
        except EtadError as error:
            yield Failure(video_id, readers.path, str(error), stamp)

    failed = ""
    jobs = [(video_id, Path(path)) for video_id, path in sources.items()]
    for item in in_order(stretches, jobs, workers=workers, ahead=_STRETCH_BATCHES):
        if item.video_id != failed:  # a broken video's later stretches are of no use
            yield item
        if isinstance(item, Failure):
            failed = item.video_id


def read_clips(
    path: Path,
    plan: ClipPlan,
    *,
    augment: Augmentation | None,
    generator: np.random.Generator,
    first: int = 0,
    count: int | None = None,
    lost_ticks: set[int] | None = None,
) -> tuple[np.ndarray, Timing]:
    """Read all clips of a video, or of a window of it, at once, for end-to-end training.

    Parameters
    ----------
    augment
        None: as in extraction.
    generator
        Of this sample alone, so that the draws depend on no other sample (see `transforms.sample_generator`).
    first, count
        Snippets to read; all from the first on where no count is given.
    lost_ticks
        Gets when frames were due that could not be decoded rightly; the one before stands in.

    Returns
    -------
    uint8 (T, L, H, W, 3) RGB, and where the snippets stand; jitter leaves that as it is.

    Raises
    ------
    EtadError
        The video cannot be read, or its frames are too small.
    """
    with open_video(path) as video:
        whole = plan.timeline(video.info)
        stop = None if count is None else first + count
        timeline = replace(whole, start_frames=whole.start_frames[first:stop])
        corners = _corners(video, timeline, plan, augment, generator)
        shifts, mirrored = None, np.zeros(timeline.num_snippets, dtype=bool)
        if augment is not None:
            draws = generator.random(timeline.num_snippets)
            mirrored = (draws[:1].repeat(len(draws)) if augment.per_video else draws) < augment.flip_probability
            if augment.jitter_frames:
                shifts = transforms.jitter_shifts(
                    timeline.num_snippets,
                    plan.clip_frames,
                    largest_frames=augment.jitter_frames,
                    generator=generator,
                )
        indices = timeline.clip_frame_indices(plan.edge, shifts, still=plan.still)
        places, all_clips = [corners], timeline.num_snippets
        ((clips,),) = _read(video, lambda start, stop: indices[start:stop], timeline.fps, places, [plan], all_clips)
        if lost_ticks is not None:
            lost_ticks |= video.lost_ticks
    clips[mirrored] = transforms.flip(clips[mirrored])
    if augment is not None:
        steps = draw_steps(
            1 if augment.per_video else len(clips),
            rand_augment=augment.rand_augment,
            colour_jitter=augment.colour_jitter,
            generator=generator,
        )
        apply_to_clips(clips, indices, steps)
    return clips, Timing.of(timeline)


def _corners(
    video: VideoReader,
    timeline: Timeline,
    plan: ClipPlan,
    augment: Augmentation | None = None,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Top and left of what is cut out for every snippet, (T, 2)."""
    count = timeline.num_snippets
    size = transforms.resized_size(video.info.width, video.info.height, plan.resize)
    try:
        if augment is None or generator is None or augment.crop == "centre":
            return np.broadcast_to(transforms.centre_corner(*size, crop=plan.crop), (count, 2))
        draws = 1 if augment.per_video else count
        return transforms.random_corners(draws, *size, crop=plan.crop, generator=generator).repeat(count // draws, 0)
    except EtadError as error:
        raise EtadError(f"{video.path}: {error}") from error


def _read(
    video: VideoReader,
    indices_of: Callable[[int, int], np.ndarray],
    fps: float,
    corners: Sequence[np.ndarray],
    plans: Sequence[ClipPlan],
    batch_clips: int,
) -> Iterator[list[np.ndarray]]:
    """Read clips, keeping a frame only while a later clip needs it.

    Parameters
    ----------
    indices_of
        Frames of the grid of clips from one number to another, (N, L).
    corners
        (T, 2) for each plan: top and left of what is cut out for each clip.
    plans
        They differ in resize and crop alone.

    Yields
    ------
    Consecutive clips, uint8 (batch_clips or fewer, L, H, W, 3), of each plan.
    """
    num_clips = len(corners[0])
    wanted = WantedFrames(indices_of, num_clips)
    times_seconds = (frames / fps for frames in wanted)
    kept, last_clip = _new_frames(), dict[int, int]()
    sides = [transforms.crop_size(plan.crop) for plan in plans]
    clip, batches = 0, list[np.ndarray]()
    for _, images in video.read_sizes(times_seconds, resizes=[plan.resize for plan in plans]):
        frame, last = wanted.taken.popleft()
        kept[frame], last_clip[frame] = images, last
        while wanted.clips and wanted.clips[0][0] <= frame:
            sources = wanted.clips.popleft()[1].tolist()
            row = clip % batch_clips
            if row == 0:
                shape = (min(batch_clips, num_clips - clip), plans[0].clip_frames)
                batches = [np.empty((*shape, height, width, 3), dtype=np.uint8) for width, height in sides]
            for number, plan in enumerate(plans):
                top, left = corners[number][clip].tolist()
                for target, source in zip(batches[number][row], sources, strict=True):
                    target[...] = transforms.cut(kept[source][number], top, left, plan.crop)
            for source in set(sources):
                if last_clip[source] <= clip:
                    del kept[source], last_clip[source]
            clip += 1
            if row + 1 == len(batches[0]):
                yield batches
    assert clip == num_clips and not kept, (clip, num_clips, len(kept))


def lost_frames_text(count: int) -> str:
    """Say how much of a video could not be decoded."""
    have = "frame" if count == 1 else "frames"
    return f"{count} {have} could not be decoded rightly; where there is none, the one before stands in"


def flaw(video_id: str, path: Path, *faults: str) -> Failure:
    """What is wrong with a video that could be used all the same."""
    return Failure(video_id, path, f"{path}: {'; '.join(faults)}. Fetch it anew, or leave it out.")


def _new_frames() -> dict[int, list[np.ndarray]]:
    return {}
