"""The detect stage of a run: windows, training, inference, labels, detections, evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from ..data.annotations import Annotations, describe_repairs
from ..data.atomic import write_json
from ..data.detections import Detections, write_detections
from ..data.errors import EtadError
from ..data.features import FeatureCache
from ..data.predictions import predictions_digest, read_predictions, write_predictions
from ..detect.build import Trained, check_channels, load_detector
from ..detect.infer import infer
from ..detect.postprocess import VideoScores, detections
from ..detect.settings import DetectSettings, LabelSettings
from ..detect.train import Trainer
from ..detect.windows import Window, WindowReport, make_windows, training_classes
from .config import Config, digest
from .evaluation import Evaluation, evaluate
from .labels import video_scores
from .run_folder import stage_part

_NO_SCORES = (
    "labels come from a file of video-level class scores, and none is named: give --scores FILE, or set "
    "detect.labels.source to classifier or branch."
)


@dataclass
class Outcome:
    """What a detect stage did.

    Parameters
    ----------
    evaluation
        None where the annotations of the test subset hold no action.
    notes
        What was left out, mended or skipped, a line each.
    missing
        Videos of either subset that the cache does not have.
    """

    folder: Path
    evaluation: Evaluation | None = None
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def check_cache(cache: FeatureCache, config: Config) -> None:
    """Refuse a cache whose encoder or timing contradicts the config.

    Raises
    ------
    EtadError
        Naming both values, the cache and a video.
    """
    for video_id in cache.ids:
        timing = cache.timing(video_id)
        clips = config.clips
        compared: list[tuple[str, object, object]] = [
            ("clips.clip_frames", timing.clip_frames, clips.clip_frames),
            ("clips.frame_step", timing.frame_step, clips.frame_step),
        ]
        if clips.fps is not None and abs(timing.fps - clips.fps) > 1e-3:
            compared.append(("clips.fps", timing.fps, clips.fps))
        if clips.layout == "spread" and cache.lengths[video_id] != clips.num_snippets:
            compared.append(("clips.num_snippets", cache.lengths[video_id], clips.num_snippets))
        if clips.layout == "sliding" and timing.centers_seconds is None and cache.lengths[video_id] > 1:
            stride = round(timing.center_step_seconds * timing.fps, 3)
            compared.append(("clips.stride_frames", stride, clips.stride_frames))
        if video_id == cache.ids[0]:
            compared.append(("encoder.name", cache.meta(video_id).encoder, config.encoder.name))
        for key, found, expected in compared:
            if found != expected:
                raise EtadError(
                    f"{cache.path}: video '{video_id}' was extracted with {key}={found}, the config says {expected}. "
                    f"Extract again into another run folder, or set {key}={found}."
                )


def detect(
    config: Config,
    folder: Path,
    *,
    cache: FeatureCache,
    annotations: Annotations,
    scores: Path | None,
    checkpoint: Path | None,
    device: torch.device,
    title: str = "detect",
) -> Outcome:
    """Train (unless a checkpoint is given), infer, label, and evaluate; do only what is missing.

    Parameters
    ----------
    folder
        Where the stage's files go.
    scores
        File of video-level class scores.
    checkpoint
        A trained detector: nothing is trained.
    """
    outcome = Outcome(folder)
    check_cache(cache, config)
    check_channels(config.detect, cache.channels, cache.path)
    if checkpoint is None and config.detect.labels.source == "scores" and scores is None:
        raise EtadError(_NO_SCORES)
    given = None if checkpoint is None else checkpoint.parent.parent / "classifier.pt"
    if checkpoint is None:
        checkpoint = _train(config, outcome, cache=cache, annotations=annotations, device=device, title=title)
    trained = load_detector(checkpoint)
    _check_features(trained, cache, checkpoint)
    labels = "scores" if scores is not None else trained.settings.labels.source
    if labels == "scores" and scores is None:
        raise EtadError(_NO_SCORES)
    settings = trained.settings.model_copy(
        update={
            "inference": config.detect.inference,
            "labels": LabelSettings(source=labels, top=config.detect.labels.top),
            "sampling": config.detect.sampling,
            "tious": config.detect.tious,
        }
    )

    # 1. Raw predictions of every test window.
    tested = annotations.subset(config.data.test_subset)
    windows, report = make_windows(tested, cache, settings=settings, classes=trained.classes, training=False)
    _note(outcome, config.data.test_subset, report)
    raw = folder / "raw.h5"
    model_digest = _model_digest(trained, cache, windows, settings)
    if predictions_digest(raw) == model_digest:
        outcome.notes.append("inference skipped: raw.h5 is up to date")
    else:
        bar = tqdm(
            infer(
                trained.detector.to(device), windows, cache, settings=settings, device=device, workers=config.workers
            ),
            total=len(windows),
            desc=f"{title}: infer",
            unit="window",
        )
        write_predictions(raw, bar, model_digest=model_digest)

    # 2. Labels, then detections.
    source = None
    if settings.labels.source != "branch":
        source = video_scores(
            settings,
            cache,
            annotations,
            train_subset=config.data.train_subset,
            videos=[window.video_id for window in windows],
            classes=trained.classes,
            scores=scores,
            folder=folder,
            given=given,
        )
    found = _detections(raw, settings, source, trained.classes)
    write_detections(folder / "detections.json", found)

    # 3. Evaluation.
    if any(video.actions for video in tested):
        outcome.evaluation = evaluate(
            annotations, config.data.test_subset, found, tious=settings.tious, source=str(folder / "detections.json")
        )
        write_json(folder / "metrics.json", outcome.evaluation.as_json(), indent=1)
    else:
        outcome.notes.append(f"no evaluation: no video of subset '{config.data.test_subset}' has an action")
    return outcome


def _check_features(trained: Trained, cache: FeatureCache, checkpoint: Path) -> None:
    """Refuse features of another width or encoder than the detector was trained on."""
    sizes = trained.settings.model_copy(update={"in_channels": trained.state["in_channels"]})
    check_channels(sizes, cache.channels, cache.path)
    encoder, expected = cache.meta(cache.ids[0]).encoder, trained.source.get("encoder")
    if encoder != expected:
        raise EtadError(
            f"{cache.path}: features of encoder {encoder}, but {checkpoint} was trained on features of {expected}. "
            "Extract with that encoder, or train on these features."
        )


def _train(
    config: Config, outcome: Outcome, *, cache: FeatureCache, annotations: Annotations, device: torch.device, title: str
) -> Path:
    settings = config.detect.model_copy(update={"in_channels": cache.channels})
    classes = training_classes(annotations, config.data.train_subset)
    learned = annotations.subset(config.data.train_subset)
    windows, report = make_windows(learned, cache, settings=settings, classes=classes, training=True)
    _note(outcome, config.data.train_subset, report)
    tested = [video for video in annotations.subset(config.data.test_subset) if video.actions]
    val_windows: list[Window] = []
    if tested:
        val_windows = make_windows(tested, cache, settings=settings, classes=classes, training=False)[0]
    first = cache.meta(cache.ids[0])
    trainer = Trainer(
        settings,
        train_windows=windows,
        val_windows=val_windows,
        cache=cache,
        classes=classes,
        source={
            "encoder": first.encoder,
            "weights_sha256": first.weights_sha256,
            "clips": config.clips.model_dump(mode="json"),
        },
        config_digest=digest({"config": stage_part("detect", config), "windows": _windows_digest(windows)}),
        folder=outcome.folder,
        device=device,
        seed=config.seed,
        workers=config.workers,
    )
    resumed = trainer.resume()
    if trainer.state.epoch >= settings.training.epochs:
        outcome.notes.append(f"training skipped: {trainer.last} is done")
    else:
        if resumed:
            at = f"epoch {trainer.state.epoch + 1}, step {trainer.state.step + 1}"
            outcome.notes.append(f"training went on from {trainer.last} ({at})")
        with tqdm(desc=f"{title}: train", unit="step") as bar:

            def progress(step: int, steps: int, loss: float) -> None:
                bar.total = steps
                bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                bar.update(step - bar.n)

            trainer.run(progress)
    return trainer.last.with_name(f"{settings.inference.checkpoint}.pt")


def _detections(raw: Path, settings: DetectSettings, source: VideoScores | None, classes: Sequence[str]) -> Detections:
    videos = list(detections(read_predictions(raw), settings=settings, video_scores=source))
    return Detections.join(
        [(video.video_id, video.segments, video.labels, video.scores) for video in videos], labels=classes
    )


def _note(outcome: Outcome, subset: str, report: WindowReport) -> None:
    outcome.missing += [id for id in report.missing if id not in outcome.missing]
    outcome.notes += [f"{subset}: {line}" for line in report.lines()]
    if report.repairs:
        outcome.notes.append(f"{subset}: {describe_repairs(report.repairs)}")


def _windows_digest(windows: Sequence[Window]) -> str:
    total = hashlib.sha256()
    for window in windows:
        total.update(repr((window.video_id, window.first, window.count)).encode())
        total.update(window.segments.tobytes() + window.labels.tobytes())
    return total.hexdigest()


def _model_digest(trained: Trained, cache: FeatureCache, windows: Sequence[Window], settings: DetectSettings) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(trained.state["model"].items()):
        total.update(name.encode() + tensor.contiguous().numpy().tobytes())
    total.update(cache.digest.encode() + _windows_digest(windows).encode())
    total.update(repr(settings.sampling.inference_ratio).encode())
    return total.hexdigest()
