"""The way of a new user: every command of docs/your-data.md, in its order, on a few drawn clips and a spreadsheet."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT

from etad.data.synthetic.dataset import SyntheticSpec, make_dataset
from etad.pipeline.cli.main import run

# What makes it small: an encoder without weights, small pictures, few steps.
SMALL = [
    "encoder.name=tsm_tiny",
    "encoder.init=random",
    "clips.resize=32",
    "clips.crop=32",
    "detect.bins=8",
    "detect.num_stages=1",
    "detect.enhancement=conv",
    "detect.training.epochs=2",
    "detect.training.decay_after=2",
]


def commands() -> list[str]:
    text = (ROOT / "docs/your-data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("etad ")]


@pytest.mark.slow
def test_the_commands_for_own_data_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_dataset(tmp_path, SyntheticSpec(num_videos=9, shortest_seconds=8, longest_seconds=10, size=32, seed=3))
    (tmp_path / "videos").rename("clips")
    (tmp_path / "new.mp4").write_bytes((tmp_path / "clips/target_0001.mp4").read_bytes())
    with Path("labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "start", "end", "label"])
        for id, entry in json.loads(made.read_text())["database"].items():
            rows.writerows([f"{id}.mp4", *each["segment"], each["label"]] for each in entry["annotations"])
    lines = commands()
    assert [line.split()[1] for line in lines[:3]] == ["init", "train", "predict"]
    for line in lines:
        words = shlex.split(line)[1:]
        small = [word for value in SMALL for word in ("--set", value)] if words[0] == "init" else []
        words = [word if word != "300" else "3" for word in words]
        status = run([*small, *words])
        captured = capsys.readouterr()
        assert status == 0, f"{line}\n{captured.out}\n{captured.err}"
        assert captured.out.strip(), line
    metrics = json.loads(Path("runs/mine/detect/metrics.json").read_text())
    assert len(metrics["interval"]["average_mAP"]) == 2
    assert len(Path("runs/mine/detect/log.jsonl").read_text().splitlines()) == 3
