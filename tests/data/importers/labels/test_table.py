"""Tables of labels, under whatever names and in whatever spelling of time."""

import json
import math
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etad.data.annotations import read_annotations
from etad.data.detections import Detections
from etad.data.errors import EtadError
from etad.data.importers.detections.detection_table import write_detections_csv
from etad.data.importers.labels.read import read_labels
from etad.data.importers.labels.rows import write_annotations
from etad.pipeline.cli.main import run


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def actions(path: Path, **options: object) -> list[tuple[str, float, float, str]]:
    labels = read_labels(path, **options)  # type: ignore[arg-type]
    return [(row.video, row.start_seconds, row.end_seconds, row.label) for row in labels.rows]


WANTED = [("a", 1.5, 2.0, "jump"), ("b", 61.0, 62.25, "run, fast")]
TABLES = {
    "comma": 'video,start,end,label\na,1.5,2,jump\nb,61,62.25,"run, fast"\n',
    "semicolons, decimal commas": "Video;Start (s);End (s);Behavior\na;1,5;2,0;jump\nb;61;62,25;run, fast\n",
    "tabs": "file\tonset\toffset\taction\na.mp4\t1.5\t2\tjump\nb.MP4\t61\t62.25\trun, fast\n",
    "clock": 'clip,from,to,class\nclips/a.mkv,0:01.5,00:00:02.000,jump\n"C:\\x\\b.avi",1:01,01:02.25,"run, fast"\n',
    "milliseconds": 'id,start_ms,end_ms,label\na,1500,2000,jump\nb,61000,62250,"run, fast"\n',
    "columns in another order, and others": 'score,label,end,start,video\n1,jump,2,1.5,a\n,"run, fast",62.25,61,b\n',
    "blank lines and blanks": ' video , start , end , label \n\na , 1.5 , 2 , jump \n\nb,61,62.25,"run, fast"\n\n',
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_is_read_however_it_is_written(name: str, encoding: str, tmp_path: Path) -> None:
    assert actions(write(tmp_path / "labels.csv", TABLES[name], encoding)) == WANTED


def test_a_spreadsheet_is_read_as_its_text_would_be(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (("video", "start", "end", "label"), ("a", 1.5, 2, "jump"), ("b", "1:01", 62.25, "run, fast")):
        book.active.append(row)
    book.save(tmp_path / "labels.xlsx")
    assert actions(tmp_path / "labels.xlsx") == WANTED


def test_frames_need_a_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.csv", "video,start_frame,end_frame,label\na,30,45,jump\n")
    assert actions(path, fps=30.0) == [("a", 1.0, 1.5, "jump")]
    with pytest.raises(EtadError, match="give their rate with --fps"):
        read_labels(path)
    path = write(tmp_path / "rates.csv", "video,start_frame,end_frame,label,fps\na,30,45,jump,15\n")
    assert actions(path) == [("a", 2.0, 3.0, "jump")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "video,start,end,label\na,75,200,jump\n"),
        ("labels.csv", "video,start_ms,end_ms,label\na,75,200,jump\n"),
        ("hacs.csv", "classname,youtube_id,subset,start,end,label\njump,a,training,1,2,1\n"),
        ("annotations.json", '{"database": {"a": {"subset": "training", "duration": 9, "annotations": []}}}'),
    ],
)
def test_a_rate_that_is_not_used_is_refused(name: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"--fps 25 is for times in frames, (but 'start\S*' and|and the layout)"):
        read_labels(write(tmp_path / name, text), fps=25.0)


def test_a_column_of_rates_goes_before_the_rate_that_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.csv", "video,start_frame,end_frame,label,fps\na,30,45,jump,15\na,30,45,run,\n")
    assert actions(path, fps=30.0) == [("a", 2.0, 3.0, "jump"), ("a", 1.0, 1.5, "run")]
    assert "--fps 30 counts where column 'fps' is empty" in read_labels(path, fps=30.0).notes


@pytest.mark.parametrize(
    ("head", "good", "bad"),
    [
        ("video,start,end,label", "a,1,2,jump", "a,3,5,8,2,sway"),
        ("video,start,end,label,", "a,1,2,jump,a note", "a,3,5,8,2,sway"),
        ("classname,youtube_id,subset,start,end,label", "jump,a,training,1,2,1", "jump,a,training,3,5,8,2,1"),
        ("id,actions,length,script", "a,c1 1.0 2.0,9,x", "a,c1 3.0 4.0,9,x,5"),
        ("video,type,type_idx,start,end", "a,jump,1,1,2", "a,jump,1,3,5,8,2"),
    ],
)
def test_a_row_with_more_cells_than_columns_is_listed_and_never_shifted(
    head: str, good: str, bad: str, tmp_path: Path
) -> None:
    found = read_labels(write(tmp_path / "labels.csv", f"{head}\n{good}\n{bad}\n{good},,\n"))
    assert [(row.video, row.start_seconds, row.end_seconds) for row in found.rows] == [("a", 1.0, 2.0)]
    (line,) = found.left_out
    assert line.startswith(f"row 3: has {bad.count(',') + 1} cells, but there are {head.count(',') + 1} columns")
    assert all(f"'{cell}'" in line for cell in bad.split(",")) and "needs quotes" in line


def test_what_stands_beside_a_table_of_a_spreadsheet_shifts_nothing(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["video", "start", "end", "label"], ["a", 1, 2, "jump", None, "a note"]):
        book.active.append(row)
    book.save(tmp_path / "labels.xlsx")
    found = read_labels(tmp_path / "labels.xlsx")
    assert len(found.rows) == 1 and found.left_out == ()


def test_durations_in_frames_take_the_rate(tmp_path: Path) -> None:
    text = "video,start,end,label,duration (frames)\na,1,2,jump,250\n"
    assert read_labels(write(tmp_path / "labels.csv", text), fps=25.0).durations == {"a": 10.0}
    found = read_labels(write(tmp_path / "bad.csv", text.replace("250", "x") + "b,1,2,jump,250\n"), fps=25.0)
    assert found.videos == ("b",) and len(found.left_out) == 1


def test_a_video_whose_first_entry_is_lost_is_no_video_without_actions(tmp_path: Path) -> None:
    entry = '{"subset": "training", "duration": 9, "annotations": [%s]}'
    action = '{"segment": [1, 2], "label": "jump"}'
    text = f'{{"database": {{"a": {entry % action}, "b": {entry % action}, "a": {entry % ""}}}}}'
    assert read_labels(write(tmp_path / "twice.json", text)).videos == ("b",)


def test_a_comment_is_no_video(tmp_path: Path) -> None:
    text = "video,start,end,label\n# made by hand, in May,,\n#,so,,,and,on\na,1,2,jump\n#2.mp4,,,\n#4,5,6,jump\n"
    found = read_labels(write(tmp_path / "labels.csv", text))
    assert found.videos == ("a", "#2", "#4") and found.left_out == ()
    assert "2 comments passed over: row 2, row 3" in found.notes


def test_ids_that_stand_twice_in_annotations_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = '{"subset": "training", "duration": 9, "annotations": [{"segment": [%s], "label": "jump"}]}'
    text = f'{{"database": {{"a": {entry % "1, 2"}, "b": {entry % "3, 4"}, "a": {entry % "5, 6"}}}}}'
    path = write(tmp_path / "twice.json", text)
    found = read_labels(path)
    assert found.left_out == ("video 'a': stands twice, and what its first entry says is lost; keep one of them",)
    assert run(["import", "labels", str(path), "-o", str(tmp_path / "out.json")]) == 1
    assert "stands twice" in capsys.readouterr().out


def test_columns_can_be_told_and_wrong_names_get_a_hint(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.csv", "wer,von,bis,was\na,1,2,jump\n")
    told = {"video": "wer", "start": "von", "end": "bis", "label": "was"}
    assert actions(path, columns=told) == [("a", 1.0, 2.0, "jump")]
    with pytest.raises(EtadError, match=r"no column for video and start and end and label was found.*wer, von"):
        read_labels(path)
    with pytest.raises(EtadError, match=r"has no column 'vonn'\. Did you mean 'von'"):
        read_labels(path, columns={**told, "start": "vonn"})
    with pytest.raises(EtadError, match=r"there is no such role\. Did you mean 'label'"):
        read_labels(path, columns={"labell": "was"})


def test_every_bad_row_is_listed_and_the_good_ones_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        *("a,1,2,jump", "a,5,4,jump", "a,-1,2,jump", "a,3,3,jump", "a,x,2,jump", "a,1,,jump", "a,1,2,", ",1,2,jump"),
        *("a,1,2,jump", "a,nan,2,jump", "a,1:75,2:00,jump", "c,,,"),
    ]
    path = write(tmp_path / "labels.csv", "\n".join(["video,start,end,label", *rows]))
    assert run(["import", "labels", str(path), "-o", str(tmp_path / "annotations.json")]) == 1
    said = capsys.readouterr().out
    for number, why in (
        (3, "ends at 4 s, before it begins at 5 s"),
        (4, "begins at -1 s, before the video"),
        (5, "begins and ends at 3 s"),
        (6, "'x' is no time"),
        (7, "'' is no time"),
        (8, "has no label"),
        (9, "names no video"),
        (11, "'nan' is no time"),
        (12, "minutes and seconds go up to 59"),
    ):
        assert any(f"row {number} " in f"{line} " and why in line for line in said.splitlines()), (number, why, said)
    assert (
        "1 repetition of the same action" in said and "2 videos, 1 action of 1 class" in said and "9 left out" in said
    )
    read = read_annotations(tmp_path / "annotations.json")
    assert list(read.videos) == ["a", "c"] and read.videos["c"].actions == ()


def test_contradicting_durations_and_subsets_are_listed(tmp_path: Path) -> None:
    text = "video,start,end,label,duration,subset\na,1,2,x,100,train\na,3,4,x,100.2,train\na,5,6,x,120,test\n"
    labels = read_labels(write(tmp_path / "labels.csv", text))
    assert len(labels.rows) == 3 and labels.durations == {"a": 100.0} and labels.subsets == {"a": "train"}
    assert [text.split(": ")[1].split(",")[0] for text in labels.left_out] == [
        "states a duration of 120 s",
        "states the subset 'test'",
    ]


def test_actions_beyond_the_stated_duration_are_listed_or_told(tmp_path: Path) -> None:
    text = "video,start,end,label,duration\na,1,2,x,\na,9,12,x,\na,10,12,x,10\na,9,10.2,x,\n"
    labels = read_labels(write(tmp_path / "labels.csv", text))
    assert [row.where for row in labels.rows] == ["row 2", "row 3", "row 5"]
    assert labels.left_out == ("row 4: video 'a': begins at 10 s, but the video lasts 10 s",)
    assert labels.notes[-1] == "1 action ends after the stated duration of the video, where training cuts: row 3"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "no text"),
        (b"video,start,end,label\n", "nothing in it that can be used"),
        (b"video,start,start,label\na,1,2,x\n", "two columns are called 'start'"),
        (b"video,start,end,label\n" + b'"' + b"x" * 200_001, "cannot be read as a table"),
    ],
)
def test_what_is_no_table_of_labels_gets_a_sentence(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(EtadError, match=why):
        read_labels(path)


def test_a_broken_spreadsheet_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "labels.xlsx").write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(EtadError, match="cannot be read as a spreadsheet"):
        read_labels(tmp_path / "labels.xlsx")


def test_unknown_layouts_suffixes_and_files_get_a_hint(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.csv", TABLES["comma"])
    with pytest.raises(EtadError, match=r"Did you mean 'labels\.csv'"):
        read_labels(tmp_path / "label.csv")
    with pytest.raises(EtadError, match=r"there is no layout 'tabel'\. Did you mean 'table'"):
        read_labels(path, layout="tabel")
    with pytest.raises(EtadError, match="none of the layouts that are known"):
        read_labels(write(tmp_path / "labels.docx", "x"))


def test_annotations_go_through_unchanged(tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    write_annotations(first, read_labels(write(tmp_path / "labels.csv", TABLES["comma"])), subset="test")
    second = tmp_path / "second.json"
    write_annotations(second, read_labels(first))
    assert json.loads(first.read_text())["database"] == json.loads(second.read_text())["database"]


_NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=8
)
_TIMES = st.floats(0, 1e5, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_NAMES, _TIMES, _TIMES, _NAMES), min_size=1, max_size=6))
def test_what_is_written_as_a_table_of_detections_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[str, float, float, str]]
) -> None:
    usable = [
        (video, min(a, b), max(a, b), label)
        for video, a, b, label in found
        if a != b and not (video + label).startswith(("=", "+", "-", "@")) and not set("/\\.") & set(video)
    ]
    usable = [row for row in usable if not row[3].startswith(("=", "+", "-", "@"))]
    if not usable:
        return
    labels = sorted({row[3] for row in usable})
    videos = sorted({row[0] for row in usable})
    detections = Detections.join(
        [
            (
                video,
                np.array([row[1:3] for row in usable if row[0] == video]).reshape(-1, 2),
                np.array([labels.index(row[3]) for row in usable if row[0] == video]),
                np.array([0.5 for row in usable if row[0] == video]),
            )
            for video in videos
        ],
        labels=labels,
    )
    path = write_detections_csv(tmp_path_factory.mktemp("csv") / "detections.csv", detections)
    assert sorted(set(actions(path))) == sorted(set(usable))
    assert all(math.isfinite(row[1]) for row in usable)


def test_a_video_that_lost_all_its_actions_is_no_video_without_actions(tmp_path: Path) -> None:
    rows = ["a,1,2,jump", "b,11,4,jump", "c,soon,4,jump", "d,,,", "e,1,2,jump", "e,5,4,jump"]
    labels = read_labels(write(tmp_path / "labels.csv", "\n".join(["video,start,end,label", *rows])))
    assert labels.videos == ("a", "d", "e")
    left_out = " ".join(labels.left_out)
    for video in "bc":
        assert f"video '{video}': is left out, since none of its actions can be used" in left_out


def test_annotations_corrected_by_hand_are_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("video,start,end,label\na,1,2,run\n")
    out = tmp_path / "annotations.json"
    command = ["import", "labels", str(labels), "-o", str(out)]
    assert run(command) == 0
    corrected = out.read_text().replace("2.0", "2.5")
    assert corrected != out.read_text()
    out.write_text(corrected)
    assert run(command) == 0
    assert (tmp_path / "annotations.json.before").read_text() == corrected
    assert run(command) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "annotations.json",
        "annotations.json.before",
        "labels.csv",
    ]
