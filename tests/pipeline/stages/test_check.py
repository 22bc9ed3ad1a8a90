import json
from pathlib import Path

import miniature
import numpy as np
import pytest

from etad.data.video.video import write_video
from etad.pipeline.cli.main import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    videos = tmp_path / "videos"
    videos.mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), dtype=np.uint8)
    for name in ("a", "b", "stranger"):
        write_video(videos / f"{name}.mp4", frames, fps=10)
    (videos / "broken.mp4").write_bytes(b"nothing")
    actions = [{"segment": [0.5, 2.4], "label": "run"}]
    database = {
        "a": {"subset": "training", "duration": 2.0, "annotations": actions},
        "b": {"subset": "validation", "duration": 9.0, "annotations": [{"segment": [8, 9], "label": "run"}]},
        "broken": {"subset": "training", "duration": 2.0, "annotations": []},
        "lost": {"subset": "training", "duration": 2.0, "annotations": []},
    }
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}))
    return tmp_path


def test_check_lists_every_problem_with_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check", "--annotations", str(folder / "annotations.json"), "--videos", str(folder / "videos")]
    assert run(arguments) == 1
    out = capsys.readouterr().out
    assert "1 annotated video has no file: lost" in out
    assert "1 video without annotations: stranger" in out
    assert "lasts 2.00 s, the annotations say 9.00 s" in out
    assert "1 segment dropped as outside the video: run 8-9 s" in out
    assert "run 0.5-2.4 s to 0-2 s" in out
    assert "broken.mp4" in out
    assert "3 problems, 4 notes" in out


def test_check_has_nothing_to_say_of_a_sound_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    miniature.make(tmp_path)
    options = ["-o", str(tmp_path), *miniature.set_options(), "--annotations", str(tmp_path / "annotations.json")]
    assert run(["check", *options]) == 0
    assert "0 problems, 0 notes" in capsys.readouterr().out


def test_durations_that_contradict_the_cache_are_notes_with_both_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = miniature.make(tmp_path)[1]
    tree = json.loads(path.read_text())
    stated = {id: video["duration"] for id, video in tree["database"].items()}
    for id in ("v01", "v09"):
        tree["database"][id]["duration"] = stated[id] * 1.25
    path.write_text(json.dumps(tree))
    options = ["-o", str(tmp_path), *miniature.set_options(), "--annotations", str(path)]
    assert run(["check", *options]) == 0
    out = capsys.readouterr().out
    for id in ("v01", "v09"):
        assert f"lasts {stated[id]:.2f} s, the annotations say {stated[id] * 1.25:.2f} s" in out
    assert "0 problems, 2 notes" in out


def test_videos_in_no_subset_and_ids_that_stand_twice_are_problems_with_their_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = miniature.make(tmp_path)[1]
    database = json.loads(path.read_text())["database"]
    database["v00"]["subset"], database["v01"]["subset"] = "trainin", "fold7"
    del database["v02"]["subset"]
    entries = [f"{json.dumps(id)}: {json.dumps(video)}" for id, video in database.items()]
    path.write_text(f'{{"database": {{{", ".join([*entries, entries[5]])}}}}}')
    options = ["-o", str(tmp_path), *miniature.set_options(), "--annotations", str(path)]
    assert run(["check", *options]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "1 id stands twice, and the last entry of each counts: v05" in out
    assert "1 video in none of the subsets: subset 'trainin', did you mean 'training'? (v00)" in out
    assert "1 video in none of the subsets: no subset stated (v02)" in out
    assert "3 problems, 1 note" in out


def test_check_compares_the_cache_with_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    miniature.make(tmp_path)
    options = ["-o", str(tmp_path), *miniature.set_options("clips.fps=30")]
    assert run(["check", *options, "--annotations", str(tmp_path / "annotations.json")]) == 1
    assert "was extracted with clips.fps=10.0, the config says 30.0" in capsys.readouterr().out


def test_the_validation_subset_is_looked_at_as_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = miniature.make(tmp_path)[1]
    for subset, said in (("absent", "subset 'absent' is empty"), ("val", "is data.test_subset, too")):
        sets = miniature.set_options(f"data.validation_subset={subset}")
        assert run(["check", "-o", str(tmp_path), *sets, "--annotations", str(path)]) == 1
        assert said in capsys.readouterr().out
