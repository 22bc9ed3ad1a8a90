"""BORIS's exports as its releases write them: whose times they are, and in which file."""

from pathlib import Path
from typing import Any

import openpyxl
import pytest

from etad.data.errors import EtadError
from etad.data.importers.labels.read import read_labels
from etad.data.importers.labels.rows import Labels

# Columns as of 8.16 and later, without those that nothing is read of.
TABULAR = (
    "Observation id,Observation type,Source,Time offset (s),Media duration (s),FPS,"
    "Subject,Behavior,Modifier #1,Behavior type,Time,Media file name"
)
AGGREGATED = (
    "Observation id,Observation type,Source,Time offset (s),Media duration (s),FPS (frame/s),"
    "Subject,Behavior,Behavioral category,Behavior type,Start (s),Stop (s),Media file name"
)


def read(path: Path, head: str, *rows: str, **options: Any) -> Labels:
    path.write_text("\n".join((head, *rows)) + "\n")
    return read_labels(path, **options)


def actions(labels: Labels) -> list[tuple[str, float, float, str]]:
    return [(row.video, row.start_seconds, row.end_seconds, row.label) for row in labels.rows]


TWO_FILES = "o1,Media file(s),player #1:m/a.mp4;m/b.mp4,{},60.000;30.000,25.000;25.000,s,{}"


def test_times_that_run_on_over_several_files_are_counted_within_each(tmp_path: Path) -> None:
    labels = read(
        tmp_path / "events.csv",
        AGGREGATED,
        TWO_FILES.format(0, "run,,STATE,5.000,9.500,m/a.mp4"),
        TWO_FILES.format(0, "run,,STATE,62.000,64.500,m/b.mp4"),
        TWO_FILES.format(0, "run,,STATE,58.000,61.000,m/a.mp4"),
        TWO_FILES.format(0, "run,,STATE,95.000,96.000,m/b.mp4"),
    )
    assert actions(labels) == [("a", 5.0, 9.5, "run"), ("b", 2.0, 4.5, "run")]
    assert labels.durations == {"a": 60.0, "b": 30.0}
    assert "row 4: runs on from 'm/a.mp4' into the next media file" in labels.left_out
    assert "row 5: begins at 35 s, after the end of 'm/b.mp4' at 30 s" in labels.left_out


def test_several_files_of_unstated_lengths_are_refused(tmp_path: Path) -> None:
    head = "Observation id,Media file,Total length,FPS,Subject,Behavior,Behavior type,Start (s),Stop (s)"
    labels = read(
        tmp_path / "version7.csv",
        head,
        "o1,a.mp4,90.0,25,s,run,STATE,5,9",
        "o1,b.mp4,90.0,25,s,run,STATE,62,64",
        "o2,c.mp4,90.0,25,s,run,STATE,1,2",
    )
    assert actions(labels) == [("c", 1.0, 2.0, "run")]
    assert labels.durations == {}  # the total length is of all files of the observation, named or not
    assert len(labels.left_out) == 2 and all("several media files" in why for why in labels.left_out)
    above = "Observation id,o1\nPlayer #1,a.mp4\nPlayer #1,b.mp4\n\n"
    table = "Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status"
    rows = [f"{time},a.mp4,90.0,25,s,run,,,{status}" for time, status in ((5, "START"), (7, "STOP"))]
    with pytest.raises(EtadError, match="several media files"):
        read(tmp_path / "above.csv", above + table, *rows)


def test_an_observations_time_offset_is_taken_off(tmp_path: Path) -> None:
    row = "o1,Media file(s),player #1:a.mp4,100.0,60.000,25,s,run,fast,{},{},a.mp4"
    labels = read(tmp_path / "events.csv", TABULAR, row.format("START", 101.5), row.format("STOP", 103))
    assert actions(labels) == [("a", 1.5, 3.0, "run")]
    assert labels.notes == ("time offsets taken off: o1: 100 s",)
    above = "Observation id,o1,\nPlayer #1,a.mp4,\nTime offset (s),10.0,\n,,\n"
    head = above + "Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status"
    row = "{},a.mp4,60.0,25,s,run,,,{}"
    labels = read(tmp_path / "version7.csv", head, row.format("11.500", "START"), row.format("13.000", "STOP"))
    assert actions(labels) == [("a", 1.5, 3.0, "run")] and labels.durations == {"a": 60.0}


def test_of_several_players_the_first_counts(tmp_path: Path) -> None:
    row = "o1,Media file(s),player #1:top.mp4|player #2:side.mp4,0,60.000|59.000,25|25,s,run,,STATE,1,2,top.mp4"
    labels = read(tmp_path / "events.csv", AGGREGATED, row)
    assert actions(labels) == [("top", 1.0, 2.0, "run")] and labels.durations == {"top": 60.0}


@pytest.mark.parametrize("file", ["NA", "LIVE", "Not found", ""])
def test_without_a_media_file_the_observation_names_the_video(file: str, tmp_path: Path) -> None:
    labels = read(tmp_path / "live.csv", AGGREGATED, f"o1,Live observation,NA,0,NA,NA,s,run,,STATE,1,2,{file}")
    assert actions(labels) == [("o1", 1.0, 2.0, "run")]
    assert labels.notes == ("without media files, named by their observation: o1",)


def test_a_spreadsheet_from_boris_is_known_as_such(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (
        ("Observation id", "o1"),
        ("Player #1", "C:\\rats\\rat 1.avi"),
        ("Time", "Media file path", "Total length", "FPS", "Subject", "Behavior", "Comment", "Status"),
        (1.5, "C:\\rats\\rat 1.avi", 60, 25, "s", "rear", None, "START"),
        (3, "C:\\rats\\rat 1.avi", 60, 25, "s", "rear", None, "STOP"),
    ):
        book.active.append(row)
    book.save(tmp_path / "events.xlsx")
    labels = read_labels(tmp_path / "events.xlsx")
    assert labels.layout == "boris" and actions(labels) == [("rat 1", 1.5, 3.0, "rear")]


def test_behaviours_and_videos_with_control_characters_are_listed(tmp_path: Path) -> None:
    row = "o1,Media file(s),player #1:{},0,60,25,s,{},,STATE,1,2,{}"
    names = (("a.mp4", "run"), ("a.mp4", "ru\x1b[2Jn"), ("a\x07.mp4", "run"))
    labels = read(tmp_path / "events.csv", AGGREGATED, *(row.format(file, name, file) for file, name in names))
    assert actions(labels) == [("a", 1.0, 2.0, "run")] and labels.videos == ("a",)
    assert [why.split(":")[0] for why in labels.left_out] == ["row 3", "row 4"]
    assert not any({"\x1b", "\x07"} & set(why) for why in labels.left_out)


def test_files_of_one_name_in_two_folders_are_not_one_video(tmp_path: Path) -> None:
    row = "{0},Media file(s),player #1:{0}/rat.mp4,0,60,25,s,run,,STATE,1,2,{0}/rat.mp4"
    labels = read(tmp_path / "events.csv", AGGREGATED, row.format("day1"), row.format("day2"))
    assert actions(labels) == [("rat", 1.0, 2.0, "run")]
    assert labels.left_out == ("row 3: 'day2/rat.mp4' has the name of 'day1/rat.mp4'; give each video its own",)
    table = read(tmp_path / "t.csv", "video,start,end,label", "day1/rat.mp4,1,2,x", "rat,3,4,x", "day2\\rat.mp4,5,6,x")
    assert len(table.rows) == 2 and len(table.left_out) == 1
