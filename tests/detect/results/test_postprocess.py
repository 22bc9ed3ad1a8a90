import numpy as np
import pytest

from etad.data.predictions import RawPrediction, predictions_digest, read_predictions, write_predictions
from etad.detect.results.postprocess import VideoDetections, detections
from etad.detect.settings import DetectSettings, InferenceSettings, LabelSettings
from reference import nms as plain

NUM_SNIPPETS = 8


def raw(
    video_id: str, *, seed: int, start: float = 0.0, length: float = 40.0, num_proposals: int = 30
) -> RawPrediction:
    random = np.random.default_rng(seed)
    low = random.uniform(-0.1, 0.8, num_proposals)
    segments = np.stack([low, low + random.uniform(-0.05, 0.4, num_proposals)], axis=1).astype(np.float32)
    return RawPrediction(
        video_id=video_id,
        start_seconds=start,
        length_seconds=length,
        duration_seconds=40.0,
        segments=segments,
        iou=random.random((num_proposals, 2)).astype(np.float32),
        boundary=random.random((2, NUM_SNIPPETS)).astype(np.float32),
        class_scores=random.dirichlet(np.ones(3), num_proposals).astype(np.float32),
    )


def plain_detections(
    window: RawPrediction, scores_of_video: list[float], *, release: bool
) -> list[tuple[float, float, int, float]]:
    """Proposal by proposal, for one whole video (method, section 5)."""
    starts = plain.may_be_boundary([float(x) for x in window.boundary[0]])
    ends = plain.may_be_boundary([float(x) for x in window.boundary[1]])
    starts[0], ends[-1] = True, True
    segments, scores = [], []
    for (low, high), (classified, regressed) in zip(window.segments, window.iou):
        first, last = (min(max(int(np.float32(x) * NUM_SNIPPETS), 0), NUM_SNIPPETS - 1) for x in (low, high))
        if not (starts[first] and ends[last]):
            continue
        score = float(classified) * float(regressed)
        if not release:
            score *= float(window.boundary[0, first]) * float(window.boundary[1, last])
        segments.append((float(low), float(high)))
        scores.append(score)
    kept, decayed = plain.soft_nms(segments, scores, 0.35, 100, release)
    classes = sorted(range(len(scores_of_video)), key=lambda c: -scores_of_video[c])[:2]
    found = []
    for row, score in zip(kept, decayed):
        low, high = (min(max(x, 0.0), 1.0) * window.duration_seconds for x in segments[row])
        if high > low or release:
            found += [(low, high, label, score * scores_of_video[label]) for label in classes]
    return sorted(found, key=lambda row: -row[3])


def rows(found: VideoDetections) -> np.ndarray:
    return np.column_stack([found.segments, found.labels, found.scores])


@pytest.mark.parametrize("preset", ["paper", "release"])
def test_detections_equal_the_plain_ones(preset: str) -> None:
    settings = DetectSettings(preset=preset, num_snippets=NUM_SNIPPETS, max_duration=NUM_SNIPPETS)
    windows = [raw(f"v{i}", seed=i) for i in range(5)]
    class_scores = {f"v{i}": np.random.default_rng(50 + i).random(4) for i in range(5)}
    found = list(detections(windows, settings=settings, video_scores=class_scores.__getitem__))
    assert [video.video_id for video in found] == [f"v{i}" for i in range(5)]
    for window, video in zip(windows, found):
        expected = plain_detections(window, class_scores[window.video_id].tolist(), release=preset == "release")
        np.testing.assert_allclose(rows(video), np.array(expected), rtol=1e-12, atol=1e-12)


def test_the_class_branch_labels_each_proposal_by_itself() -> None:
    settings = DetectSettings(
        num_snippets=NUM_SNIPPETS, max_duration=NUM_SNIPPETS, labels=LabelSettings(source="branch", top=1)
    )
    window = raw("v", seed=3)
    (found,) = detections([window], settings=settings, video_scores=None)
    assert len(set(found.labels.tolist())) > 1
    assert (np.diff(found.scores) <= 0).all()
    for segment, label in zip(found.segments / 40.0, found.labels):
        row = np.abs(window.segments.clip(0, 1) - segment).sum(axis=1).argmin()
        assert window.class_scores[row].argmax() == label


def test_sliding_windows_are_merged_thinned_once_more_and_stay_in_the_video() -> None:
    settings = DetectSettings(
        windows="sliding",
        num_snippets=NUM_SNIPPETS,
        max_duration=NUM_SNIPPETS,
        inference=InferenceSettings(max_detections=20, sigma=0.3, voting_iou=0.95),
    )
    windows = [raw("a", seed=1, start=0.4, length=25.0), raw("a", seed=2, start=15.0, length=25.0), raw("b", seed=3)]
    first, second = detections(windows, settings=settings, video_scores=lambda _: np.array([0.2, 0.8]))
    assert (first.video_id, second.video_id) == ("a", "b")
    assert len(first.segments) <= 40  # 20 kept, with two labels each
    assert first.segments.min() >= 0
    assert first.segments.max() <= 40.0
    # Both windows contribute.
    assert first.segments[:, 0].min() < 15.0
    assert first.segments[:, 1].max() > 26.0


def test_raw_predictions_survive_being_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("raw") / "raw.h5"
    windows = [raw("a/..", seed=1), raw("b", seed=2)]
    write_predictions(path, iter(windows), model_digest="abc")
    assert predictions_digest(path) == "abc"
    assert predictions_digest(path.with_name("none.h5")) is None
    for before, after in zip(windows, read_predictions(path), strict=True):
        assert before.video_id == after.video_id
        for name in ("segments", "iou", "boundary", "class_scores"):
            assert np.array_equal(getattr(before, name), getattr(after, name))
