"""Inference of an end-to-end run: features of the tuned encoder, in memory or in a cache, then detections."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from ...data.annotations import Annotations
from ...data.cache.cache import FeatureCache
from ...data.cache.source import FeatureSource
from ...data.detections import read_detections
from ...data.digest import file_sha256, tensors_digest, values_digest
from ...data.errors import EtadError, counted
from ...data.files.atomic import write_json
from ...data.files.json_file import read_json
from ...data.ranks import Ranks
from ...detect.model.build import load_detector
from ...extract.clips import Failure
from ...extract.encoders.encoder import Encoder
from ...extract.joined import Encoders
from ..config import Config
from ..device import threads_for
from ..stages.evaluate import Evaluation
from ..stages.extract import Sources, extract_with_all
from ..stages.infer import infer_and_evaluate, inference_settings, measure
from ..stages.result import StageNotes
from .features import encode_in_memory, features_digest
from .setup import encoding

_logger = logging.getLogger(__name__)


def infer_tuned(
    config: Config,
    notes: StageNotes,
    sources: Sources,
    annotations: Annotations,
    *,
    encoder: Encoder,
    weights: Path,
    checkpoint: Path,
    scores: Path | None,
    cache: Path | None,
    device: torch.device,
    ranks: Ranks,
) -> Evaluation | None:
    """Encode what is tested (and what a video classifier learns from), infer and evaluate, unless that was done.

    Parameters
    ----------
    encoder, weights
        The tuned encoder, and its file.
    checkpoint
        The tuned detector.
    cache
        Where the features of both subsets are written, and read from, rounded as the cache stores them; none: they
        never leave memory.
    """
    trained = load_detector(checkpoint)
    for name in ("optimizer", "trained"):  # what training would go on from
        trained.state.pop(name, None)
    settings = inference_settings(trained, config, scores)
    tested = annotations.subset(config.data.test_subset)
    learned = annotations.subset(config.data.train_subset)
    wanted = [video.id for video in tested]
    if cache is not None:
        wanted += [video.id for video in learned]
    elif settings.labels.source == "classifier":
        wanted += [video.id for video in learned if video.actions]
    files = {id: sources.files[id] for id in wanted if id in sources.files}
    how = encoding(config, files, device)
    features: FeatureSource | None = None
    if cache is None:
        name = features_digest(files, how["plan"], encoder=encoder, dtype=how["dtype"])
    else:
        features = _cached(
            config, notes, sources, files, encoder=encoder, weights=weights, cache=cache, device=device, ranks=ranks
        )
        name = "" if features is None else features.digest
    provenance = values_digest(
        {
            "features": name,
            "detector": tensors_digest(trained.state["model"]),
            # Without defaults: a setting that a later version adds leaves what was made before it good.
            "settings": settings.model_dump(mode="json", exclude={"training", "tious"}, exclude_defaults=True),
            "scores": scores and [str(scores), scores.stat().st_size, scores.stat().st_mtime_ns] if scores else None,
            "videos": [video.id for video in tested],
            "labels": [[video.id, [action.label for action in video.actions]] for video in learned],
        }
    )
    provenance_file, results = notes.files.inference, notes.files.detections
    done = ranks.broadcast(_read_provenance(provenance_file, results) if ranks.is_first else None)
    if done.get("made_from") == provenance:
        notes.lines.append("inference skipped: detections.json is up to date")
        notes.failed |= {row[0]: Failure.of_row(row) for row in done["failed"]}
        notes.flawed |= {row[0]: Failure.of_row(row) for row in done.get("flawed", [])}
        if not ranks.is_first:
            return None
        return measure(config, notes, annotations, read_detections(results), tious=settings.tious)
    failed: list[Failure] = []
    if cache is None:
        with threads_for(encoder):
            features, failed, flawed = encode_in_memory(
                files,
                encoder=encoder,
                title="e2e: encode",
                stated_seconds=sources.stated_seconds,
                ranks=ranks,
                **how,
            )
        notes.failed |= {failure.video_id: failure for failure in failed}
        notes.flawed |= {flaw.video_id: flaw for flaw in flawed}
    if features is None or not any(video.id in features.ids for video in tested):
        notes.lines.append(f"no inference: none of {counted(len(tested), 'test video')} could be encoded")
        return None
    if ranks.is_first:
        # Or, stopped on the way, it would vouch for detections that are not its own.
        provenance_file.unlink(missing_ok=True)
    evaluation = infer_and_evaluate(
        config,
        notes,
        trained=trained,
        features=features,
        annotations=annotations,
        scores=scores,
        checkpoint_classifier=None,
        device=device,
        title="e2e",
        ranks=ranks,
    )
    if ranks.is_first:
        done = {
            "made_from": provenance,
            "failed": [failure.as_row() for failure in failed],
            "flawed": [flaw.as_row() for flaw in notes.flawed.values()],
            "detections": file_sha256(results),
        }
        write_json(provenance_file, {**done, "digest": values_digest(done)})
    return evaluation


def _cached(
    config: Config,
    notes: StageNotes,
    sources: Sources,
    files: dict[str, Path],
    *,
    encoder: Encoder,
    weights: Path,
    cache: Path,
    device: torch.device,
    ranks: Ranks,
) -> FeatureCache | None:
    """Extract what the cache does not have of these videos, exactly as `extract --weights` does; none: all failed."""
    with threads_for(encoder):
        report = extract_with_all(
            Encoders(config.encoder.name, encoder, file_sha256(weights)),
            config=config,
            files=files,
            cache=cache,
            shard=None,
            device=device,
            stated_seconds=sources.stated_seconds,
            ranks=ranks,
        )
    notes.failed |= {failure.video_id: failure for failure in report.failed}
    notes.flawed |= {flaw.video_id: flaw for flaw in report.flawed}
    made = f"{counted(len(report.done), 'video')} encoded, {len(report.skipped)} there already"
    notes.lines.append(f"features: {made} -> {cache}")
    if not (report.done or report.skipped):
        return None
    features = FeatureCache(cache)
    notes.lines += features.reading_notes()
    return features


def _read_provenance(path: Path, results: Path) -> dict[str, Any]:
    """What the results were made from; nothing where either file is damaged or gone, and they are made again."""
    if not (path.exists() and results.exists()):
        return {}
    try:
        done = read_json(path, what="what detections were made from")
        if isinstance(done, dict) and "digest" not in done:  # of an old version
            return done if isinstance(done.get("failed"), list) else {}
        if done.pop("digest") == values_digest(done) and done["detections"] == file_sha256(results):
            return dict(done)
        reason = f"this or {results.name} has changed since it was written"
    except (EtadError, AttributeError, KeyError, TypeError) as error:
        reason = str(error)
    _logger.warning("%s: %s; inference is done again", path, reason)
    return {}
