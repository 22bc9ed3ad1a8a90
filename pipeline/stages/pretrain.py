"""The pretrain stage of a run: which clips, which weights to start from."""

from __future__ import annotations

from pathlib import Path

import torch

from ...data.errors import EtadError
from ...data.synthetic.dataset import SyntheticSpec
from ...extract.clips import ClipPlan
from ...extract.encoders.encoder import build_encoder, encoder_spec
from ...extract.weights.load import load_weights
from ..config import Config, digest
from ..run_folder import RunFolder
from .extract import find_sources, packaged_weights
from .inputs import read_data
from .pretrain_clips import AnnotatedClips, ClipSource, DrawnClips
from .pretrain_training import PretrainReport, run


def run_pretrain(config: Config, folder: RunFolder, *, weights: Path | None, device: torch.device) -> PretrainReport:
    """Pretrain the run's encoder on its annotated videos, or on clips of the synthetic source set.

    Raises
    ------
    EtadError
        There are no videos or annotations, or no weights to start from.
    """
    source, origin = _drawn(config) if config.pretrain.source == "synthetic" else _annotated(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = build_encoder(config.encoder.name, clip_frames=config.clips.clip_frames)
    start = weights or config.encoder.weights or packaged_weights(config)
    if start is not None:
        origin["weights"] = load_weights(encoder, start, name=config.encoder.name).sha256
    elif config.pretrain.source == "videos" and config.encoder.init == "weights":
        raise EtadError(
            f"{encoder_spec(config.encoder.name).weights_wanted()} "
            "To pretrain from scratch all the same, set encoder.init=random."
        )
    with folder.bind("pretrain", config):
        return run(
            config.pretrain,
            encoder=encoder,
            encoder_name=config.encoder.name,
            clip_frames=config.clips.clip_frames,
            source=source,
            out=folder.pretrain,
            seed=config.seed,
            device=device,
            workers=config.workers,
            origin=digest(origin),
        )


def _drawn(config: Config) -> tuple[ClipSource, dict[str, object]]:
    spec = SyntheticSpec(
        domain="source",
        size=config.demo.size,
        fps=config.demo.fps,
        difficulty=config.pretrain.difficulty,
        seed=config.seed,
    )
    source = DrawnClips(
        spec=spec,
        clip_frames=config.clips.clip_frames,
        size=config.clips.crop,
        steps=config.pretrain.steps,
        camera_steps=config.pretrain.camera_steps,
        seed=config.seed,
    )
    return source, {"drawn": spec.digest, "size": config.clips.crop}


def _annotated(config: Config) -> tuple[ClipSource, dict[str, object]]:
    annotations = read_data(config)
    found = find_sources(config, annotations, None)
    plan = ClipPlan(**config.clips.model_dump())
    training = annotations.subset(config.data.train_subset)
    try:
        held_out = annotations.subset(config.data.test_subset)
    except EtadError:
        held_out = []  # nothing to measure the accuracy on is no reason not to train
    source = AnnotatedClips(
        found.files,
        training=training,
        held_out=held_out,
        plan=plan,
        background=config.pretrain.background,
        seed=config.seed,
    )
    videos = [(video.id, [vars(action) for action in video.actions]) for video in training]
    return source, {"plan": plan.describe(), "videos": videos}
