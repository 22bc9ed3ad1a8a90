"""Operating thresholds: where F1 is best, by class, and what has no examples."""

from pathlib import Path

import numpy as np
import pytest

from etad.data.annotations import Action, Video
from etad.data.detections import Detections
from etad.data.errors import EtadError
from etad.pipeline.stages.operating import (
    above_thresholds,
    choose_thresholds,
    read_thresholds,
    write_thresholds,
)

VIDEOS = [
    Video("a", "test", 100.0, (Action(0, 10, "run"), Action(20, 30, "run"))),
    Video("b", "test", 100.0, (Action(0, 10, "jump"),)),
]


def detections(*rows: tuple[int, int, float, float, float]) -> Detections:
    """Rows of video, label (jump, run, turn), start, end, score."""
    columns = [np.array(column) for column in zip(*rows)]
    video, label = (column.astype(int) for column in columns[:2])
    return Detections(("a", "b"), ("jump", "run", "turn"), video, label, *(c.astype(float) for c in columns[2:]))


FOUND = detections(
    (0, 1, 0, 10, 0.9),  # hit
    (0, 1, 60, 70, 0.8),  # miss
    (0, 1, 21, 30, 0.6),  # hit
    (0, 1, 0, 10, 0.5),  # the same action again: a miss
    (1, 0, 50, 60, 0.7),  # jump is never found
    (1, 2, 0, 10, 0.3),  # turn has no example
)


def test_each_class_is_cut_where_its_f1_is_best_and_the_others_where_that_of_all_is() -> None:
    chosen = choose_thresholds(VIDEOS, FOUND, subset="test", is_tested_on=True)
    assert chosen is not None
    assert chosen.per_class == {"run": pytest.approx(0.55)}
    # All together: of 3 actions, 2 are found among the best 4 detections, F1 4/7; the best one alone has 2/4.
    assert chosen.overall == pytest.approx(0.55)
    assert chosen.of("turn") == chosen.of("jump") == chosen.overall
    assert chosen.f1 == pytest.approx(4 / 7)
    kept = above_thresholds(FOUND, chosen)
    assert kept.score.tolist() == [0.9, 0.8, 0.6, 0.7] and kept.video_ids == FOUND.video_ids
    assert above_thresholds(FOUND, 0.75).score.tolist() == [0.9, 0.8]


def test_equal_scores_stay_together() -> None:
    found = detections((0, 1, 0, 10, 0.5), (0, 1, 20, 30, 0.5), (0, 1, 60, 70, 0.5), (0, 1, 80, 90, 0.1))
    chosen = choose_thresholds(VIDEOS[:1], found, subset="test", is_tested_on=False)
    assert chosen is not None
    assert 0.1 < chosen.per_class["run"] < 0.5


def test_without_actions_or_detections_nothing_is_chosen() -> None:
    empty = Video("a", "test", 100.0, ())
    assert choose_thresholds([empty], FOUND, subset="test", is_tested_on=True) is None
    none = above_thresholds(FOUND, 2.0)
    assert choose_thresholds(VIDEOS, none, subset="test", is_tested_on=True) is None


def test_thresholds_come_back_as_written_and_a_damaged_file_is_refused(tmp_path: Path) -> None:
    chosen = choose_thresholds(VIDEOS, FOUND, subset="test", is_tested_on=True)
    assert chosen is not None
    path = tmp_path / "thresholds.json"
    assert read_thresholds(path) is None
    write_thresholds(path, chosen)
    assert read_thresholds(path) == chosen
    path.write_text('{"overall": "high"}')
    with pytest.raises(EtadError, match="no thresholds of etad"):
        read_thresholds(path)
