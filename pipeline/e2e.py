"""The e2e stage of a run: encoder and detector trained together from raw video, then inference and evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..data.annotations import Annotations
from ..data.atomic import write_text
from ..data.checkpoint import load_checkpoint, save_checkpoint
from ..data.detections import read_detections
from ..detect.build import check_channels, load_detector
from ..extract.encoders import Encoder
from ..extract.weights import encoder_checkpoint
from .config import Config, digest
from .device import threads_for
from .e2e_checks import check_clips
from .e2e_features import encode_in_memory, features_digest
from .e2e_setup import E2eOutcome, E2eSetup, encoding, find_detector, tensors_digest
from .e2e_train import E2eTrainer
from .evaluation import evaluate
from .extracting import Sources, load_encoder
from .inferring import infer_and_evaluate, inference_settings
from .memory import GIB, tensor_bytes
from .run_folder import RunFolder

ENCODER_FORMAT = "etad-encoder"


def run_e2e(
    config: Config,
    run: RunFolder,
    *,
    sources: Sources,
    annotations: Annotations,
    init_detector: Path | None,
    weights: Path | None,
    scores: Path | None,
    device: torch.device,
    say: Callable[[str], None] = lambda text: None,
) -> E2eOutcome:
    """Train through the encoder, infer with features that never leave memory, evaluate; do only what is missing.

    Parameters
    ----------
    init_detector
        Checkpoint to start from; the run's own by default.
    weights
        Encoder weights, found as `extract` finds them.
    scores
        File of video-level class scores.
    say
        Told the plan of a step before training begins, where a memory budget is set.

    Raises
    ------
    EtadError
        Settings, weights, detector and videos do not go together; nothing can be sampled; too many videos fail.
    """
    check_clips(config)
    outcome = E2eOutcome(run.e2e)
    outcome.missing += sources.missing
    encoder, weights_sha256, text = load_encoder(config, run, weights)
    outcome.notes.append(f"encoder: {text}")
    encoder = encoder.to(device).freeze(config.encoder.frozen_stages)
    check_channels(config.detect, encoder.channels, config.encoder.name)
    run.claim("e2e", config)
    setup = E2eSetup(config, run, sources, annotations, device, outcome)
    trainer = setup.trainer(encoder, weights_sha256, find_detector(config, run, init_detector))
    if setup.plan is not None:
        say(setup.plan.text())
        trainer.watches_memory = True
    _train(trainer, config, outcome)
    if setup.plan is not None and trainer.peak_bytes is not None:
        modules = (trainer.encoder, trainer.detector)
        taken = trainer.peak_bytes + tensor_bytes([each for module in modules for each in module.parameters()])
        outcome.notes.append(
            f"memory: planned {setup.plan.total / GIB:.3f} GiB, measured {(taken + setup.plan.frames) / GIB:.3f} GiB"
        )
    outcome.failed |= trainer.failed
    chosen = trainer.last.with_name(f"{config.detect.inference.checkpoint}.pt")
    _write_encoder(run.e2e / "encoder.pt", load_checkpoint(chosen), encoder, config)
    return _infer(
        config, outcome, sources, annotations, encoder=encoder, checkpoint=chosen, scores=scores, device=device
    )


def _train(trainer: E2eTrainer, config: Config, outcome: E2eOutcome) -> None:
    resumed = trainer.resume()
    if trainer.state.epoch >= config.e2e.epochs:
        outcome.notes.append(f"training skipped: {trainer.last} is done")
        return
    if resumed:
        at = f"epoch {trainer.state.epoch + 1}, step {trainer.state.step + 1}"
        outcome.notes.append(f"training went on from {trainer.last} ({at})")
    with tqdm(desc="e2e: train", unit="step") as bar:

        def progress(step: int, steps: int, loss: float) -> None:
            bar.total = steps
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            bar.update(step - bar.n)

        with threads_for(trainer.encoder):
            trainer.run(progress)


def _infer(
    config: Config,
    outcome: E2eOutcome,
    sources: Sources,
    annotations: Annotations,
    *,
    encoder: Encoder,
    checkpoint: Path,
    scores: Path | None,
    device: torch.device,
) -> E2eOutcome:
    """Encode what is tested (and what a video classifier learns from), infer and evaluate, unless that was done."""
    trained = load_detector(checkpoint)
    settings = inference_settings(trained, config, scores)
    tested = annotations.subset(config.data.test_subset)
    wanted = [video.id for video in tested]
    if settings.labels.source == "classifier":
        wanted += [video.id for video in annotations.subset(config.data.train_subset) if video.actions]
    files = {id: sources.files[id] for id in wanted if id in sources.files}
    how = encoding(config, files, device)
    made_from = {
        "features": features_digest(files, how["plan"], encoder=encoder, dtype=how["dtype"]),
        "detector": tensors_digest(trained.state["model"]),
        "settings": settings.model_dump(mode="json", exclude={"training", "tious"}),
        "scores": scores and [str(scores), scores.stat().st_size, scores.stat().st_mtime_ns] if scores else None,
    }
    stamp, results = outcome.folder / "inference.digest", outcome.folder / "detections.json"
    if results.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == digest(made_from):
        outcome.notes.append("inference skipped: detections.json is up to date")
        if any(video.actions for video in tested):
            found = read_detections(results)
            outcome.evaluation = evaluate(
                annotations, config.data.test_subset, found, tious=settings.tious, source=str(results)
            )
        return outcome
    with threads_for(encoder):
        features, failed = encode_in_memory(files, encoder=encoder, title="e2e: encode", **how)
    outcome.failed |= {failure.video_id: failure for failure in failed}
    infer_and_evaluate(
        config,
        outcome,
        trained=trained,
        features=features,
        annotations=annotations,
        scores=scores,
        given=None,
        device=device,
        title="e2e",
    )
    write_text(stamp, digest(made_from))
    return outcome


def _write_encoder(path: Path, chosen: Mapping[str, Any], encoder: Encoder, config: Config) -> None:
    """Load the chosen checkpoint's encoder, and write it as weights that extraction takes."""
    encoder.load_state_dict(chosen["encoder"])
    if path.exists():
        written = load_checkpoint(path).get("encoder", {})
        with contextlib.suppress(KeyError):
            if all(torch.equal(tensor, written[name]) for name, tensor in chosen["encoder"].items()):
                return
    content = {"format": ENCODER_FORMAT, "clip_frames": config.clips.clip_frames, "version": chosen["version"]}
    save_checkpoint(path, content | encoder_checkpoint(encoder, name=config.encoder.name))
