import json
from pathlib import Path

import miniature
import numpy as np
import pytest

from etad.data.cache.cache import FeatureCache
from etad.data.errors import EtadError
from etad.data.video.video import write_video
from etad.pipeline.cli.main import run
from etad.pipeline.config import load_config
from etad.pipeline.stages.detect import check_cache


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


def test_all_that_differs_is_told_at_once_and_nothing_that_only_follows(tmp_path: Path) -> None:
    path, _ = miniature.make(tmp_path, transform={"layout": "sliding"})
    config = load_config(None, [*miniature.SETS, "encoder.name=tsm_r18", "clips.num_snippets=7"])
    with pytest.raises(EtadError) as error:
        check_cache(FeatureCache(path), config)
    said = str(error.value)
    assert "encoder.name=tsm_tiny, the config says tsm_r18; clips.layout=sliding, the config says spread" in said
    assert said.endswith("or set encoder.name=tsm_tiny and clips.layout=sliding.")


def test_the_validation_subset_is_looked_at_as_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = miniature.make(tmp_path)[1]
    for subset, said in (("absent", "subset 'absent' is empty"), ("val", "is data.test_subset, too")):
        sets = miniature.set_options(f"data.validation_subset={subset}")
        assert run(["check", "-o", str(tmp_path), *sets, "--annotations", str(path)]) == 1
        assert said in capsys.readouterr().out


def _options(folder: Path, *more: str) -> list[str]:
    files = ["--annotations", str(folder / "annotations.json"), "--videos", str(folder / "videos")]
    return [*files, *more, "-o", str(folder / "run"), *miniature.set_options("encoder.init=random")]


def test_check_tells_every_refusal_that_a_detector_would_end_in(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = json.loads((folder / "annotations.json").read_text())
    tree["database"]["b"]["annotations"] = [{"segment": [0, 1], "label": "fly"}]
    (folder / "annotations.json").write_text(json.dumps(tree))
    (folder / "scores.json").write_text(json.dumps({"labels": ["run"], "scores": {"a": [1.0]}}))
    (folder / "weights.pt").write_bytes(b"nothing")
    options = _options(folder, "--scores", str(folder / "scores.json"), "--weights", str(folder / "weights.pt"))
    assert run(["check", *options]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "label 'fly' is none of the 1 known class: subset 'validation' has it (1 video: b)" in out
    assert "scores.json: has no class scores of 1 of 1 video: b" in out
    assert "weights.pt" in out and "has no weights" not in out


def test_check_looks_at_the_weights_of_every_joined_encoder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "r18.pt").write_bytes(b"nothing")
    also = f"encoder.also=[{{name='tsm_r18', weights='{folder / 'r18.pt'}'}}, 'slowonly_r50']"
    assert run(["check", *_options(folder)[:-2], *miniature.set_options(also)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "encoder tsm_tiny has no weights" in out
    assert "r18.pt: this file is damaged" in out
    assert "encoder.also: slowonly_r50 has no weights" in out


def test_a_chain_ends_before_its_first_stage_where_a_later_one_would_be_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detect = ["detect", "--annotations", str(folder / "annotations.json"), "--set", "data.train_subset=absent"]
    said = miniature.complaint(["extract", *_options(folder), *detect], capsys)
    assert "subset 'absent' is empty" in said
    scores = ["detect", "--annotations", str(folder / "annotations.json"), "--scores", str(folder / "none.json")]
    assert "none.json: there is no such file" in miniature.complaint(["extract", *_options(folder), *scores], capsys)
    assert not (folder / "run").exists()


def test_check_stops_a_chain_whose_stages_would_be_refused_and_knows_the_weights_they_are_given(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, later = _options(folder)[:4], ["extract", "--weights", str(folder / "lost.pt"), "detect"]
    options = ["-o", str(folder / "run"), *miniature.set_options()]
    assert run([*options, "check", *files, *later, *files[:2]]) == 2
    told = capsys.readouterr()
    assert "refused" in told.out and "lost.pt" in told.out and "has no weights" not in told.out
    assert "`extract detect` not begun: 1 problem of those above" in told.err
    assert not (folder / "run").exists()


def test_findings_fit_the_terminal_and_those_of_a_kind_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.chdir(miniature.make(tmp_path)[1].parent)
    tree = json.loads(Path("annotations.json").read_text())
    for video in tree["database"].values():
        video["duration"] *= 1.25
    Path("annotations.json").write_text(json.dumps(tree))
    options = ["check", "-o", ".", *miniature.set_options(), "--annotations", "annotations.json"]
    assert run(options) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 70
    assert "note   12 of a kind:" in out and out.count("lasts") == 3 and "and 9 more: video v03, video v04" in out
    assert run([*options, "--all"]) == 0
    assert capsys.readouterr().out.count("lasts") == 12


def test_a_missing_file_is_not_to_be_corrected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--annotations", str(tmp_path / "none.json"), "--set", "encoder.init=random"]) == 1
    out = capsys.readouterr().out
    assert "there is no such file" in out and "correct the file" not in out
