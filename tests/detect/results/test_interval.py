"""The interval of an average mAP: its draws against a loop over videos, and what it says of few and of many."""

import numpy as np

from etad.detect.results.interval import SAMPLES, bootstrap_interval
from etad.detect.results.metrics import GroundTruth, Predictions, mean_average_precision

TIOUS = (0.3, 0.5)


def made(num_videos: int, *, share_found: float, seed: int = 0) -> tuple[GroundTruth, Predictions]:
    """Videos of two actions each, a share of which are found exactly and the others not at all."""
    rng = np.random.default_rng(seed)
    video = np.repeat(np.arange(num_videos), 2)
    start = rng.uniform(0, 50, len(video))
    label = rng.integers(0, 2, len(video))
    truth = GroundTruth(video=video, label=label, start_seconds=start, end_seconds=start + 5)
    is_found = rng.random(len(video)) < share_found
    found = Predictions(
        video=video,
        label=label,
        start_seconds=start + np.where(is_found, 0, 20),
        end_seconds=start + np.where(is_found, 5, 25),
        score=rng.random(len(video)),
    )
    return truth, found


def test_the_draws_are_those_of_a_loop_over_videos() -> None:
    truth, found = made(5, share_found=0.5)
    interval = bootstrap_interval(truth, found, num_videos=5, tious=TIOUS)
    rng, values = np.random.default_rng([0, 5]), []
    for _ in range(SAMPLES):
        columns: dict[str, list[float]] = {}
        for copy, video in enumerate(rng.integers(5, size=5)):
            for name, table in (("t", truth), ("p", found)):
                for row in np.flatnonzero(table.video == video):
                    for key, column in vars(table).items():
                        columns.setdefault(name + key, []).append(copy if key == "video" else column[row])
        one = GroundTruth(**{key[1:]: np.array(each) for key, each in columns.items() if key[0] == "t"})
        two = Predictions(**{key[1:]: np.array(each) for key, each in columns.items() if key[0] == "p"})
        values.append(mean_average_precision(one, two, tious=TIOUS).average)
    assert interval is not None
    assert np.allclose(interval[:2], np.quantile(values, [0.05, 0.95]))


def test_few_videos_give_a_wide_interval_and_many_a_narrow_one_around_the_figure() -> None:
    widths = []
    for num_videos in (4, 60):
        truth, found = made(num_videos, share_found=0.6)
        interval = bootstrap_interval(truth, found, num_videos=num_videos, tious=TIOUS)
        assert interval is not None
        assert interval.low <= mean_average_precision(truth, found, tious=TIOUS).average <= interval.high
        widths.append(interval.high - interval.low)
    assert widths[0] > 2 * widths[1]


def test_one_video_tells_nothing_and_what_is_always_found_is_certain() -> None:
    assert bootstrap_interval(*made(1, share_found=1), num_videos=1, tious=TIOUS) is None
    interval = bootstrap_interval(*made(6, share_found=1), num_videos=6, tious=TIOUS)
    assert interval is not None
    assert interval[:2] == (1.0, 1.0)
