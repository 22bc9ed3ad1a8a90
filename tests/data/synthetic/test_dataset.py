"""The synthetic set is what it says: real files, exact times, the same every time, and not solvable by looks."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from etad.data.annotations import read_annotations
from etad.data.errors import EtadError
from etad.data.synthetic.dataset import SyntheticSpec, draw_clips, draw_video, make_dataset
from etad.data.synthetic.motion import DOMAINS
from etad.data.video.video import probe, read_frames

TINY = SyntheticSpec(
    num_videos=8, shortest_seconds=6, longest_seconds=9, size=16, difficulty=0.1, validation_share=0.25
)


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.*"))}


def _read(path: Path) -> list[np.ndarray]:
    info = probe(path)
    return [frame for _, frame in read_frames(path, np.arange(info.num_frames) / info.fps, resize=None)]


def test_files_hold_every_frame_that_the_annotations_count(tmp_path: Path) -> None:
    annotations = read_annotations(make_dataset(tmp_path, TINY))
    assert len(annotations.videos) == 8
    for index, video in enumerate(annotations.videos.values()):
        frames = _read(tmp_path / "videos" / f"{video.id}.mp4")
        drawn = list(draw_video(TINY, index)[0])
        assert video.duration_seconds == pytest.approx(len(frames) / TINY.fps)
        assert len(frames) == len(drawn)
        assert np.abs(np.stack(frames).astype(int) - np.stack(drawn)).mean() < 12  # it went through a codec


def test_one_spec_gives_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    make_dataset(tmp_path / "one", TINY, workers=1)
    make_dataset(tmp_path / "two", TINY, workers=2)
    assert _digests(tmp_path / "one") == _digests(tmp_path / "two")


def test_another_seed_gives_other_videos() -> None:
    first, second = (SyntheticSpec(num_videos=1, size=16, seed=seed) for seed in (0, 1))
    assert draw_video(first, 0)[1] != draw_video(second, 0)[1]


def test_a_finished_set_is_left_alone_and_a_broken_one_is_mended(tmp_path: Path) -> None:
    make_dataset(tmp_path, TINY)
    before = _digests(tmp_path)
    lost, kept = tmp_path / "videos" / "target_0003.mp4", tmp_path / "videos" / "target_0004.mp4"
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    (tmp_path / "annotations.json").unlink()
    make_dataset(tmp_path, TINY)
    assert _digests(tmp_path) == before
    assert kept.stat().st_mtime_ns == stamp


def test_a_folder_of_another_spec_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path, SyntheticSpec(num_videos=1, shortest_seconds=5, longest_seconds=5, size=16))
    with pytest.raises(EtadError, match="another kind than the one asked for"):
        make_dataset(tmp_path, TINY)


def test_actions_lie_inside_the_video_apart_from_each_other_and_vary_in_length() -> None:
    spec = SyntheticSpec(num_videos=64)
    lengths = []
    for index in range(spec.num_videos):
        _, actions = draw_video(spec, index)
        at = 0.0
        for action in actions:
            assert action.start_seconds > at
            at = action.end_seconds
            lengths.append(action.end_seconds - action.start_seconds)
        assert at <= spec.longest_seconds
    assert min(lengths) < 4 and max(lengths) > 12


def test_some_videos_have_two_classes_and_some_have_none_in_both_subsets(tmp_path: Path) -> None:
    spec = SyntheticSpec(num_videos=16, shortest_seconds=8, longest_seconds=9, size=16, validation_share=0.5)
    annotations = read_annotations(make_dataset(tmp_path, spec))
    for subset in ("training", "validation"):
        classes = [{action.label for action in video.actions} for video in annotations.subset(subset)]
        assert {len(labels) for labels in classes} == {0, 1, 2}
        assert set().union(*classes) == set(spec.labels)


def test_source_and_target_share_no_action() -> None:
    assert not set(DOMAINS["source"].actions) & set(DOMAINS["target"].actions)


def test_clips_never_repeat_and_follow_the_generator() -> None:
    spec = SyntheticSpec(domain="source", size=16)
    clips, classes = draw_clips(spec, np.random.default_rng(0), 40, clip_frames=4)
    again, same = draw_clips(spec, np.random.default_rng(0), 40, clip_frames=4)
    assert clips.shape == (40, 4, 16, 16, 3) and clips.dtype == np.uint8
    assert np.array_equal(clips, again) and np.array_equal(classes, same)
    assert len({clip.tobytes() for clip in clips}) == 40
    assert set(classes) == set(range(len(spec.labels) + 1))


@pytest.mark.parametrize("difficulty", [0.0, 0.5])
def test_a_frame_alone_does_not_tell_the_action_but_motion_does(difficulty: float) -> None:
    spec = SyntheticSpec(size=16, difficulty=difficulty)
    clips, classes = draw_clips(spec, np.random.default_rng(0), 2400, clip_frames=8)
    grey = clips.mean(axis=-1)
    looks = grey[:, 4, ::2, ::2].reshape(len(grey), -1)
    # Energy of motion along x, along y and of both signs: how brightness changes in time, against its slope in space.
    in_time, in_y, in_x = (np.gradient(grey, axis=axis) for axis in (1, 2, 3))
    parts = {"xx": in_x * in_x, "yy": in_y * in_y, "tt": in_time**2, "tx": in_time * in_x, "ty": in_time * in_y}
    motion = np.stack([np.log1p(np.abs(part).reshape(len(part), -1).mean(1)) for part in parts.values()], axis=1)
    assert _accuracy(looks, classes) < 0.33  # of four classes
    assert _accuracy(motion, classes) > 0.36


def _accuracy(features: np.ndarray, classes: np.ndarray) -> float:
    half = len(features) // 2
    scaled = StandardScaler().fit(features[:half]).transform(features)
    probe = LogisticRegression(C=0.1, max_iter=200).fit(scaled[:half], classes[:half])
    return float(probe.score(scaled[half:], classes[half:]))


def test_annotations_are_plain_json_of_the_activitynet_form(tmp_path: Path) -> None:
    content = json.loads(make_dataset(tmp_path, TINY).read_text())
    assert set(content) == {"version", "taxonomy", "database"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_videos": 0}, "num_videos=0, expected at least 1"),
        ({"domain": "moon"}, "domain='moon', expected one of target, source"),
        ({"size": 33}, "size=33, expected an even number"),
        ({"difficulty": 2.0}, "difficulty=2, expected 0 to 1"),
        ({"longest_seconds": 10.0}, "seconds from 20 to 10"),
    ],
)
def test_values_out_of_range_are_named(change: dict, message: str) -> None:
    with pytest.raises(EtadError, match=message):
        SyntheticSpec(**change)
