"""Every line of docs/labels.md, run on small files of the names that it shows."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from conftest import ROOT

from etad.data.annotations import read_annotations
from etad.data.detections import Detections, write_detections
from etad.data.importers.labels.read import layout_names, read_labels
from etad.pipeline.cli.main import run

PAGE = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
BORIS = "Observation id\tSource\tMedia duration (s)\tBehavior\tBehavior type\tTime\tMedia file name\n" + "".join(
    f"o1\tplayer #1:cat.mp4\t60.0\tjump\t{event}\tcat.mp4\n" for event in ("START\t1.5", "STOP\t2.0")
)
TASK = {
    "data": {"video": "cat.mp4"},
    "annotations": [{"result": [{"value": {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["jump"]}}]}],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "labels.csv").write_text("video,start,end,label\ncat.mp4,1.5,2,jump\n")
    (tmp_path / "frames.csv").write_text("video,start_frame,end_frame,label\ncat.mp4,25,50,jump\n")
    (tmp_path / "boris_events.tsv").write_text(BORIS)
    (tmp_path / "label_studio.json").write_text(json.dumps([TASK]))
    book = openpyxl.Workbook()
    for row in (("Clip", "Start", "End", "Behaviour"), ("cat.mp4", 1.5, 2, "jump")):
        book.active.append(row)
    book.save(tmp_path / "labels.xlsx")
    found = Detections.join([("cat", np.array([[1.5, 2.0]]), np.array([0]), np.array([0.5]))], labels=("jump",))
    write_detections(tmp_path / "detections.json", found)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_does_what_it_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
    assert len(lines) >= 10
    for line in lines:
        words = shlex.split(line)[1:]
        (folder / "annotations.json").unlink(missing_ok=True)
        assert run(words) == 0, (line, capsys.readouterr())
        said = capsys.readouterr().out
        if words[0] == "import":
            assert "1 video, 1 action of 1 class" in said and "next: etad init" in said, line
            assert read_annotations(folder / "annotations.json").labels == ("jump",)
        else:
            assert "1 detection in 1 file" in said, line
    for file in ("detections.csv", "boris.tsv"):
        assert [(row.video, row.start_seconds, row.label) for row in read_labels(file).rows] == [("cat", 1.5, "jump")]
    assert (folder / "subtitles" / "cat.srt").exists() and (folder / "boris" / "cat.xlsx").exists()


def test_the_page_names_every_layout() -> None:
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, flags=re.MULTILINE)) == set(layout_names())


@pytest.mark.parametrize("words", [["import", "labels", "labels.csv"], ["export", "detections", "detections.json"]])
def test_what_is_read_is_never_written_over(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / words[2]).read_bytes()
    assert run([*words, "-o", f"./{words[2]}"]) == 2
    assert "is the file that is read" in capsys.readouterr().err
    assert (folder / words[2]).read_bytes() == before
