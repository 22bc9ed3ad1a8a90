import json
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.detect.results import matching, metrics
from etad.detect.results.matching import chunks, match_in_order
from etad.detect.results.metrics import (
    ACTIVITYNET_TIOUS,
    GroundTruth,
    Predictions,
    average_recall,
    mean_average_precision,
)
from reference import metrics as plain


def truth(rows: list[tuple]) -> GroundTruth:
    """Ground truth of (video, label, start, end) rows."""
    return GroundTruth(*np.array(rows, dtype=np.float64).reshape(-1, 4).T)


def found(rows: list[tuple]) -> Predictions:
    """Predictions of (video, label, start, end, score) rows."""
    return Predictions(*np.array(rows, dtype=np.float64).reshape(-1, 5).T)


def read_rows(database: dict, results: dict, subset: str) -> tuple[list[tuple], list[tuple], dict[str, int]]:
    """Rows of ActivityNet's JSON, and the code of each label in the order in which they appear."""
    videos: dict[str, int] = {}
    labels: dict[str, int] = {}
    actions, detections = [], []
    for name, video in database.items():
        for action in video["annotations"] if video["subset"] == subset else []:
            codes = videos.setdefault(name, len(videos)), labels.setdefault(action["label"], len(labels))
            actions.append((*codes, *map(float, action["segment"])))
    for name, rows in results.items():
        for row in rows:
            codes = videos.get(name, -1), labels.get(row["label"], -1)
            detections.append((*codes, *map(float, row["segment"]), row["score"]))
    return actions, detections, labels


def random_rows(seed: int, *, num_actions: int, num_detections: int, ties: bool) -> tuple[list[tuple], list[tuple]]:
    """Crowded videos on a coarse grid of times: duplicates, equal IoUs, IoUs exactly at thresholds."""
    rng = np.random.default_rng(seed)

    def segments(count: int) -> list[tuple]:
        start, length = rng.integers(0, 20, count), rng.integers(0, 10, count)
        video, label = rng.integers(0, 4, count), rng.integers(0, 3, count)
        return list(zip(video.tolist(), label.tolist(), start.tolist(), (start + length).tolist()))

    scores = rng.integers(0, 6, num_detections) if ties else rng.random(num_detections)
    detections = [(*row, score) for row, score in zip(segments(num_detections), scores.tolist())]
    return segments(num_actions), detections


def test_perfect_detections_score_one() -> None:
    actions = [(0, 0, 1.0, 2.0), (1, 0, 3.0, 5.0), (1, 7, 3.0, 5.0)]
    result = mean_average_precision(truth(actions), found([(*action, 0.5) for action in actions]))
    assert result.labels.tolist() == [0, 7]
    assert result.mAP == pytest.approx(np.ones(10))
    assert result.average == pytest.approx(1.0)


def test_a_second_detection_of_the_same_action_is_a_false_positive() -> None:
    actions = [(0, 0, 0.0, 10.0), (1, 0, 0.0, 10.0)]
    detections = [(0, 0, 0.0, 10.0, 0.9), (0, 0, 0.0, 10.0, 0.8), (1, 0, 0.0, 10.0, 0.7)]
    result = mean_average_precision(truth(actions), found(detections), tious=[0.5])
    assert result.ap[0, 0] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_of_equal_scores_the_later_row_comes_first() -> None:
    actions = [(0, 0, 0.0, 10.0)]
    hit, miss = (0, 0, 0.0, 10.0, 0.5), (0, 0, 20.0, 30.0, 0.5)
    assert mean_average_precision(truth(actions), found([miss, hit])).average == pytest.approx(1.0)
    assert mean_average_precision(truth(actions), found([hit, miss])).average == pytest.approx(0.5)


def test_an_empty_detection_never_hits_an_empty_action() -> None:
    result = mean_average_precision(truth([(0, 0, 5.0, 5.0)]), found([(0, 0, 70.0, 70.0, 1.0)]))
    assert result.average == 0.0


def test_labels_and_videos_without_detections_count_as_missed() -> None:
    result = mean_average_precision(truth([(0, 0, 0.0, 1.0), (0, 1, 0.0, 1.0)]), found([(0, 0, 0.0, 1.0, 1.0)]))
    assert result.ap[0].tolist() == [1.0, 0.0]
    assert mean_average_precision(truth([(0, 0, 0.0, 1.0)]), found([])).average == 0.0


def test_detections_elsewhere_are_false_positives_but_unknown_labels_are_ignored() -> None:
    actions = [(0, 0, 0.0, 1.0)]
    elsewhere, unknown = (-1, 0, 0.0, 1.0, 0.9), (0, -1, 0.0, 1.0, 0.9)
    hit = (0, 0, 0.0, 1.0, 0.5)
    assert mean_average_precision(truth(actions), found([elsewhere, unknown, hit])).average == pytest.approx(0.5)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_map_equals_the_plain_evaluator(seed: int, ties: bool) -> None:
    actions, detections = random_rows(seed, num_actions=40, num_detections=300, ties=ties)
    thresholds = [0.1, *ACTIVITYNET_TIOUS]
    result = mean_average_precision(truth(actions), found(detections), tious=thresholds)
    expected = plain.mean_average_precision(actions, detections, thresholds)
    np.testing.assert_allclose(result.ap, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_normalised_map_equals_the_plain_evaluator(seed: int) -> None:
    actions, detections = random_rows(seed, num_actions=40, num_detections=300, ties=True)
    # One label is rare, so that the usual number of actions is not its own.
    actions = [row for number, row in enumerate(actions) if row[1] != 2 or number % 4 == 0]
    result = mean_average_precision(truth(actions), found(detections), tious=[0.1, 0.5, 0.8], normalised=True)
    expected = plain.mean_average_precision(actions, detections, [0.1, 0.5, 0.8], normalised=True)
    np.testing.assert_allclose(result.ap, expected, rtol=0, atol=1e-12)


def test_normalised_map_does_not_depend_on_how_frequent_a_label_is() -> None:
    # Both labels have half their actions found, and as many false positives in front of each.
    actions = [(video, 0, 0.0, 10.0) for video in range(8)] + [(video, 1, 0.0, 10.0) for video in range(2)]
    wrong = [(0, label, 50.0, 60.0, 0.9) for label in (0, 1)]
    hits = [(video, 0, 0.0, 10.0, 0.5) for video in range(4)] + [(0, 1, 0.0, 10.0, 0.5)]
    columns = truth(actions), found(wrong + hits)
    rare, frequent = (mean_average_precision(*columns, tious=[0.5], normalised=yes).ap[0] for yes in (True, False))
    # Usually 5 actions: R N / (R N + F) = 2.5 / 3.5.
    assert rare == pytest.approx([0.5 * 2.5 / 3.5] * 2)
    assert frequent == pytest.approx([0.5 * 4 / 5, 0.5 * 1 / 2])


@pytest.mark.parametrize("case", ["small", "ties"])
def test_map_equals_the_official_numbers(shared: Path, case: str) -> None:
    golden = json.loads((shared / "goldens" / "anet_map.json").read_text())[case]
    database, results = golden["ground_truth"]["database"], golden["predictions"]["results"]
    actions, detections, labels = read_rows(database, results, "validation")
    assert labels == golden["activity_index"]
    result = mean_average_precision(truth(actions), found(detections))
    np.testing.assert_allclose(result.ap, golden["ap_stable_sort"], rtol=0, atol=1e-12)
    assert result.average == pytest.approx(golden["average_mAP_stable_sort"], abs=1e-12)


def test_published_detections_score_their_published_map(shared: Path) -> None:
    database = json.loads((shared / "annotations" / "thumos14.json").read_text())["database"]
    results = json.loads((shared / "detections" / "thumos14_stpn_results.json").read_text())["results"]
    actions, detections, _ = read_rows(database, results, "test")
    result = mean_average_precision(truth(actions), found(detections), tious=(0.3, 0.4, 0.5, 0.6, 0.7))
    assert (100 * result.mAP).round(1).tolist() == [34.7, 26.1, 17.7, 10.1, 5.0]


@pytest.mark.parametrize("most_proposals", [3, 20, 1000])
def test_recall_equals_the_plain_evaluator(most_proposals: float) -> None:
    actions, detections = random_rows(0, num_actions=30, num_detections=120, ties=True)
    detections += [(-1, 0, 0.0, 1.0, 0.3)] * 7
    thresholds = list(ACTIVITYNET_TIOUS)
    result = average_recall(truth(actions), found(detections), most_proposals=most_proposals, distinct=False)
    recall, num_proposals = plain.average_recall(actions, detections, thresholds, most_proposals)
    np.testing.assert_allclose(result.recall, recall, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.num_proposals, num_proposals, rtol=0, atol=1e-12)


def test_recall_equals_the_official_numbers(shared: Path) -> None:
    golden_map = json.loads((shared / "goldens" / "anet_map.json").read_text())["small"]
    golden = json.loads((shared / "goldens" / "anet_ar_an.json").read_text())["small"]
    database, results = golden_map["ground_truth"]["database"], golden_map["predictions"]["results"]
    actions, proposals, _ = read_rows(database, results, "validation")
    most = golden["max_avg_nr_proposals"]
    result = average_recall(truth(actions), found(proposals), most_proposals=most, distinct=False)
    np.testing.assert_allclose(result.recall, golden["recall"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.num_proposals, golden["proposals_per_video"], rtol=0, atol=1e-12)
    assert result.area == pytest.approx(golden["auc"], abs=1e-12)


def test_labels_do_not_count_a_proposal_twice() -> None:
    actions, proposals = random_rows(1, num_actions=30, num_detections=80, ties=False)
    segments = {(row[0], *row[2:4]): row for row in sorted(proposals, key=lambda row: row[4])}
    once = [row for row in proposals if row in segments.values()]
    twice = once + [(video, 9, start, end, score * 0.5) for video, _, start, end, score in once]
    expected = average_recall(truth(actions), found(once), distinct=False)
    for rows in (once, twice, proposals):
        result = average_recall(truth(actions), found(rows))
        np.testing.assert_array_equal(result.recall, expected.recall)
        np.testing.assert_array_equal(result.num_proposals, expected.num_proposals)


def test_recall_rises_to_one_with_enough_proposals() -> None:
    actions = [(video, 0, 0.0, 10.0) for video in range(3)]
    proposals = [(video, 0, float(i), 10.0, 1.0 - i / 20) for video in range(3) for i in range(10)]
    result = average_recall(truth(actions), found(proposals), most_proposals=10)
    assert result.at(10) == pytest.approx(1.0)
    assert result.at(1) == pytest.approx(1.0)
    assert result.at(0.1) == 0.0


def test_recall_without_proposals_is_zero() -> None:
    assert average_recall(truth([(0, 0, 0.0, 1.0)]), found([])).average.max() == 0.0


def test_no_annotated_action_is_refused() -> None:
    with pytest.raises(EtadError, match="holds no action"):
        mean_average_precision(truth([]), found([]))
    with pytest.raises(EtadError, match="holds no action"):
        average_recall(truth([]), found([]))


def test_scores_that_are_not_numbers_are_refused_with_their_row() -> None:
    with pytest.raises(EtadError, match=r"predictions: score is nan in row 1 \(and 0 more\)"):
        found([(0, 0, 0.0, 1.0, 0.5), (0, 0, 0.0, 1.0, float("nan"))])
    with pytest.raises(EtadError, match="ground truth: end_seconds is inf in row 0"):
        truth([(0, 0, 0.0, float("inf"))])


@pytest.mark.parametrize("tious", [[], [0.0], [0.5, 1.2]])
def test_thresholds_outside_0_to_1_are_refused(tious: list[float]) -> None:
    with pytest.raises(EtadError, match="tIoU thresholds"):
        mean_average_precision(truth([(0, 0, 0.0, 1.0)]), found([]), tious=tious)


def test_matching_in_rounds_equals_matching_one_by_one() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.integers(0, 30, 400), rng.integers(0, 20, 400)
    used_left, used_right, expected = set(), set(), []
    for place, (a, b) in enumerate(zip(left.tolist(), right.tolist())):
        if a not in used_left and b not in used_right:
            used_left.add(a)
            used_right.add(b)
            expected.append(place)
    assert sorted(match_in_order(left, right).tolist()) == expected
    assert len(match_in_order(left[:0], right[:0])) == 0


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("crowded_pairs", "pairs_at_once"), [(1, 10**6), (60, 40), (10**6, 1), (10**6, 200)])
def test_what_is_held_at_once_changes_no_number(
    monkeypatch: pytest.MonkeyPatch, ties: bool, crowded_pairs: int, pairs_at_once: int
) -> None:
    actions, detections = random_rows(7, num_actions=40, num_detections=300, ties=ties)
    columns, thresholds = (truth(actions), found(detections)), [0.1, *ACTIVITYNET_TIOUS]
    precision = mean_average_precision(*columns, tious=thresholds)
    recall = average_recall(*columns)
    monkeypatch.setattr(matching, "CROWDED_PAIRS", crowded_pairs)
    monkeypatch.setattr(metrics, "PAIRS_AT_ONCE", pairs_at_once)
    np.testing.assert_array_equal(mean_average_precision(*columns, tious=thresholds).ap, precision.ap)
    np.testing.assert_array_equal(average_recall(*columns).recall, recall.recall)
    expected = plain.mean_average_precision(actions, detections, thresholds)
    np.testing.assert_allclose(precision.ap, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("alike", [False, True], ids=["scattered", "all the same"])
def test_dense_annotation_is_measured_in_bounded_memory(alike: bool) -> None:
    rng = np.random.default_rng(0)
    count = 1500
    start = np.zeros(count) if alike else rng.random(count) * 500
    columns = np.zeros(count, dtype=int), np.zeros(count, dtype=int), start, start + 5
    tracemalloc.start()
    try:
        result = mean_average_precision(GroundTruth(*columns), Predictions(*columns, rng.random(count)))
        average_recall(GroundTruth(*columns), Predictions(*columns, rng.random(count)))
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert result.average == pytest.approx(1.0)
    assert peak_mib < 100  # one column of all pairs alone, at all thresholds, would be 170 MiB


def test_of_many_videos_each_shows_its_best_proposals_once() -> None:
    rng = np.random.default_rng(5)
    video = rng.permutation(np.repeat(np.arange(60), rng.integers(1, 40, 60))).tolist()
    start, score = rng.integers(0, 9, len(video)).tolist(), rng.random(len(video)).tolist()
    rows = [(code, 0, at, at + 1, value) for code, at, value in zip(video, start, score)]
    best = list({(row[0], row[2]): row for row in sorted(rows, key=lambda row: row[4])}.values())
    actions = [(code, 0, at, at + 1) for code, at in zip(range(60), rng.integers(0, 9, 60).tolist())]
    result = average_recall(truth(actions), found(rows), most_proposals=4)
    recall, num_proposals = plain.average_recall(actions, best, list(ACTIVITYNET_TIOUS), 4)
    assert len(best) < len(rows)
    np.testing.assert_allclose(result.recall, recall, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.num_proposals, num_proposals, rtol=0, atol=1e-12)


def test_chunks_cover_all_rows_and_keep_to_the_limit() -> None:
    cut = list(chunks(np.array([3, 0, 4, 9, 1, 1]), most=7))
    assert [(piece.start, piece.stop) for piece in cut] == [(0, 3), (3, 4), (4, 6)]


@pytest.mark.parametrize("widest", [3, 500])
def test_short_cuts_order_and_choose_as_the_plain_ways_do(widest: int) -> None:
    rng = np.random.default_rng(0)
    row = np.repeat(np.arange(300), np.append(rng.integers(0, 4, 299), widest))
    value = rng.integers(0, 5, len(row)) / 5
    assert np.array_equal(matching._falling_by_row(row, value), np.lexsort((-value, row)))
    sides = rng.integers(0, 12, (4, 5000)) / 8  # many meet a threshold exactly, are empty or the wrong way round
    for least in (0.25, 0.5, 1.0):
        iou = matching.segment_iou(*sides)
        place, near = matching._near_pairs(*sides, least=least)
        assert np.array_equal(place, np.flatnonzero(iou >= least)) and np.array_equal(near, iou[place])
    for codes in (rng.integers(-3, 4, 99), rng.integers(-(2**40), 2**40, 99), -(2**15) - np.arange(3), row[:0]):
        assert np.array_equal(matching.by_code(codes), np.argsort(codes, kind="stable"))


def test_numbers_near_the_largest_make_no_noise() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = [(0, 0, -1e308, 1.7e308, 0.9), (0, 0, 0.0, 1.0, 0.8)]
        measured = mean_average_precision(truth([(0, 0, 0.0, 1.0)]), found(rows), tious=[0.5])
    assert measured.average == 0.5
