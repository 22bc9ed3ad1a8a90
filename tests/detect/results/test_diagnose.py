import tracemalloc

import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.detect.results import errors, ranked
from etad.detect.results.characteristics import by_coverage, by_instances, by_length
from etad.detect.results.diagnose import diagnose
from etad.detect.results.diagnosis import PROFILE
from etad.detect.results.interval import bootstrap_interval
from etad.detect.results.metrics import GroundTruth, Predictions, mean_average_precision
from reference import diagnosis as plain

VIDEOS = 5


def truth(rows: list[tuple]) -> GroundTruth:
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return GroundTruth(columns[0].astype(int), columns[1].astype(int), *columns[2:])


def found(rows: list[tuple]) -> Predictions:
    columns = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    return Predictions(columns[0].astype(int), columns[1].astype(int), *columns[2:])


def random_rows(seed: int, *, ties: bool = True) -> tuple[list[tuple], list[tuple]]:
    """Crowded videos on a coarse grid; the last video and label have no action, the label before that next to none."""
    random = np.random.default_rng(seed)

    def segments(count: int, videos: int, labels: int) -> list[tuple]:
        start, length = random.integers(0, 24, count), random.integers(0, 9, count)
        codes = random.integers(0, videos, count), random.integers(0, labels, count)
        return list(zip(*(column.tolist() for column in (*codes, start, start + length))))

    actions = [*segments(24, VIDEOS - 1, 3), (0, 4, 40, 50), (1, 4, 3, 5)]
    detections = segments(120, VIDEOS, 6)
    scores = random.integers(0, 6, len(detections)) if ties else random.random(len(detections))
    return actions, [(*row, score) for row, score in zip(detections, scores.tolist())]


@pytest.mark.parametrize("seed", range(4))
def test_kinds_and_costs_equal_the_plain_analysis(seed: int) -> None:
    actions, detections = random_rows(seed)
    tious = [0.05, 0.3, 0.5, 0.8]
    result = diagnose(truth(actions), found(detections), tious=tious, num_videos=VIDEOS, samples=2)
    for level, tiou in enumerate(tious):
        expected = plain.diagnose(actions, detections, tiou)
        assert result.mAP[level] == pytest.approx(expected["mAP"], abs=1e-12)
        assert {kind: error.counts[level] for kind, error in result.errors.items()} == expected["counts"]
        for what in ("removed", "corrected"):
            gains = {kind: getattr(error, what)[level] for kind, error in result.errors.items()}
            assert gains == pytest.approx(expected[what], abs=1e-12), (what, tiou)
        np.testing.assert_allclose(result.profile[level], expected["profile"], rtol=0, atol=1e-12)
    assert result.num_unlabelled == sum(row[1] not in {action[1] for action in actions} for row in detections)


@pytest.mark.parametrize("seed", range(2))
def test_groups_of_actions_equal_the_plain_analysis(seed: int) -> None:
    actions, detections = random_rows(seed)
    ground_truth, tious = truth(actions), [0.3, 0.6]
    durations = np.array([50.0, 60.0, np.nan, 90.0, 30.0])
    groups = [by_length(ground_truth), by_coverage(ground_truth, durations), by_instances(ground_truth)]
    result = diagnose(
        ground_truth, found(detections), tious=tious, num_videos=VIDEOS, characteristics=groups, samples=2
    )
    for one, sensitivity in zip(groups, result.sensitivities):
        assert sensitivity.num_unknown == (sum(row[0] == 2 for row in actions) if one.name == "coverage" else 0)
        assert sum(group.num_actions for group in sensitivity.groups) == len(actions) - sensitivity.num_unknown
        for number, group in enumerate(sensitivity.groups):
            chosen = np.flatnonzero(one.group == number).tolist()
            expected = [plain.precision_of_group(actions, detections, tiou, chosen) for tiou in tious]
            assert group.precision == pytest.approx([each[0] for each in expected], abs=1e-12)
            assert group.missed == pytest.approx(np.mean([each[1] for each in expected]), abs=1e-12)


def test_figures_agree_with_the_evaluation_and_its_interval() -> None:
    actions, detections = random_rows(7, ties=False)
    tious = (0.3, 0.5, 0.7)
    columns = truth(actions), found(detections)
    result = diagnose(*columns, tious=tious, num_videos=VIDEOS)
    precision = mean_average_precision(*columns, tious=tious)
    assert result.mAP == pytest.approx(precision.mAP)
    normalised = mean_average_precision(*columns, tious=tious, normalised=True)
    assert result.normalised_mAP == pytest.approx(normalised.mAP)
    interval = bootstrap_interval(*columns, num_videos=VIDEOS, tious=tious)
    assert interval is not None
    assert result.average_mAP == pytest.approx((precision.average, interval.low, interval.high))
    assert all(error.average_removed.low is not None for error in result.errors.values())


def test_each_kind_of_error_is_told_apart_and_costs_what_it_takes() -> None:
    actions = [(0, 0, 0, 10), (0, 1, 20, 30), (0, 0, 40, 50)]
    detections = [
        (0, 0, 0, 10, 0.9),  # hit
        (0, 0, 0, 9, 0.8),  # double
        (0, 0, 20, 30, 0.7),  # wrong label
        (0, 0, 44, 54, 0.6),  # localisation, of an action that nobody has found
        (0, 1, 46, 56, 0.5),  # confusion
        (0, 1, 90, 99, 0.4),  # background
        (0, 7, 90, 99, 0.4),  # of a label that no action has
    ]
    result = diagnose(truth(actions), found(detections), tious=[0.5], num_videos=1)
    assert {kind: error.counts for kind, error in result.errors.items()} == {
        "double": (1,),
        "wrong_label": (1,),
        "localisation": (1,),
        "confusion": (1,),
        "background": (1,),
        "missed": (2,),
    }
    assert result.mAP == pytest.approx([0.25]) and result.num_unlabelled == 1
    # The action of label 1 is found by the one that is put right: AP 1 of it, at once.
    assert result.errors["wrong_label"].average_corrected.value == pytest.approx(0.5)
    # A hit in the fourth place: 1/2 (1 + 2/4) instead of 1/2.
    assert result.errors["localisation"].average_corrected.value == pytest.approx((0.75 - 0.5) / 2)
    assert result.errors["localisation"].average_removed.value == 0.0
    # Label 0 has one action left, found at once; label 1 has none, and false positives.
    assert result.errors["missed"].average_corrected.value == pytest.approx(0.5 - 0.25)
    assert result.average_mAP.low is None  # one video is no sample


def test_intervals_are_given_where_the_evaluation_gives_one() -> None:
    # Of four videos one has actions: draws of them tell nothing of others.
    columns = truth([(0, 0, 0, 10), (0, 0, 20, 30)]), found([(0, 0, 0, 10, 0.9), (1, 0, 5, 9, 0.8)])
    assert bootstrap_interval(*columns, num_videos=4, tious=[0.5]) is None
    groups = [by_length(columns[0])]
    result = diagnose(*columns, tious=[0.5], num_videos=4, characteristics=groups)
    costs = [cost for error in result.errors.values() for cost in (error.average_removed, error.average_corrected)]
    of_groups = [group.average_precision for group in result.sensitivities[0].groups]
    assert all(each.low is None for each in (result.average_mAP, result.average_normalised_mAP, *costs, *of_groups))
    # With a second one there is an interval, but none of the group whose actions are all in one video.
    both = truth([(0, 0, 0, 10), (0, 0, 20, 90), (1, 0, 0, 10)])
    result = diagnose(both, columns[1], tious=[0.5], num_videos=4, characteristics=[by_length(both)])
    assert result.average_mAP.low is not None
    short, long = result.sensitivities[0].groups
    assert short.average_precision.low is not None and long.average_precision.low is None


def test_nothing_detected_costs_everything_by_missing() -> None:
    result = diagnose(truth([(0, 0, 0, 1), (1, 3, 0, 1)]), found([]), tious=[0.5], num_videos=2, samples=3)
    assert result.average_mAP.value == 0.0
    assert result.errors["missed"].average_corrected.value == 1.0
    assert result.profile.shape == (1, len(PROFILE), len(errors.KINDS)) and not result.profile.any()
    with pytest.raises(EtadError, match="nothing to diagnose"):
        diagnose(truth([]), found([]), tious=[0.5], num_videos=2)


def test_lengths_are_cut_into_fifths_and_unknown_durations_stay_out() -> None:
    actions = truth([(number % 4, 0, 0, length) for number, length in enumerate((1, 2, 3, 4, 5, 6, 7, 8, 9, 10))])
    fifths = by_length(actions)
    assert fifths.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert fifths.groups == (("XS", "to 2"), ("S", "2-4"), ("M", "4-6"), ("L", "6-8"), ("XL", "over 8"))
    covered = by_coverage(actions, np.array([10.0, np.nan, 0.0, 20.0]))
    assert (covered.group == -1).tolist() == [number % 4 in (1, 2) for number in range(10)]
    alike = by_length(truth([(0, 0, 0, 3)] * 4))
    assert alike.groups == (("XS", "to 3"),) and not alike.group.any()
    assert by_instances(truth([(0, 0, 0, 1)] * 5 + [(1, 0, 0, 1)])).group.tolist() == [1] * 5 + [0]


@pytest.mark.parametrize("at_once", [1, 7])
def test_what_is_held_at_once_changes_no_figure(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    actions, detections = random_rows(3)
    columns = truth(actions), found(detections)
    whole = diagnose(*columns, tious=[0.2, 0.5], num_videos=VIDEOS, samples=4)
    monkeypatch.setattr(errors, "PAIRS_AT_ONCE", at_once)
    monkeypatch.setattr(ranked, "PAIRS_AT_ONCE", at_once)
    parts = diagnose(*columns, tious=[0.2, 0.5], num_videos=VIDEOS, samples=4)
    assert parts.errors == whole.errors
    assert parts.average_normalised_mAP == whole.average_normalised_mAP


def test_dense_annotation_is_diagnosed_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (errors, ranked):
        monkeypatch.setattr(module, "PAIRS_AT_ONCE", 50_000)
    random = np.random.default_rng(0)
    count = 700
    start = random.random(count) * 500
    codes = np.zeros(count, dtype=int), random.integers(0, 2, count)
    tracemalloc.start()
    try:
        columns = GroundTruth(*codes, start, start + 5), Predictions(*codes, start, start + 5, random.random(count))
        result = diagnose(*columns, tious=[0.5], num_videos=2, samples=5)
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert result.average_mAP.value == pytest.approx(1.0)
    assert peak_mib < 12  # all pairs at once, in a dozen columns, would take 45 MiB
