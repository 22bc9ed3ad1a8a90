import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from etad.detect.results.characteristics import by_coverage, by_instances, by_length
from etad.detect.results.diagnose import diagnose
from etad.detect.results.diagnosis import Diagnosis, Estimate
from etad.detect.results.metrics import GroundTruth, Predictions
from etad.pipeline.show.diagnosis import diagnosis_text
from etad.pipeline.show.figures.diagnosis import _draw_intervals, plot_diagnosis


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    random = np.random.default_rng(0)
    start = random.uniform(0, 50, 40)
    video, label = random.integers(0, 4, 40), random.integers(0, 2, 40)
    truth = GroundTruth(video, label, start, start + random.uniform(1, 9, 40))
    moved = start + random.normal(size=40)
    detections = Predictions(video, random.integers(0, 3, 40), moved, moved + 5, random.random(40))
    groups = [by_length(truth), by_coverage(truth, np.full(4, np.nan)), by_instances(truth)]
    return diagnose(truth, detections, tious=[0.3, 0.5], num_videos=4, characteristics=groups, samples=5)


def test_tables_tell_every_kind_every_group_and_what_is_not_known(found: Diagnosis) -> None:
    text = diagnosis_text(found)
    for name in ("double", "wrong label", "localisation", "label and localisation", "background", "missed action"):
        assert re.search(rf"^{name} +\d+ +\d+ ", text, re.MULTILINE), name
    assert text.count("length ") >= 4 and "By coverage: not known, since no video states its duration." in text
    assert f"{found.num_unlabelled} detections of no class that an action has: counted nowhere." in text
    assert "Intervals hold 90 % of 5 draws" in text


def test_an_interval_that_leaves_out_its_value_is_drawn_where_it_lies() -> None:
    axes = Figure().subplots()
    estimates = [Estimate(0.10, 0.15, 0.20), Estimate(0.3, None, None)]
    _draw_intervals(axes.vlines, np.array([0.0, 1.0]), estimates)
    (drawn,) = axes.collections
    assert drawn.get_segments()[0].tolist() == [[0.0, 15.0], [0.0, 20.0]]


def test_what_is_long_or_short_is_written_out_and_what_has_no_interval_is_without_a_mark(found: Diagnosis) -> None:
    end = np.array([900.0, 1500.0, 2200.0, 5400.0, 7200.0])
    truth = GroundTruth(np.arange(5), np.zeros(5, int), np.zeros(5), end)
    shares = by_coverage(truth, np.array([1e8, 1e8, 1e8, 1e8, 1e8]))
    for one in (by_length(truth), shares):
        assert all("e" not in holds.removeprefix("over ") for _, holds in one.groups), one.groups
    assert by_length(truth).groups[-1][1] in ("over 5400", "over 5400 s")
    bare = replace(found, average_mAP=Estimate(0.5, None, None), average_normalised_mAP=Estimate(0.25, None, None))
    assert "mAP 50.0, mAP_N 25.0 %, of" in diagnosis_text(bare)


def test_the_page_is_drawn_with_groups_and_without(found: Diagnosis, tmp_path: Path) -> None:
    paths = plot_diagnosis(found, [tmp_path / "page.svg"], title="$1 of_2")
    assert paths[0].read_bytes().startswith(b"<?xml")
    # One threshold, and no group.
    few = replace(found, sensitivities=(), tious=found.tious[:1])
    (path,) = plot_diagnosis(few, [tmp_path / "few.png"], title="few")
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000
    assert "actions by" not in diagnosis_text(few)
