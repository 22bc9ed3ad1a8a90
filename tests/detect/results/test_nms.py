from pathlib import Path

import numpy as np
import pytest
import torch

from etad.data.errors import EtadError
from etad.detect.model.proposals import snippet_of
from etad.detect.results import nms
from etad.detect.results.nms import is_boundary, select_by_boundary, snippets_of, soft_nms, vote
from reference import nms as plain

VIDEOS = ["v0", "v1", "v2", "v3", "v4"]


def proposals(seed: int, count: int, *, grid: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Segments, a tenth of them reversed, and scores; on a grid they and their scores often repeat."""
    rng = np.random.default_rng(seed)
    ends, scores = rng.random((count, 2)), rng.random(count)
    if grid:
        ends, scores = np.round(ends * grid) / grid, np.round(scores * 4) / 4
    segments = np.sort(ends, axis=1)
    segments[: count // 10] = segments[: count // 10, ::-1]
    return segments, scores


def one_video(segments: np.ndarray, scores: np.ndarray, **options) -> tuple[np.ndarray, np.ndarray]:
    return soft_nms([segments], [scores], **{"sigma": 0.35, "most_kept": 100, **options})[0]


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict:
    return torch.load(shared / "goldens" / "postproc.pt", weights_only=True)


@pytest.mark.parametrize("lose_last", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 40, 150])
@pytest.mark.parametrize("grid", [None, 5])
def test_it_equals_the_plain_loop(count: int, grid: int | None, lose_last: bool) -> None:
    segments, scores = proposals(count, count, grid=grid)
    kept = one_video(segments, scores, lose_last=lose_last, sigma=0.5)
    index, decayed = plain.soft_nms(segments.tolist(), scores.tolist(), 0.5, 100, lose_last)
    assert kept.index.tolist() == index
    np.testing.assert_allclose(kept.score, decayed, rtol=0, atol=1e-12)


def test_videos_side_by_side_equal_videos_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nms, "PROPOSALS_AT_ONCE", 300)
    sizes = [7, 0, 120, 1, 33] * 4
    videos = [proposals(seed, size, grid=9) for seed, size in enumerate(sizes)]
    together = soft_nms(*zip(*videos), sigma=0.35, most_kept=20, lose_last=True)
    for (segments, scores), kept in zip(videos, together):
        alone = one_video(segments, scores, most_kept=20, lose_last=True)
        assert kept.index.tolist() == alone.index.tolist()
        assert kept.score.tolist() == alone.score.tolist()


def test_ties_fall_as_in_the_plain_loop_alone_and_side_by_side() -> None:
    videos = [proposals(seed, 90, grid=3) for seed in range(4)]
    together = soft_nms(*zip(*videos), sigma=0.35, most_kept=60)
    for (segments, scores), kept in zip(videos, together):
        index, decayed = plain.soft_nms(segments.tolist(), scores.tolist(), 0.35, 60, False)
        for found in (kept, one_video(segments, scores, most_kept=60)):
            assert found.index.tolist() == index
            np.testing.assert_allclose(found.score, decayed, rtol=0, atol=1e-12)


def test_the_release_loses_the_last_proposal_and_the_paper_keeps_it() -> None:
    segments, scores = np.array([[0.0, 0.4], [0.5, 1.0]]), np.array([0.3, 0.6])
    assert one_video(segments, scores).index.tolist() == [1, 0]
    assert one_video(segments, scores, lose_last=True).index.tolist() == [1]


def test_a_lone_proposal_is_kept_with_its_score() -> None:
    for lose_last in (False, True):
        kept = one_video(np.array([[0.2, 0.4]]), np.array([0.25]), lose_last=lose_last)
        assert (kept.index.tolist(), kept.score.tolist()) == ([0], [0.25])


def test_no_proposal_keeps_none() -> None:
    kept = one_video(np.empty((0, 2)), np.empty(0))
    assert len(kept.index) == len(kept.score) == 0
    assert soft_nms([], [], sigma=0.3, most_kept=5) == []


def test_empty_and_reversed_segments_decay_nothing() -> None:
    segments = np.array([[0.5, 0.5], [0.5, 0.5], [0.6, 0.4], [0.6, 0.4], [0.0, 1.0]])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    assert one_video(segments, scores).score.tolist() == scores.tolist()


def test_proposals_scored_zero_are_kept_in_their_order() -> None:
    segments, _ = proposals(0, 6)
    assert one_video(segments, np.zeros(6)).index.tolist() == list(range(6))


@pytest.mark.parametrize("video", VIDEOS)
def test_boundary_selection_equals_the_released_one(golden: dict, video: str) -> None:
    case = {key: value.numpy() for key, value in golden[video].items()}
    # The masks were recorded before the first start and the last end were let through, the rows after.
    assert is_boundary(case["start"]).tolist() == case["start_mask"].astype(bool).tolist()
    assert is_boundary(case["end"]).tolist() == case["end_mask"].astype(bool).tolist()
    kept = select_by_boundary(case["anchors"], case["start"], case["end"])
    assert kept.tolist() == case["kept_idx"].tolist()


def test_soft_nms_equals_the_released_one(golden: dict) -> None:
    cases = [{key: value.numpy() for key, value in golden[video].items()} for video in VIDEOS]
    segments = [case["anchors"][case["kept_idx"]] for case in cases]
    scores = [case["iou"].prod(axis=1)[case["kept_idx"]] for case in cases]
    for case, own, kept in zip(cases, segments, soft_nms(segments, scores, sigma=0.35, most_kept=100, lose_last=True)):
        np.testing.assert_array_equal(own[kept.index], case["official_nms"][:, :2])
        np.testing.assert_allclose(kept.score, case["official_nms"][:, 2], rtol=0, atol=1e-12)


def test_soft_nms_of_all_proposals_equals_the_released_one(golden: dict) -> None:
    case = {key: value.numpy() for key, value in golden["v0"].items()}
    kept = one_video(case["anchors"], case["iou"].prod(axis=1), lose_last=True)
    np.testing.assert_array_equal(case["anchors"][kept.index], case["official_nms_nofilter"][:, :2])
    np.testing.assert_allclose(kept.score, case["official_nms_nofilter"][:, 2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", ["ties", "single_pair", "disjoint", "tiny", "wrong_order"])
def test_small_cases_equal_the_released_ones(golden: dict, case: str) -> None:
    given, expected = golden["edge"][case]["inp"].numpy(), golden["edge"][case]["official"].numpy()
    kept = one_video(given[:, :2], given[:, 2], lose_last=True)
    np.testing.assert_array_equal(given[kept.index, :2], expected[:, :2])
    np.testing.assert_allclose(kept.score, expected[:, 2], rtol=0, atol=1e-12)


def test_boundaries_equal_the_plain_ones() -> None:
    scores = np.random.default_rng(0).random(50)
    scores[10:13] = 0.4
    assert is_boundary(scores).tolist() == plain.may_be_boundary(scores.tolist())


def test_a_flat_video_may_begin_and_end_anywhere_and_a_silent_one_only_at_its_ends() -> None:
    segments = np.array([[0.0, 1.0], [0.25, 1.0], [0.25, 0.75]])
    assert select_by_boundary(segments, np.full(4, 0.1), np.full(4, 0.1)).tolist() == [0, 1, 2]
    assert select_by_boundary(segments, np.zeros(4), np.zeros(4)).tolist() == [0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_boundaries_are_read_where_training_reads_them(dtype: type) -> None:
    rng = np.random.default_rng(3)
    on_the_lattice = np.stack(np.meshgrid(np.arange(129), np.arange(129)), axis=-1).reshape(-1, 2) / 128
    segments = np.concatenate([rng.uniform(-0.5, 1.5, (5000, 2)), on_the_lattice, [[-np.inf, np.inf], [1e30, -1e30]]])
    segments = segments.astype(dtype)
    expected = snippet_of(torch.from_numpy(segments), 128).numpy()
    np.testing.assert_array_equal(snippets_of(segments, 128), expected.T)


def test_boundaries_beyond_the_window_read_its_end_snippets() -> None:
    segments = np.array([[-3.0, -0.01], [-0.01, 9.0], [1.0, 1.2]], dtype=np.float32)
    startness, endness = np.array([0.1, 0.1, 0.1, 0.9]), np.array([0.9, 0.1, 0.1, 0.1])
    assert select_by_boundary(segments, startness, endness).tolist() == [0, 1, 2]


def test_votes_equal_the_plain_ones() -> None:
    rng = np.random.default_rng(1)
    segments = np.repeat(np.array([[0.1, 0.3], [0.4, 0.9], [0.0, 1.0]]), 20, axis=0) + rng.normal(0, 0.003, (60, 2))
    scores = rng.random(60)
    voted = vote(segments[::7], segments, scores, least_iou=0.95)
    expected = plain.vote(segments[::7].tolist(), segments.tolist(), scores.tolist(), 0.95)
    np.testing.assert_allclose(voted, expected, rtol=0, atol=1e-12)
    assert np.abs(voted - segments[::7]).max() > 1e-4


def test_a_segment_without_votes_stays() -> None:
    kept = np.array([[0.1, 0.3]])
    assert vote(kept, kept, np.zeros(1), least_iou=0.95).tolist() == kept.tolist()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_diverged_detector_is_named_before_selection_passes_over_it(place: int) -> None:
    segments, scores = proposals(0, 40)
    given = [segments.copy(), scores[:8].copy(), scores[8:16].copy()]
    given[place].flat[-1] = np.nan
    with pytest.raises(EtadError, match="not finite"):
        select_by_boundary(*given)


def test_a_diverged_video_is_named_among_groups_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nms, "PROPOSALS_AT_ONCE", 10)
    segments, scores = (list(each) for each in zip(*(proposals(seed, 9) for seed in range(6))))
    scores[4] = scores[4] * np.nan
    threads = torch.get_num_threads()
    with pytest.raises(EtadError, match="not finite"):
        soft_nms(segments, scores, sigma=0.35, most_kept=3)
    assert torch.get_num_threads() == threads


def test_a_diverged_detector_is_named() -> None:
    segments, scores = proposals(0, 4)
    with pytest.raises(EtadError, match="not finite"):
        one_video(segments, np.array([0.1, np.nan, 0.2, 0.3]))
    with pytest.raises(EtadError, match="not finite"):
        one_video(segments * np.inf, scores)
    with pytest.raises(EtadError, match=r"negative score -0\.5"):
        one_video(segments, np.array([0.1, -0.5, 0.2, 0.3]))
