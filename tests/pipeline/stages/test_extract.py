"""`etad extract` on a folder as people have it: damaged, cut and unknown files beside good ones."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from etad.pipeline.cli.main import run
from reference.barcode import write

SETS = [
    *("clips.layout=sliding", "clips.stride_frames=4", "clips.clip_frames=4", "clips.resize=[40, 32]", "clips.crop=32"),
    *("encoder.name=tsm_tiny", "encoder.init=random"),
]


def etad(out: Path, *words: str) -> int:
    return run(["-o", str(out), *(word for value in SETS for word in ("--set", value)), *words])


def test_what_is_wrong_with_files_is_listed_and_gives_status_1_once(
    reports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, out = tmp_path / "videos", tmp_path / "run"
    videos.mkdir()
    (videos / "damaged.mp4").write_bytes((reports / "base_zero_sample.mp4").read_bytes())
    write(videos / "short.mpg", range(50), codec="mpeg2video")
    write(videos / "good.mkv", range(50)).rename(videos / "good.data")
    (videos / "notes.txt").write_text("no video")
    annotations = tmp_path / "annotations.json"
    stated = {"damaged": 12.0, "short": 4.0, "good": 2.0}
    database = {id: {"subset": "training", "duration": each, "annotations": []} for id, each in stated.items()}
    annotations.write_text(json.dumps({"version": "1", "database": database}))
    words = ["extract", "--videos", str(videos), "--annotations", str(annotations)]
    assert etad(out, *words) == 1
    printed = capsys.readouterr().out
    assert "1 frame could not be decoded rightly" in printed
    assert "it lasts 2.0 s, the annotations say 4.0 s" in printed
    assert "1 other file passed over: 1 .txt (in no video format known here): notes.txt" in printed
    assert "3 videos extracted, 0 there already, 0 failed, 2 with faults" in printed

    assert etad(out, *words) == 0
    printed = capsys.readouterr().out
    assert "1 video lacks frames" in printed and "0 videos extracted, 3 there already, 0 failed" in printed
    assert run(["verify", str(out / "features.h5")]) == 0
    assert "1 video lacks frames that could not be decoded" in capsys.readouterr().out


def test_an_old_cache_is_named_at_each_use_and_extract_brings_it_up_to_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, out = tmp_path / "videos", tmp_path / "run"
    videos.mkdir()
    write(videos / "a.mp4", range(50))
    words = ["extract", "--videos", str(videos)]
    assert etad(out, *words) == 0
    with h5py.File(out / "features.h5", "r+") as file:
        file["videos/a"].attrs["reading_rules"] = 1
        rows = file["index"][()]
        rows["reading_rules"] = np.int64(1)
        file["index"][...] = rows
        # Versions that read by those rules had no such digests.
        del file["videos/a"].attrs["attributes_sha256"], file["index"].attrs["sha256"]
    capsys.readouterr()
    for command in (["verify", str(out / "features.h5")], ["merge", "--into", str(out / "features.h5")]):
        assert run(command) == 0
        assert "1 video read by older rules (version 1, now 2), which may be wrong about" in capsys.readouterr().out
    assert etad(out, *words) == 0
    printed = capsys.readouterr().out
    assert "1 read the same and stay." in printed and "0 videos extracted, 1 there already, 0 failed" in printed
    assert run(["verify", str(out / "features.h5")]) == 0
    assert "older rules" not in capsys.readouterr().out


@pytest.mark.parametrize("annotated", [True, False])
def test_blocked_videos_are_left_alone_whether_annotated_or_not(
    tmp_path: Path, annotated: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, out, blocked = tmp_path / "videos", tmp_path / "run", tmp_path / "blocked.txt"
    videos.mkdir()
    (videos / "v_broken.mp4").write_bytes(b"no video")
    write(videos / "good.mkv", range(50))
    blocked.write_text("broken\n")
    annotations = tmp_path / "annotations.json"
    entry = {"subset": "training", "duration": 2.0, "annotations": []}
    annotations.write_text(json.dumps({"version": "1", "database": {"broken": entry, "good": entry}}))
    words = ["--videos", str(videos), *(["--annotations", str(annotations)] if annotated else [])]
    assert etad(out, "--set", f"data.blocked={blocked}", "extract", *words) == 0
    assert "1 video extracted, 0 there already, 0 failed" in capsys.readouterr().out
