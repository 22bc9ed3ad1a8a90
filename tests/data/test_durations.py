"""Segments are fitted to the video they are in, and what does not fit is told."""

from pathlib import Path

from etad.data.annotations import Action, Video, read_annotations
from etad.data.durations import clean, describe_repairs


def test_activitynet_reads_and_cleans_as_counted(shared: Path) -> None:
    annotations = read_annotations(shared / "annotations" / "activitynet_v1-3_rebuilt.json")
    assert (len(annotations.subset("training")), len(annotations.subset("val"))) == (9649, 4728)
    assert len(annotations.labels) == 200
    kinds: dict[str, int] = {}
    for video in annotations.videos.values():
        assert video.duration_seconds is not None
        for repair in clean(video, video.duration_seconds)[1]:
            kinds[repair.kind] = kinds.get(repair.kind, 0) + 1
    assert kinds["dropped empty"] == 12
    assert kinds["clamped"] > 100
    assert kinds["dropped duplicate"] > 0


def test_cleaning_clamps_drops_and_reports() -> None:
    actions = (Action(-0.2, 2, "a"), Action(8, 10.5, "a"), Action(3, 3, "a"), Action(4, 5, "b"), Action(4, 5, "b"))
    video, repairs = clean(Video("x", "", None, actions), 10.0)
    assert video.actions == (Action(0, 2, "a"), Action(8, 10, "a"), Action(4, 5, "b"))
    assert [repair.kind for repair in repairs] == ["clamped", "clamped", "dropped empty", "dropped duplicate"]
    assert video.duration_seconds == 10.0


def test_segments_outside_the_video_are_dropped_and_those_far_past_its_end_cut() -> None:
    actions = (
        Action(10, 10.5, "a"),
        Action(12, 14, "a"),
        Action(9, 11.5, "a"),
        Action(-3, -1, "a"),
        Action(-2, 1, "a"),
    )
    video, repairs = clean(Video("x", "", None, actions), 10.0)
    assert video.actions == (Action(9, 10, "a"), Action(0, 1, "a"))
    assert all(repair.is_problem for repair in repairs)
    assert describe_repairs(repairs) == (
        "3 segments dropped as outside the video (x), 2 segments cut by more than 1 s (x)"
    )


def test_the_public_thumos_annotations_have_thirty_segments_outside_five_videos(shared: Path) -> None:
    annotations = read_annotations(shared / "reports" / "thumos14_excerpt.json")
    found: dict[str, int] = {}
    for video in annotations.videos.values():
        assert video.duration_seconds is not None
        for repair in clean(video, video.duration_seconds)[1]:
            found[video.id] = found.get(video.id, 0) + repair.is_problem
    assert sum(found.values()) == 30 and sum(map(bool, found.values())) == 5
