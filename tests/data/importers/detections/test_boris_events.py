"""Detections as events for BORIS: read as BORIS reads them, they are the same again."""

import logging
from datetime import datetime
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np
import openpyxl
import pytest

from etad.data.detections import Detections
from etad.data.errors import EtadError
from etad.data.importers.detections.boris_events import write_boris_events
from etad.data.importers.detections.export import export_all

SEGMENTS = np.array([[1.0, 2.5], [2.0, 4.0], [2.5, 3.0], [0.5, 9.0], [7.0, 7.0001]])
LABELS = np.array([0, 0, 0, 1, 0])
SCORES = np.array([0.9, 0.5, 0.8, 0.3, 0.7])


def paired(path: Path) -> list[tuple[float, float, str]]:
    """Events of one code start and stop in turn."""
    book = openpyxl.load_workbook(path)
    head, *rows = book.worksheets[0].iter_rows(values_only=True)
    assert head == ("time", "subject", "code", "modifier", "comment")
    begun: dict[str, float] = {}
    found = []
    for time, _, code, _, _ in rows:
        if code in begun:
            found.append((begun.pop(code), time, code))
        else:
            begun[code] = time
    assert not begun
    return sorted(found)


def test_detections_come_back_by_boriss_own_rule_and_what_overlaps_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detections = Detections.join([("cat", SEGMENTS, LABELS, SCORES)], labels=("jump", "=run"))
    with caplog.at_level(logging.WARNING):
        path = write_boris_events(tmp_path / "cat.xlsx", detections, "cat")
    assert paired(path) == [(0.5, 9.0, "=run"), (1.0, 2.5, "jump"), (2.5, 3.0, "jump")]
    assert "2 detections left out" in caplog.text
    cell = next(c for row in openpyxl.load_workbook(path).worksheets[0].iter_rows() for c in row if c.value == "=run")
    assert cell.data_type == "s"


def test_what_is_counted_as_written_is_what_was_written(tmp_path: Path) -> None:
    detections = Detections.join([(name, SEGMENTS, LABELS, SCORES) for name in "ab"], labels=("jump", "run"))
    assert export_all(detections, tmp_path / "out", layout="boris") == (6, 2)
    assert sum(len(paired(tmp_path / "out" / f"{name}.xlsx")) for name in "ab") == 6


def test_the_same_events_are_the_same_file_whenever_they_are_written(tmp_path: Path) -> None:
    detections = Detections.join([("cat", SEGMENTS, LABELS, SCORES)], labels=("jump", "run"))
    for _ in range(2):
        export_all(detections, tmp_path / "cat.xlsx", layout="boris")
    assert [each.name for each in tmp_path.iterdir()] == ["cat.xlsx"]  # nothing else was there to be kept
    properties = openpyxl.load_workbook(tmp_path / "cat.xlsx").properties
    assert properties.created == properties.modified == datetime(2000, 1, 1)
    with ZipFile(tmp_path / "cat.xlsx") as archive:
        assert {each.date_time for each in archive.infolist()} == {ZipInfo("any").date_time}


def test_a_video_without_detections_has_an_empty_table_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    none = Detections.join([("cat", np.zeros((0, 2)), np.zeros(0, int), np.zeros(0))], labels=())
    assert paired(write_boris_events(tmp_path / "cat.xlsx", none, "cat")) == []
    with pytest.raises(EtadError, match="no detections of video 'dog'"):
        write_boris_events(tmp_path / "dog.xlsx", none, "dog")
