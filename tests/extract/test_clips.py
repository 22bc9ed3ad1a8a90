"""Videos to clips: the right frames, in the right order, whatever reads them."""

import dataclasses
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.data.timeline import Timing
from etad.data.video import container
from etad.data.video.transforms import sample_generator
from etad.data.video.video import VideoReader, probe, write_video
from etad.extract import clips as clips_module
from etad.extract.augment import ColourJitter, RandAugment, apply_steps, draw_steps
from etad.extract.clips import Augmentation, ClipBatch, ClipPlan, Failure, clip_batches, read_clips
from etad.extract.settings import ClipSettings
from reference.barcode import broken_midway
from reference.decoding import decode_everything, gather

SIZE = (40, 32)


def plan(**changes: Any) -> ClipPlan:
    fields = {"num_snippets": 7, "clip_frames": 4, "resize": SIZE, "crop": 24, "edge": "repeat"}
    return ClipPlan(**ClipSettings(**(fields | changes)).model_dump())


def film(path: Path, num_frames: int, *, fps: float = 10, width: int = 80, height: int = 64) -> Path:
    generator = np.random.default_rng(num_frames)
    base = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    write_video(path, (np.roll(base, 5 * number, axis=1) for number in range(num_frames)), fps=fps, crf=10)
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    found = {
        name: film(folder / f"{name}.mp4", length) for name, length in {"a": 60, "b": 3, "c": 33, "e": 200}.items()
    }
    found["d"] = folder / "d.mp4"
    found["d"].write_bytes(b"no video")
    return found


def joined(items: list[ClipBatch | Failure], video_id: str) -> np.ndarray:
    batches = [item for item in items if isinstance(item, ClipBatch) and item.video_id == video_id]
    assert [batch.first_snippet for batch in batches] == np.cumsum([0, *(len(b.clips) for b in batches)])[:-1].tolist()
    assert [batch.is_last for batch in batches] == [False] * (len(batches) - 1) + [True]
    return np.concatenate([batch.clips for batch in batches])


@pytest.mark.parametrize("edge", ["repeat", "wrap"])
@pytest.mark.parametrize(
    "layout", [{"layout": "spread"}, {"layout": "sliding", "stride_frames": 2}, {"layout": "sliding", "frame_step": 3}]
)
@pytest.mark.parametrize("fps", [None, 7.5, 20])
def test_clips_equal_the_plain_gather_of_all_frames(
    films: dict[str, Path], edge: str, layout: dict[str, Any], fps: float | None
) -> None:
    chosen = plan(edge=edge, fps=fps, **layout)
    items = list(clip_batches({name: films[name] for name in "abc"}, chosen, batch_clips=3, workers=0))
    for name in "abc":
        frames = decode_everything(films[name], SIZE)
        timeline = next(item.timeline for item in items if isinstance(item, ClipBatch) and item.video_id == name)
        # A frame of the grid shows what is on the screen at its time; frames of these films come at 10 a second.
        shown = np.minimum(np.floor(timeline.clip_frame_indices(edge) / timeline.fps * 10 + 1e-6), len(frames) - 1)
        expected = gather(frames, shown.astype(int))[:, :, 4:28, 8:32]
        assert np.array_equal(joined(items, name), expected), name


@pytest.mark.parametrize("layout", ["spread", "sliding"])
def test_any_number_of_workers_gives_the_same_bytes_in_the_same_order(films: dict[str, Path], layout: str) -> None:
    chosen = plan(layout=layout, stride_frames=1)
    seen = []
    for workers in (0, 1, 2, 4):
        items = list(clip_batches(films, chosen, batch_clips=2, workers=workers))
        seen.append(
            [
                (item.video_id, item.reason)
                if isinstance(item, Failure)
                else (item.video_id, item.first_snippet, item.clips.tobytes())
                for item in items
            ]
        )
    assert seen[0] == seen[1] == seen[2] == seen[3]
    assert list(dict.fromkeys(entry[0] for entry in seen[0])) == list(films)


def test_a_broken_video_is_a_record_and_the_others_go_on(films: dict[str, Path], tmp_path: Path) -> None:
    sources = {
        "broken": broken_midway(tmp_path / "broken.mp4"),
        "none": films["a"].parent / "none.mp4",
        "small": films["a"],
    }
    for workers in (0, 2):
        items = list(clip_batches(sources, plan(layout="sliding"), batch_clips=2, workers=workers))
        failures = {item.video_id: item.reason for item in items if isinstance(item, Failure)}
        assert list(failures) == ["broken", "none"]
        assert "decoding breaks at second" in failures["broken"] and "no such file" in failures["none"]
        assert len(joined(items, "small")) == 15


def test_frames_too_small_for_the_square_are_a_failure_of_that_video(films: dict[str, Path]) -> None:
    (item,) = clip_batches({"a": films["a"]}, plan(resize=(20, 20)), batch_clips=2, workers=0)
    assert isinstance(item, Failure)
    assert str(films["a"]) in item.reason and "too small" in item.reason


def test_a_video_shorter_than_a_clip_gives_one_sliding_snippet(films: dict[str, Path]) -> None:
    items = list(clip_batches({"b": films["b"]}, plan(layout="sliding", clip_frames=16), batch_clips=4, workers=1))
    clips = joined(items, "b")
    assert clips.shape == (1, 16, 24, 24, 3)
    assert all(np.array_equal(clips[0, 2], frame) for frame in clips[0, 3:])


def test_long_sliding_videos_keep_few_frames(films: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0

    class Watched(dict[int, np.ndarray]):
        def __setitem__(self, key: int, value: np.ndarray) -> None:
            nonlocal largest
            super().__setitem__(key, value)
            largest = max(largest, len(self))

    monkeypatch.setattr(clips_module, "_new_frames", Watched)
    list(clip_batches({"e": films["e"]}, plan(layout="sliding", clip_frames=8), batch_clips=2, workers=0))
    assert 8 <= largest <= 9


def test_each_frame_is_decoded_once(films: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    read = VideoReader.read_sizes

    def counting(self: VideoReader, *args: Any, **kwargs: Any) -> Any:
        for number, frame in read(self, *args, **kwargs):
            decoded.append(number)
            yield number, frame

    monkeypatch.setattr(VideoReader, "read_sizes", counting)
    list(clip_batches({"a": films["a"]}, plan(layout="sliding", stride_frames=1), batch_clips=2, workers=1))
    assert decoded == list(range(60))


def test_stopping_early_leaves_no_thread_behind(films: dict[str, Path]) -> None:
    before = threading.active_count()
    batches = clip_batches(films, plan(layout="sliding", stride_frames=1), batch_clips=1, workers=3)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_a_long_file_is_opened_once_for_each_worker_and_not_for_each_stretch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.mp4"
    write_video(path, (np.full((64, 80, 3), number % 256, np.uint8) for number in range(400)), fps=10, gop=10)
    chosen, opened = plan(layout="sliding", stride_frames=4), []
    expected = joined(list(clip_batches({"a": path}, chosen, batch_clips=1, workers=0)), "a")
    real = container.open_container
    monkeypatch.setattr(container, "open_container", lambda path: (opened.append(path), real(path))[1])
    items = list(clip_batches({"a": path}, chosen, batch_clips=1, workers=2))
    assert np.array_equal(joined(items, "a"), expected)
    assert len(items) // 8 >= 12 and len(opened) <= 2 + 2  # to index the file and to rewind it, then by two workers


def test_a_fault_of_ours_in_a_worker_is_raised(films: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(clips_module, "_read", faulty)
    with pytest.raises(ZeroDivisionError, match="ours"):
        list(clip_batches({"a": films["a"]}, plan(), batch_clips=1, workers=2))


def test_a_whole_video_without_augmentation_equals_extraction(films: dict[str, Path]) -> None:
    chosen = plan()
    clips, timing = read_clips(films["c"], chosen, augment=None, generator=np.random.default_rng(0))
    items = list(clip_batches({"c": films["c"]}, chosen, batch_clips=4, workers=0))
    assert np.array_equal(clips, joined(items, "c"))
    assert timing == Timing.of(items[0].timeline) and isinstance(items[0], ClipBatch)


def test_random_squares_are_shared_by_a_clips_frames_and_drawn_from_the_generator(films: dict[str, Path]) -> None:
    still = films["a"].parent / "still.mp4"
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    write_video(still, [picture] * 20, fps=10, crf=0)
    chosen = plan(resize=(80, 64), crop=48)
    draws = [read_clips(still, chosen, augment=Augmentation(), generator=sample_generator(0, 0, "x"))[0] for _ in "ab"]
    assert np.array_equal(*draws)
    frames = decode_everything(still, (80, 64))
    for clip in draws[0]:
        found = [
            (top, left)
            for top in range(17)
            for left in range(33)
            if np.array_equal(frames[0][top : top + 48, left : left + 48], clip[0])
        ]
        assert len(found) == 1
        assert all(np.abs(frame.astype(int) - clip[0]).max() <= 1 for frame in clip)
    assert len({clip.tobytes() for clip in draws[0][:, 0]}) > 3


def test_flips_and_jitter_change_what_they_should(films: dict[str, Path]) -> None:
    chosen, plain = plan(), Augmentation(crop="centre")
    clips, _ = read_clips(films["a"], chosen, augment=plain, generator=np.random.default_rng(0))
    mirrored, _ = read_clips(
        films["a"], chosen, augment=dataclasses.replace(plain, flip_probability=1.0), generator=np.random.default_rng(0)
    )
    assert np.array_equal(mirrored, clips[..., ::-1, :])
    shaken, timing = read_clips(
        films["a"], chosen, augment=dataclasses.replace(plain, jitter_frames=3), generator=np.random.default_rng(0)
    )
    assert shaken.shape == clips.shape and not np.array_equal(shaken, clips)
    assert timing == Timing.of(chosen.timeline(probe(films["a"])))
    all_frames = {frame[4:28, 8:32].tobytes() for frame in decode_everything(films["a"], SIZE)}
    assert all(frame.tobytes() in all_frames for frame in shaken.reshape(-1, 24, 24, 3))


def test_one_draw_for_a_whole_video_where_the_release_has_it_so(films: dict[str, Path]) -> None:
    chosen = plan(clip_frames=1)
    augment = Augmentation(per_video=True, flip_probability=0.5)
    centred = [frame.tobytes() for frame in decode_everything(films["a"], SIZE)]
    assert len(centred) == 60
    for seed in range(4):
        clips, _ = read_clips(films["a"], chosen, augment=augment, generator=np.random.default_rng(seed))
        frames = decode_everything(films["a"], SIZE)
        indices = chosen.timeline(probe(films["a"])).clip_frame_indices("repeat")
        views = {
            (top, left, step)
            for top in range(9)
            for left in range(17)
            for step in (1, -1)
            if all(
                np.array_equal(frames[i][top : top + 24, left : left + 24][:, ::step], clip[0])
                for i, clip in zip(indices[:, 0], clips, strict=True)
            )
        }
        assert len(views) == 1


def test_colours_and_shapes_are_drawn_last_and_changed_in_the_frames_that_are_read(films: dict[str, Path]) -> None:
    chosen = plan()
    cropped = Augmentation(flip_probability=0.5, jitter_frames=1)
    jitter = ColourJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1)
    rand_augment = RandAugment(operations=2, magnitude=9, magnitude_std=0)
    for per_video in (False, True):
        before = dataclasses.replace(cropped, per_video=per_video)
        changed = dataclasses.replace(before, rand_augment=rand_augment, colour_jitter=jitter)
        plain, _ = read_clips(films["a"], chosen, augment=before, generator=sample_generator(0, 0, "x"))
        found, _ = read_clips(films["a"], chosen, augment=changed, generator=sample_generator(0, 0, "x"))
        again, _ = read_clips(films["a"], chosen, augment=changed, generator=sample_generator(0, 0, "x"))
        other, _ = read_clips(films["a"], chosen, augment=changed, generator=sample_generator(0, 1, "x"))
        assert np.array_equal(found, again) and not np.array_equal(found, other)

        # The same draws, repeated here; all frames of a unit get the unit's.
        generator = sample_generator(0, 0, "x")
        generator.integers(0, (9, 17), size=(1 if per_video else 7, 2))
        generator.random(7)
        generator.integers(-1, 1, size=(7, 4), endpoint=True)
        steps = draw_steps(1 if per_video else 7, rand_augment=rand_augment, colour_jitter=jitter, generator=generator)
        assert len({tuple(each) for each in steps}) == len(steps)
        for clip, its in zip(plain, steps * (7 if per_video else 1), strict=True):
            apply_steps(clip, its)
        assert np.array_equal(found, plain)


def test_clips_that_are_no_square_are_the_middle_of_wider_frames(films: dict[str, Path]) -> None:
    wide = plan(crop=(32, 12))
    (whole,) = (joined(list(clip_batches({"a": films["a"]}, plan(crop=SIZE), batch_clips=9, workers=0)), "a"),)
    found = joined(list(clip_batches({"a": films["a"]}, wide, batch_clips=2, workers=0)), "a")
    assert np.array_equal(found, whole[:, :, 10:22, 4:36])
    drawn, _ = read_clips(films["a"], wide, augment=Augmentation(), generator=np.random.default_rng(0))
    assert drawn.shape == found.shape and not np.array_equal(drawn, found)


def test_the_plan_says_what_it_does_to_frames_and_no_more() -> None:
    spread, sliding = plan().describe(), plan(layout="sliding").describe()
    assert "stride_frames" not in spread and "num_snippets" not in sliding
    assert spread["resize"] == SIZE and spread["crop"] == 24


def test_a_file_that_vanishes_while_it_waits_is_a_failure(films: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copy(films["e"], tmp_path / "e.mp4"))
    batches = clip_batches({"a": films["a"], "e": copy}, plan(), batch_clips=2, workers=0)
    next(batches)
    copy.unlink()
    last = list(batches)[-1]
    assert isinstance(last, Failure) and "no such file" in last.reason


def test_end_to_end_reading_of_a_broken_video_raises(tmp_path: Path) -> None:
    path = broken_midway(tmp_path / "broken.mp4")
    with pytest.raises(EtadError, match="decoding breaks"):
        read_clips(path, plan(), augment=None, generator=np.random.default_rng(0))
