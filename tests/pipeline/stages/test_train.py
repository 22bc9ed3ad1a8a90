"""`etad train`: from a run folder that `etad init` wrote to a detector, told beforehand, gone on with afterwards."""

import json
import re
from pathlib import Path

import pytest

from etad.data.annotations import read_annotations
from etad.data.synthetic.dataset import SyntheticSpec, make_dataset
from etad.detect.run_state import read_log
from etad.pipeline.cli.main import run
from etad.pipeline.stages.plan import duration_text

SMALL = {
    "encoder.name": "tsm_tiny",
    "encoder.init": "random",
    "clips.resize": "32",
    "clips.crop": "32",
    "detect.bins": "8",
    "detect.num_stages": "1",
    "detect.enhancement": "conv",
    "detect.training.epochs": "2",
    "detect.training.decay_after": "2",
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn videos with labels that state no subset, and a run folder begun for them."""
    folder = tmp_path_factory.mktemp("own")
    made = make_dataset(folder, SyntheticSpec(num_videos=6, shortest_seconds=8, longest_seconds=10, size=32, seed=3))
    tree = json.loads(made.read_text())
    for entry in tree["database"].values():
        del entry["subset"]
    (folder / "labels.json").write_text(json.dumps(tree))
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    places = ["-o", str(folder / "run"), "--videos", str(folder / "videos"), "--labels", str(folder / "labels.json")]
    assert run(["init", *places, *sets]) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_run_is_planned_trained_and_lengthened(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # 1. The plan alone leaves nothing.
    before = sorted(path.name for path in run_folder.iterdir())
    assert run(["train", "-o", str(run_folder), "--plan"]) == 0
    planned = capsys.readouterr().out
    assert re.search(r"extract: \d+ snippets of 6 videos, about \d+ s", planned), planned
    steps = int(re.search(r"train: (\d+) steps on \d+ windows, about", planned).group(1))  # type: ignore[union-attr]
    assert re.search(r"disk: about \d+ MiB of [\d.]+ GiB that are free", planned)
    assert sorted(path.name for path in run_folder.iterdir()) == before

    # 2. It is kept to.
    assert run(["train", "-o", str(run_folder)]) == 0
    said = capsys.readouterr().out
    assert "6 videos extracted" in said
    assert f"next: etad predict VIDEO -o {run_folder} --html" in said
    log = read_log(run_folder / "detect/log.jsonl")
    assert [line["epoch"] for line in log] == [1, 2]
    assert steps % 2 == 0
    for name in ("plots/curves.png", "plots/qualitative.png", "detect/metrics.json"):
        assert (run_folder / name).exists()

    # 3. Nothing is done twice; more epochs go on, and are known from then on.
    cache = (run_folder / "features.h5").read_bytes()
    assert run(["train", "-o", str(run_folder)]) == 0
    assert "train: every epoch is done; --epochs N trains on" in capsys.readouterr().out
    assert run(["train", "-o", str(run_folder), "--epochs", "3"]) == 0
    said = capsys.readouterr().out
    assert "extract: every video's features are there" in said
    assert f"train: {steps // 2} step" in said
    assert len(read_log(run_folder / "detect/log.jsonl")) == 3
    assert run(["train", "-o", str(run_folder)]) == 0
    assert "training skipped" in capsys.readouterr().out
    assert (run_folder / "features.h5").read_bytes() == cache

    # 4. The settings may be changed by hand where weights do not depend on them.
    settings = run_folder / "settings.toml"
    settings.write_text(settings.read_text().replace("tious = [", "tious = [0.1, "))
    assert run(["detect", "-o", str(run_folder)]) == 0
    assert "0.1" in capsys.readouterr().out.split("mAP")[0]
    settings.write_text(settings.read_text().replace("num_stages = 1", "num_stages = 2"))
    assert run(["train", "-o", str(run_folder)]) == 2
    assert "was made with another config: detect.num_stages is 2, was 1" in capsys.readouterr().err


def test_what_will_fail_is_refused_before_anything_is_extracted(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def complaint(*words: str) -> str:
        assert run(["train", "-o", str(tmp_path / "run"), *words]) == 2
        assert not (tmp_path / "run").exists()
        return capsys.readouterr().err

    assert "knows no videos and labels. `etad init -o" in complaint()
    settings = str(run_folder / "settings.toml")
    sets = ["--set", "detect.num_stages=1"]
    assert "subset 'none' is empty" in complaint("-c", settings, *sets, "--set", "data.test_subset=none")
    (tmp_path / "empty").mkdir()
    assert "no video file in it" in complaint("-c", settings, "--set", f"data.videos={tmp_path / 'empty'}")
    lone = tmp_path / "lone.json"
    first = next(
        id for id, each in read_annotations(run_folder / "annotations.json").videos.items() if not each.actions
    )
    entry = {"subset": "training", "duration": 9, "annotations": []}
    tested = {"subset": "validation", "duration": 9, "annotations": [{"segment": [1, 3], "label": "sway"}]}
    lone.write_text(json.dumps({"database": {first: entry, "other": tested}}))
    assert "no video of subset 'training' has an action" in complaint(
        "-c", settings, "--set", f"data.annotations={lone}"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.1, "5 s"), (54, "55 s"), (56, "1 min"), (5300, "88 min"), (9000, "2.5 h")]
)
def test_times_are_told_roughly(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
