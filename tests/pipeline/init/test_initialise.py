"""`etad init`: a folder of videos and a file of labels become a run's annotations and commented settings."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from miniature import complaint

from etad.data.annotations import Action, read_annotations
from etad.data.video.video import write_video
from etad.pipeline.cli.main import run
from etad.pipeline.config import load_config
from etad.pipeline.init.survey import match_names

ENCODER = ["--set", "encoder.name=tsm_tiny", "--set", "encoder.init=random"]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Six videos of 8 s, labelled in ActivityNet's form without subsets."""
    rng = np.random.default_rng(0)
    database = {}
    for number in range(6):
        frames = rng.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
        write_video(tmp_path / "clips" / f"v{number}.mp4", frames, fps=5)
        label = ("run", "jump")[number % 2]
        database[f"v{number}"] = {"annotations": [{"segment": [1, 3 + number / 2], "label": label}]}
    (tmp_path / "labels.json").write_text(json.dumps({"database": database}))
    return tmp_path


def change(folder: Path, **entries: object) -> None:
    path = folder / "labels.json"
    tree = json.loads(path.read_text())
    tree["database"] |= entries
    path.write_text(json.dumps(tree))


def call(folder: Path, *more: str) -> list[str]:
    places = {"-o": "run", "--videos": "clips", "--labels": "labels.json"}
    return ["init", *(word for key, name in places.items() for word in (key, str(folder / name))), *ENCODER, *more]


def test_settings_and_annotations_are_written_with_the_reasons(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(call(clips)) == 0
    said = capsys.readouterr().out
    assert "2 videos to test on" in said
    assert f"next: etad train -o {clips / 'run'}" in said
    text = (clips / "run/settings.toml").read_text()
    config = load_config(str(clips / "run/settings.toml"))
    read = read_annotations(clips / "run/annotations.json")
    assert config.data.annotations == clips / "run/annotations.json"
    assert {video.subset for video in read.videos.values()} == {"training", "validation"}
    assert {round(video.duration_seconds or 0, 2) for video in read.videos.values()} == {8.0}
    assert config.encoder.name == "tsm_tiny"
    assert config.detect.standardise
    # Every setting has its reason above it, or that of the one before it.
    assert sum(line.startswith("#") for line in text.splitlines()) >= 12
    assert tomllib.loads(text)["detect"]["training"]["epochs"] == config.detect.training.epochs
    assert config.detect.training.epochs * (4 // config.detect.training.batch) >= 400


def test_the_same_is_written_again_and_another_seed_splits_otherwise(clips: Path) -> None:
    def split(*more: str) -> dict[str, str]:
        assert run(call(clips, "--replace", *more)) == 0
        return {id: each.subset for id, each in read_annotations(clips / "run/annotations.json").videos.items()}

    first = split()
    assert split() == first
    assert split("--seed", "5") == first  # who was tested on stays so, whatever the seed
    (clips / "run/annotations.json").unlink()
    assert any(
        not (clips / "run/annotations.json").unlink(missing_ok=True) and split("--seed", str(seed)) != first
        for seed in range(1, 6)
    )


def test_what_is_there_is_not_overwritten_unasked(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(call(clips)) == 0
    settings = clips / "run/settings.toml"
    settings.write_text(settings.read_text().replace("num_stages = 2", "num_stages = 1"))
    mine = settings.read_text()
    capsys.readouterr()
    assert run(call(clips)) == 2
    assert "settings.toml: is there already. Go on with `etad train" in capsys.readouterr().err
    assert settings.read_text() == mine
    assert run(call(clips, "--replace")) == 0
    assert (clips / "run/settings.toml.before").read_text() == mine
    assert run(call(clips, "--replace", "--set", "detect.num_stages=3")) == 0
    assert (clips / "run/settings.toml.before").read_text() == mine, "a second time keeps what the first one kept"


def test_a_later_video_goes_to_a_subset_and_the_others_keep_theirs(clips: Path) -> None:
    assert run(call(clips)) == 0
    before = {id: each.subset for id, each in read_annotations(clips / "run/annotations.json").videos.items()}
    (clips / "clips/v9.mp4").write_bytes((clips / "clips/v0.mp4").read_bytes())
    change(clips, v9={"annotations": [{"segment": [1, 3], "label": "run"}]})
    assert run(call(clips, "--replace", "--seed", "3")) == 0
    after = {id: each.subset for id, each in read_annotations(clips / "run/annotations.json").videos.items()}
    assert {id: after[id] for id in before} == before
    assert set(after) - set(before) == {"v9"}


def test_videos_that_were_all_in_one_subset_are_dealt_anew(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(call(clips)) == 0
    written = clips / "run/annotations.json"
    tree = json.loads(written.read_text())
    for entry in tree["database"].values():
        entry["subset"] = "training"
    written.write_text(json.dumps(tree))
    capsys.readouterr()
    assert run(call(clips, "--replace")) == 0
    assert "all of them were in subset training before: they were dealt anew" in capsys.readouterr().out
    assert {each.subset for each in read_annotations(written).videos.values()} == {"training", "validation"}
    assert "The labels state no subset: videos were dealt by class" in _prose(clips / "run/settings.toml")
    assert run(call(clips, "--replace")) == 0
    assert "Those that were in a subset before stayed in it." in _prose(clips / "run/settings.toml")


def _prose(path: Path) -> str:
    return " ".join(path.read_text().replace("#", " ").split())


def test_a_subset_to_test_on_stays_the_one_when_a_video_is_added(clips: Path) -> None:
    names = ["training", "training", "training", "training", "test", "test"]
    tree = json.loads((clips / "labels.json").read_text())["database"]
    change(clips, **{id: {**entry, "subset": name} for (id, entry), name in zip(tree.items(), names)})
    assert run(call(clips)) == 0
    change(clips, **{id: {"annotations": entry["annotations"]} for id, entry in tree.items()})
    assert run(call(clips, "--replace")) == 0
    data = load_config(str(clips / "run/settings.toml")).data
    assert (data.train_subset, data.test_subset) == ("training", "test")
    kept = [each.subset for each in read_annotations(clips / "run/annotations.json").videos.values()]
    assert kept == names


def test_actions_that_lie_outside_their_video_are_not_written(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside, outside = ({"segment": segment, "label": "jump"} for segment in ([1, 3], [90, 95]))
    change(clips, v1={"annotations": [inside, outside]}, v2={"annotations": [outside]})
    assert run(call(clips)) == 1
    written = read_annotations(clips / "run/annotations.json").videos
    assert [(each.start_seconds, each.end_seconds) for each in written["v1"].actions] == [(1.0, 3.0)]
    assert "v2" not in written  # something happens in it, at times that nobody knows
    tree = json.loads((clips / "labels.json").read_text())["database"]
    change(clips, **{id: {"annotations": [outside]} for id in tree})
    assert "no video that can be opened has a labelled action within it" in complaint(call(clips, "--replace"), capsys)


@pytest.mark.parametrize(
    ("entries", "status", "said"),
    [
        ({"v9": {"annotations": []}}, 1, "1 labelled video without a file: v9"),
        ({"v1": {"annotations": [{"segment": [1, 3], "label": "Jump"}]}}, 1, "differ by case or blanks alone"),
        ({"v1": {"annotations": [{"segment": [1, 3], "label": "jumps"}]}}, 0, "differ by one letter"),
        ({"v1": {"annotations": [{"segment": [9, 30], "label": "jump"}]}}, 1, "dropped as outside the video"),
        ({"v1": {"duration": 99, "annotations": []}}, 1, "another duration than labelled: v1 (99.00 s"),
    ],
)
def test_doubts_are_listed_and_what_is_wrong_changes_the_status(
    clips: Path, capsys: pytest.CaptureFixture[str], entries: dict[str, object], status: int, said: str
) -> None:
    change(clips, **entries)
    assert run(call(clips)) == status
    assert said in " ".join(capsys.readouterr().out.split())


def test_files_that_are_broken_or_unlabelled_are_named_and_left_out(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips / "clips/v3.mp4").write_bytes((clips / "clips/v3.mp4").read_bytes()[:500])
    (clips / "clips/other.mp4").write_bytes((clips / "clips/v0.mp4").read_bytes())
    assert run(call(clips)) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "1 labelled file cannot be opened: " in said and "v3.mp4" in said
    assert "1 video without labels: other" in said
    assert set(read_annotations(clips / "run/annotations.json").videos) == {"v0", "v1", "v2", "v4", "v5"}


def test_stated_subsets_are_kept(clips: Path) -> None:
    names = ["train", "training", "val", "test", "Testing", "train"]
    tree = json.loads((clips / "labels.json").read_text())["database"]
    change(clips, **{id: {**entry, "subset": name} for (id, entry), name in zip(tree.items(), names)})
    assert run(call(clips)) == 0
    data = load_config(str(clips / "run/settings.toml")).data
    assert (data.train_subset, data.validation_subset, data.test_subset) == ("training", "validation", "test")
    kept = [each.subset for each in read_annotations(clips / "run/annotations.json").videos.values()]
    assert kept == ["training", "training", "validation", "test", "test", "training"]


def test_mistakes_get_a_sentence(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is nothing here" in complaint([*call(clips), "--videos", str(clips / "none")], capsys)
    assert "-c does not apply to `init`" in complaint(call(clips, "-c", "demo"), capsys)
    assert "--column video" in complaint(call(clips, "--column", "video"), capsys)
    tree = json.loads((clips / "labels.json").read_text())["database"]
    change(clips, **{id: {**entry, "subset": "fold 1"} for id, entry in tree.items()})
    assert "the subsets are fold 1" in complaint(call(clips), capsys)
    (clips / "labels.json").write_text(json.dumps({"database": {"x": next(iter(tree.values()))}}))
    assert "none of its 1 video (x) has a file" in complaint(call(clips), capsys)
    assert not (clips / "run").exists()


def test_labels_name_a_file_in_several_ways(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.MP4" for name in ("Clip 01", "clip02", "v_clip03")}
    names = ["clips/clip 01.mp4", "CLIP02", "clip03", "C:\\films\\none.avi"]
    matches, loosely = match_names(names, files, where="clips")
    assert matches == {"clips/clip 01.mp4": "Clip 01", "CLIP02": "clip02", "clip03": "v_clip03"}
    assert set(loosely) == {"clips/clip 01.mp4", "CLIP02"}
    with pytest.raises(Exception, match="both mean"):
        match_names(["clip02", "CLIP02.mp4"], files, where="clips")


def test_a_spreadsheet_will_do(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = clips / "labels.csv"
    rows = [f"v{number}.mp4;0:00:01,5;0:00:0{3 + number % 2};{('run', 'Jump')[number % 2]}" for number in range(6)]
    table.write_text("Clip;Start;End;Behaviour\n" + "\n".join(rows) + "\nv0.mp4;5;4;run\n")
    assert run([*call(clips), "--labels", str(table)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "1 row of the labels cannot be used: row 8" in said
    read = read_annotations(clips / "run/annotations.json").videos
    assert read["v0"].actions == (Action(1.5, 3.0, "run"),)
    assert [action.label for id in ("v1", "v2") for action in read[id].actions] == ["Jump", "run"]
    assert run([*call(clips), "--labels", str(clips / "label.csv"), "--replace"]) == 2
    assert "there is no such file of labels. Did you mean 'labels.csv'?" in capsys.readouterr().err
