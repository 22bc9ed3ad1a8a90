"""A command that is refused leaves the config of its run as it was."""

import json
import shutil
from pathlib import Path

import miniature
import miniature_e2e
import pytest
import torch
from miniature import complaint

from etad.data.checkpoint import save_checkpoint
from etad.extract.encoders.encoder import build_encoder
from etad.extract.weights.load import encoder_checkpoint
from etad.pipeline.cli.main import run

pytestmark = pytest.mark.usefixtures("one_thread")


def weights(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    return save_checkpoint(path, encoder_checkpoint(build_encoder("tsm_tiny", clip_frames=2), name="tsm_tiny"))


def files(folder: Path) -> dict[str, bytes]:
    """What a run folder holds; manifests tell of every call, refused ones, too."""
    kept = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def test_a_detector_that_was_trained_on_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, other = ((tmp_path / name) for name in ("mine", "other"))
    for folder, seed in ((mine, 0), (other, 1)):
        folder.mkdir()
        miniature.make(folder, seed=seed)
    sets = miniature.set_options("detect.training.epochs=1")
    assert run(["detect", "-o", str(mine), "--annotations", str(mine / "annotations.json"), *sets]) == 0
    before = files(mine)
    for more in (
        ["--annotations", str(other / "annotations.json"), "--features", str(other / "features.h5")],
        ["--annotations", str(other / "annotations.json")],
        ["--features", str(other / "features.h5")],
        ["--set", "detect.bins=16"],
    ):
        capsys.readouterr()
        complaint(["detect", "-o", str(mine), *more], capsys)
        assert files(mine) == before, more
    assert run(["detect", "-o", str(mine)]) == 0


def test_features_and_training_of_other_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = miniature_e2e.make(tmp_path / "set")
    mine, other = weights(tmp_path / "mine.pt", 1), weights(tmp_path / "other.pt", 2)
    options = miniature_e2e.options(dataset, tmp_path / "run", "e2e.epochs=1", "encoder.init=weights")
    assert run(["extract", *options, "--set", f"encoder.weights={mine}"]) == 0
    assert run(["e2e", *options, "--set", f"encoder.weights={mine}"]) == 0
    before = files(tmp_path / "run")
    config = before["config.toml"]
    for stage in ("extract", "e2e"):
        capsys.readouterr()
        complaint([stage, "-o", str(tmp_path / "run"), "--set", f"encoder.weights={other}"], capsys)
        assert (tmp_path / "run" / "config.toml").read_bytes() == config, stage
    shutil.copytree(dataset.parent, tmp_path / "fewer")
    gone = next(iter(sorted((tmp_path / "fewer" / "videos").iterdir())))
    gone.unlink()
    said = complaint(["e2e", "-o", str(tmp_path / "run"), "--videos", str(gone.parent)], capsys)
    assert f"1 training video gone: {gone.stem}. Put back what was there" in said
    assert (tmp_path / "run" / "config.toml").read_bytes() == config
    assert run(["extract", "-o", str(tmp_path / "run")]) == 0
    assert run(["e2e", "-o", str(tmp_path / "run")]) == 0


def test_a_pretrained_encoder_of_other_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = miniature_e2e.make(tmp_path / "set")
    sets = ("pretrain.source=videos", "pretrain.steps=1", "pretrain.batch_clips=2", "pretrain.held_out_clips=2")
    options = miniature_e2e.options(dataset, tmp_path / "run", *sets)
    assert run(["pretrain", *options]) == 0
    before = files(tmp_path / "run")
    tree = json.loads(dataset.read_text())
    for entry in tree["database"].values():
        for action in entry["annotations"]:
            action["label"] = "the same"
    other = tmp_path / "set" / "other.json"
    other.write_text(json.dumps(tree))
    capsys.readouterr()
    assert "other classes" in complaint(["pretrain", "-o", str(tmp_path / "run"), "--annotations", str(other)], capsys)
    assert files(tmp_path / "run") == before
    assert run(["pretrain", "-o", str(tmp_path / "run")]) == 0
