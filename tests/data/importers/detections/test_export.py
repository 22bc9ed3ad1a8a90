"""Detections as tables and subtitles, each video's in its own file."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from etad.data.detections import Detections, write_detections
from etad.data.importers.detections.export import export_all
from etad.data.importers.detections.subtitles import write_subtitles
from etad.pipeline.cli.main import run


def detections() -> Detections:
    return Detections.join(
        [
            ("a/../b", np.array([[61.5, 62.0], [1.0, 2.5]]), np.array([1, 0]), np.array([0.9, 0.25])),
            ("c", np.zeros((0, 2)), np.zeros(0, int), np.zeros(0)),
        ],
        labels=("jump", "=run <b>&{x} --> \n y"),
    )


def test_a_table_of_detections_is_exact_and_runs_in_no_spreadsheet(tmp_path: Path) -> None:
    export_all(detections(), tmp_path / "detections.csv", least_score=0.2)
    lines = (tmp_path / "detections.csv").read_text().splitlines()
    assert lines[0] == "video,start,end,label,score"
    assert lines[1].startswith("a/../b,61.5,62.0,\"'=run")
    assert "a/../b,1.0,2.5,jump,0.25" in lines


def test_subtitles_ascend_and_hold_no_markup(tmp_path: Path) -> None:
    srt = write_subtitles(tmp_path / "x.srt", detections(), "a/../b").read_text()
    assert srt == (
        "1\n00:00:01,000 --> 00:00:02,500\njump 0.25\n\n2\n00:01:01,500 --> 00:01:02,000\n=run (b)&(x) -) y 0.90\n"
    )
    vtt = write_subtitles(tmp_path / "x.vtt", detections(), "a/../b", kind="vtt").read_text()
    assert vtt.startswith("WEBVTT\n\n1\n00:00:01.000 --> 00:00:02.500\njump 0.25\n")
    assert "=run &lt;b&gt;&amp;{x} -&gt; y 0.90" in vtt


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_ffmpeg_reads_the_subtitles_at_the_same_times(kind: str, tmp_path: Path) -> None:
    path = write_subtitles(tmp_path / f"x.{kind}", detections(), "a/../b", kind=kind)  # type: ignore[arg-type]
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        times = [(float(p.pts * p.time_base), float(p.duration * p.time_base)) for p in packets]
    assert times == [(1.0, 1.5), (61.5, 0.5)]


def test_each_video_has_a_file_below_the_folder_whatever_its_id(tmp_path: Path) -> None:
    found, files = export_all(detections(), tmp_path / "out", layout="vtt", least_score=0.5)
    assert (found, files) == (1, 2)
    assert len(list((tmp_path / "out").iterdir())) == 2 and {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.json", "subtitles"])
def test_what_was_corrected_by_hand_is_kept_beside_a_new_export(name: str, tmp_path: Path) -> None:
    layout = {"x.tsv": "boris-aggregated", "x.json": "label-studio", "subtitles": "srt"}.get(name)
    place = tmp_path / name

    def write() -> None:
        export_all(detections(), place, layout=layout, fps=25)

    write()
    written = next(path for path in sorted(tmp_path.rglob("*")) if path.is_file())
    write()
    assert not list(tmp_path.rglob("*.before*")), "the same again is nothing new"
    written.write_text("mine")
    write()
    assert written.with_name(f"{written.name}.before").read_text() == "mine"
    assert written.read_text() != "mine"


def test_detections_that_end_before_they_begin_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {"a": [{"segment": [5.0, 3.0], "label": "x", "score": 0.5}, {"segment": [1, 2], "label": "x", "score": 1}]}
    (tmp_path / "detections.json").write_text(json.dumps({"results": found}))
    words = ["export", "detections", str(tmp_path / "detections.json"), "-o", str(tmp_path / "d.csv")]
    assert run(words) == 1
    said = capsys.readouterr().err
    assert "1 detection of" in said and "the end lies before the start (a). Turn them round." in said
    assert run([*words, "--threshold", "0.6"]) == 0


def test_the_command_says_what_it_wrote_and_refuses_what_it_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_detections(tmp_path / "detections.json", detections())
    source = str(tmp_path / "detections.json")
    assert run(["export", "detections", source, "-o", str(tmp_path / "d.csv"), "--threshold", "0.5"]) == 0
    assert "1 detection in 1 file" in capsys.readouterr().out
    for words, why in (
        (["export", "detections", source, "-o", str(tmp_path / "d.srt")], "2 videos, and each has a file of its own"),
        (["export", "detections", source, "-o", str(tmp_path / "d.docx")], "its suffix says no layout"),
        (["export", "detection", source], "Did you mean 'detections'"),
        (["export"], "name a kind"),
        (["import", "label"], "Did you mean 'labels'"),
    ):
        assert run(words) == 2
        assert why in capsys.readouterr().err
