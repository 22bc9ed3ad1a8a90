import json
from pathlib import Path

import numpy as np
import pytest
from miniature import SMALL_DEMO

from etad.pipeline.cli.main import run
from etad.pipeline.experiments.table6 import ARMS, Table6

SETS = [word for value in SMALL_DEMO for word in ("--set", value)]


def test_gains_are_paired_seed_by_seed() -> None:
    frozen = np.array([0.3, 0.5, 0.4])
    none, ten, thirty, random, every = ARMS
    found = {none: frozen, ten: frozen + np.array([0.1, 0.1, 0.13]), thirty: frozen, random: frozen}
    found[every] = frozen + np.array([0.2, -0.2, 0.0])
    table = Table6((0, 1, 2), frozen - 0.05, found, dict.fromkeys(ARMS, 1.0))
    mean, spread, p = table.gain(ten)
    assert mean == pytest.approx(0.11)
    assert spread == pytest.approx(0.0173, abs=1e-4)
    assert p is not None and p == pytest.approx(0.0082, abs=1e-4)  # t = 11, two degrees of freedom
    assert table.gain(thirty) == (0.0, 0.0, 1.0)
    assert table.gain(every)[0] == pytest.approx(0.0)
    rows = {row[0]: row for row in table.rows()}
    assert all(len(row) == len(table.heads) for row in rows.values())
    assert rows["end to end, gamma 10 %, grid"][1:6] == ("40.0", "60.0", "53.0", "51.0 +- 10.1", "+11.0 +- 1.7")
    assert rows["end to end, gamma 10 %, grid"][-2:] == ("38.3", "42.2")


@pytest.mark.slow
def test_table_6_runs_side_by_side_from_one_command_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "table6", "-o", str(tmp_path / "t6"), "--seed", "0", "--seeds", "2", "--jobs", "2", *SETS]
    assert run(command) == 0
    printed = capsys.readouterr().out
    for text in ("frozen encoder, gamma 0 %", "end to end, gamma 100 %", "seed 1", "38.7", "table6.png"):
        assert text in printed
    found = json.loads((tmp_path / "t6" / "table6.json").read_text())
    assert found["seeds"] == [0, 1] and set(found["average_mAP"]) == {arm.name for arm in ARMS}
    assert (tmp_path / "t6" / "table6.png").stat().st_size > 5000
    weights = {p: p.stat().st_mtime_ns for p in (tmp_path / "t6").rglob("last.pt")}
    assert len(weights) == 2 * (1 + len(ARMS))
    assert run(command) == 0
    assert {p: p.stat().st_mtime_ns for p in weights} == weights
    assert json.loads((tmp_path / "t6" / "table6.json").read_text()) == found


def test_a_data_set_of_ones_own_needs_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = tmp_path / "annotations.json"
    annotations.write_text("{}")
    assert run(["reproduce", "table6", "-o", str(tmp_path / "t6"), "--annotations", str(annotations)]) == 2
    assert "name it with --weights" in capsys.readouterr().err


def test_videos_without_annotations_are_not_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "table6", "-o", str(tmp_path / "t6"), "--videos", str(tmp_path)]) == 2
    assert "Name their --annotations" in capsys.readouterr().err
    assert not (tmp_path / "t6").exists()


def test_labels_from_a_file_are_refused_beforehand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reproduce", "table6", "-o", str(tmp_path / "t6"), "--set", "detect.labels.source=scores"]
    assert run(command) == 2
    assert "takes no file of class scores" in capsys.readouterr().err
