"""A run on synthetic videos whose encoder weights lie in a file, trained once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import miniature_e2e
import pytest
import torch

from etad.data.checkpoint import save_checkpoint
from etad.extract.encoders.encoder import build_encoder
from etad.extract.weights.load import encoder_checkpoint
from etad.pipeline.cli.main import run as etad

SETS = ("encoder.init=weights", "detect.labels.source=classifier")


@dataclass(frozen=True)
class TrainedSet:
    """A run folder, its annotations, its videos, and where its encoder's weights lie."""

    run: Path
    annotations: Path
    videos: Path
    weights: Path

    def predict(self, out: Path, *words: str | Path) -> int:
        return etad(["predict", *map(str, words), "-o", str(out)])


def write_weights(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    return save_checkpoint(path, encoder_checkpoint(build_encoder("tsm_tiny", clip_frames=2), name="tsm_tiny"))


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedSet:
    folder = tmp_path_factory.mktemp("trained")
    annotations = miniature_e2e.make(folder / "set")
    made = TrainedSet(folder / "run", annotations, annotations.parent / "videos", folder / "weights" / "encoder.pt")
    write_weights(made.weights, seed=1)
    options = miniature_e2e.options(annotations, made.run, *SETS)
    assert etad(["extract", *options, "--weights", str(made.weights)]) == 0
    assert etad(["detect", *options]) == 0
    return made
