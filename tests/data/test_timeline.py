"""Which frames clips need, looked up a stretch at a time."""

from collections.abc import Callable

import numpy as np
import pytest

from etad.data.timeline import Timeline, WantedFrames, spread, strided


def lookup(timeline: Timeline, edge: str, shifts: np.ndarray | None = None) -> Callable[[int, int], np.ndarray]:
    indices = timeline.clip_frame_indices(edge, shifts)
    return lambda start, stop: indices[start:stop]


@pytest.mark.parametrize("edge", ["repeat", "wrap"])
@pytest.mark.parametrize("jitter", [0, 3])
@pytest.mark.parametrize(
    "timeline",
    [
        strided(duration_seconds=90, fps=30, clip_frames=8, frame_step=3, stride_frames=2),
        strided(duration_seconds=0.2, fps=30, clip_frames=8, stride_frames=2),
        spread(duration_seconds=30, fps=30, clip_frames=16, num_snippets=600),
        spread(duration_seconds=600, fps=30, clip_frames=4, num_snippets=300),
        spread(duration_seconds=0.3, fps=30, clip_frames=16, num_snippets=5),
    ],
)
def test_each_frame_is_asked_for_once_and_kept_until_its_last_clip(timeline: Timeline, edge: str, jitter: int) -> None:
    shape = (timeline.num_snippets, timeline.clip_frames)
    shifts = np.random.default_rng(0).integers(-jitter, jitter, size=shape, endpoint=True)
    indices = timeline.clip_frame_indices(edge, shifts)
    wanted = WantedFrames(lookup(timeline, edge, shifts), timeline.num_snippets)
    asked = np.concatenate(list(wanted))
    assert np.array_equal(asked, np.unique(indices))
    last = {int(frame): clip for clip, frames in enumerate(indices) for frame in frames}
    assert dict(wanted.taken) == last
    completes, frames = zip(*wanted.clips, strict=True)
    assert np.array_equal(np.stack(frames), indices)
    assert np.array_equal(completes, np.maximum.accumulate(indices.max(axis=1)))


def test_a_long_video_is_looked_up_in_pieces_of_one_size() -> None:
    largest = []
    for minutes in (2, 60):
        timeline = strided(duration_seconds=60 * minutes, fps=25, clip_frames=16, stride_frames=4)
        wanted = WantedFrames(lookup(timeline, "repeat"), timeline.num_snippets)
        sizes = []
        for frames in wanted:
            sizes.append((len(frames), len(wanted.taken), len(wanted.clips)))
            wanted.taken.clear()
            while wanted.clips and wanted.clips[0][0] <= frames[-1]:
                wanted.clips.popleft()
        largest.append(tuple(map(max, zip(*sizes, strict=True))))
    assert largest[0] == largest[1] and max(largest[1]) < 1200
