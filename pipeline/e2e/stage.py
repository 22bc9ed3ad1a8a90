"""The e2e stage of a run: encoder and detector trained together from raw video, then inference and evaluation."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...data.annotations import Annotations
from ...data.cache.cache import FeatureCache
from ...data.checkpoint import TENSORS, load_checkpoint, naming_contents, require_form, save_checkpoint
from ...data.errors import EtadError
from ...data.files.atomic import remove_leftovers
from ...data.ranks import Ranks, current_ranks
from ...detect.model.build import Trained, check_channels
from ...detect.run_state import read_log
from ...extract.encoders.encoder import Encoder
from ...extract.weights.adapters import restore_encoder, same_frozen
from ...extract.weights.load import encoder_checkpoint
from ..config import Config
from ..device import threads_for
from ..manifest import noting
from ..run_folder import RunFolder
from ..stages.detect import note_unused, train_on
from ..stages.extract import Sources, load_encoder, note_weights, require_single_encoder
from ..stages.inputs import require_data
from ..stages.result import StageNotes, StageResult
from .checks import check_clips, check_features_place, check_files, check_frozen, check_start
from .infer import infer_tuned
from .memory import GIB
from .setup import E2eSetup, find_detector

ENCODER_FORMAT = "etad-encoder"


@dataclass(frozen=True)
class Start:
    """What training starts from.

    Parameters
    ----------
    encoder
        With its weights, on the device; what is to be frozen is.
    weights_sha256
        Of these weights.
    detector
        Checkpoint, and what it holds; none: a fresh one.
    notes
        What a reader of the result has to know of it.
    """

    encoder: Encoder
    weights_sha256: str
    detector: tuple[Path, Trained] | None
    notes: StageNotes


def prepare(
    config: Config,
    run: RunFolder,
    *,
    sources: Sources,
    annotations: Annotations,
    device: torch.device,
    init_detector: Path | None = None,
    weights: Path | None = None,
    scores: Path | None = None,
) -> Start:
    """Load encoder and detector, and refuse what does not go together, before anything is written.

    Parameters
    ----------
    init_detector, weights, scores
        See `run_e2e`.

    Raises
    ------
    EtadError
        Settings, weights, detector and videos do not go together.
    """
    require_single_encoder(config)
    check_clips(config)
    check_frozen(config)
    check_files(config, annotations, sources.files)
    require_data(config, annotations, scores=scores, there=sources.files)
    notes = StageNotes(run.e2e)
    notes.missing += sources.missing
    note_unused(notes, config)
    encoder, weights_sha256, text = load_encoder(config, run, weights)
    notes.lines.append(f"encoder: {text}")
    encoder = encoder.to(device).freeze(config.encoder.frozen_stages)
    check_channels(config.detect, encoder.channels, config.encoder.name)
    start = find_detector(config, run, init_detector, annotations)
    check_start(config, start)
    return Start(encoder, weights_sha256, start, notes)


def run_e2e(
    config: Config,
    run: RunFolder,
    *,
    sources: Sources,
    annotations: Annotations,
    device: torch.device,
    init_detector: Path | None = None,
    weights: Path | None = None,
    scores: Path | None = None,
    features: Path | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> StageResult:
    """Train through the encoder, infer with its features, evaluate; do only what is missing.

    Parameters
    ----------
    init_detector
        Checkpoint to start from; the run's own by default.
    weights
        Encoder weights, found as `extract` finds them.
    scores
        File of video-level class scores.
    features
        Cache to write the tuned encoder's features to, of both subsets; none: they never leave memory.
    report
        Called with the plan of a step before training begins, where a memory budget is set.

    Raises
    ------
    EtadError
        Settings, weights, detector and videos do not go together; nothing can be sampled; too many videos fail.
    """
    if features is not None:
        check_features_place(features, run.files("e2e").encoder)
    ranks, tuned = current_ranks(), run.files("e2e").encoder
    start = prepare(
        config,
        run,
        sources=sources,
        annotations=annotations,
        device=device,
        init_detector=init_detector,
        weights=weights,
        scores=scores,
    )
    notes, encoder, weights_sha256 = start.notes, start.encoder, start.weights_sha256
    inputs = {
        "annotations": annotations.source,
        "scores": scores,
        "detector": None if start.detector is None else start.detector[0],
    }
    digests = {"weights": weights_sha256}
    with (
        run.bind("e2e", config) as bound,
        noting(run, "e2e", config, device=device, files=inputs, digests=digests) as entry,
    ):
        if ranks.is_first:
            remove_leftovers(run.e2e)
        note_weights(config, run, weights, weights_sha256)
        setup = E2eSetup(config, run, sources, annotations, device, notes, bound, ranks)
        trainer = setup.trainer(encoder, weights_sha256, start.detector)
        if setup.plan is not None:
            if ranks.is_first:
                report(setup.plan.text())
            trainer.watches_memory = True
        with threads_for(encoder):
            remember = partial(run.remember, config, "e2e")
            train_on(trainer, notes, title="e2e", accepted=remember, tensorboard=config.tensorboard)
        if setup.plan is not None and trainer.peak_bytes is not None:
            taken = trainer.peak_bytes + setup.plan.frames
            notes.lines.append(f"memory: planned {setup.plan.total / GIB:.3f} GiB, measured {taken / GIB:.3f} GiB")
        if config.e2e.cache_frozen:
            notes.lines += _kept_gain(trainer.files.log, config.e2e.cache_frozen)
            if ranks.is_first:  # it is large, and needed again only if more epochs are asked for
                setup.forget_frozen(trainer)
        notes.failed |= trainer.failed
        notes.flawed |= trainer.flawed
        chosen = trainer.files.checkpoint(config.detect.inference.checkpoint)
        _restore_and_write(encoder, chosen, tuned, config, ranks)
        # Moments and averages are no longer needed: with adapters they take more memory than inference does.
        del start, setup, trainer
        gc.collect()
        evaluation = infer_tuned(
            config,
            notes,
            sources,
            annotations,
            encoder=encoder,
            weights=tuned,
            checkpoint=chosen,
            scores=scores,
            cache=features,
            device=device,
            ranks=ranks,
        )
        entry["failed"] = len(notes.failed)
        if features is not None and ranks.is_first and features.exists():
            entry["made"]["cache"] = FeatureCache(features).digest
    return notes.result(evaluation)


def _kept_gain(log: Path, draws: int) -> list[str]:
    """Say what an epoch took that filled what is kept of frozen stages, and one that read it."""
    took = [float(line["seconds"]) for line in read_log(log)]
    if len(took) <= draws:
        return []
    first, later = (sum(part) / len(part) for part in (took[:draws], took[draws:]))
    return [f"frozen stages: {first:.3g} s an epoch that kept their outputs, {later:.3g} s one that read them"]


def _restore_and_write(encoder: Encoder, checkpoint: Path, path: Path, config: Config, ranks: Ranks) -> None:
    """Make the encoder that of a checkpoint, and write it as weights that extraction takes."""
    saved = load_checkpoint(checkpoint)
    require_form(checkpoint, saved, {"encoder": TENSORS, "version": str})
    with naming_contents(checkpoint):
        restore_encoder(encoder, saved)
    if ranks.is_first:
        _write_weights(path, saved, encoder, config)
    ranks.wait()


def _write_weights(path: Path, chosen: Mapping[str, Any], encoder: Encoder, config: Config) -> None:
    if path.exists():
        # Damaged, of other names, or no tensors: it is written anew.
        with contextlib.suppress(EtadError, KeyError, TypeError):
            content = load_checkpoint(path)
            written = content.get("encoder", {})
            if same_frozen(content, chosen) and all(
                torch.equal(tensor, written[name]) for name, tensor in chosen["encoder"].items()
            ):
                return
    content = {"format": ENCODER_FORMAT, "clip_frames": config.clips.clip_frames, "version": chosen["version"]}
    save_checkpoint(path, content | encoder_checkpoint(encoder, name=config.encoder.name))
