"""A set of videos, and settings, small enough to train on end to end in a second."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from etad.data.annotations import read_annotations
from etad.data.synthetic.dataset import SyntheticSpec, make_dataset
from etad.pipeline.config import load_config
from etad.pipeline.e2e.setup import E2eSetup, find_detector
from etad.pipeline.e2e.stage import run_e2e
from etad.pipeline.e2e.train import E2eTrainer
from etad.pipeline.run_folder import RunFolder
from etad.pipeline.stages.extract import find_sources, load_encoder
from etad.pipeline.stages.result import StageNotes, StageResult

SETS = [
    "encoder.name=tsm_tiny",
    "encoder.init=random",
    "encoder.frozen_stages=1",
    "clips.clip_frames=2",
    "clips.num_snippets=12",
    "clips.resize=[20, 20]",
    "clips.crop=16",
    "detect.num_snippets=12",
    "detect.max_duration=12",
    "detect.bins=4",
    "detect.num_stages=1",
    "detect.enhancement=conv",
    "detect.sampling.ratio=0.3",
    "detect.training.epochs=1",
    "detect.labels.source=branch",
    "e2e.batch=2",
    "e2e.epochs=2",
    "e2e.decay_after=1",
    "e2e.encoder_lr=1e-3",
    "e2e.precision=float32",
    "e2e.validate_epochs=false",
    "workers=0",
]
SLIDING = [
    "clips.layout=sliding",
    "clips.stride_frames=4",
    "detect.windows=sliding",
    "detect.window_stride=6",
    "detect.num_snippets=18",
]
CPU = torch.device("cpu")
SHORT = ("e2e.epochs=1", "e2e.batch=3", "e2e.jitter_frames=1", "e2e.flip_probability=0.5")


def make(folder: Path) -> Path:
    """Draw four videos to learn from and two to test on; returns their annotations."""
    spec = SyntheticSpec(num_videos=6, shortest_seconds=6, longest_seconds=8, size=24, validation_share=0.34)
    return make_dataset(folder, spec)


def options(dataset: Path, folder: Path, *sets: str) -> list[str]:
    """Options of a command line that does the same."""
    everything = [*SETS, *paths(dataset), *sets]
    return ["-o", str(folder), *(word for each in everything for word in ("--set", each))]


def paths(dataset: Path) -> list[str]:
    return [f"data.annotations={dataset}", f"data.videos={dataset.parent / 'videos'}"]


def trainer(dataset: Path, folder: Path, *sets: str) -> E2eTrainer:
    config = load_config(None, [*SETS, *paths(dataset), *sets])
    run, annotations = RunFolder(folder), read_annotations(dataset)
    encoder, sha256, _ = load_encoder(config, run, None)
    encoder.freeze(config.encoder.frozen_stages)
    sources = find_sources(config, annotations, None)
    setup = E2eSetup(config, run, sources, annotations, CPU, StageNotes(run.e2e), config.to_tree())
    return setup.trainer(encoder, sha256, find_detector(config, run, None, annotations))


def run(dataset: Path, folder: Path, *sets: str, features: Path | None = None) -> StageResult:
    config = load_config(None, [*SETS, *paths(dataset), *sets])
    annotations = read_annotations(dataset)
    sources = find_sources(config, annotations, None)
    return run_e2e(config, RunFolder(folder), sources=sources, annotations=annotations, features=features, device=CPU)


def weights(run: E2eTrainer) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor.clone()
        for part, module in (("encoder", run.encoder), ("detector", run.detector))
        for name, tensor in module.state_dict().items()
    }


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Parts that differ: `detector`, or the encoder's stages."""
    assert before.keys() == after.keys()
    names = [name.split(".") for name in before if not torch.equal(before[name], after[name])]
    return {name[0] if name[0] == "detector" else ".".join(name[:3]) for name in names}
