"""From a trained detector to what a run reports: raw predictions, labels, detections, evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path

import torch

from ...data.annotations import Annotations, match_ids, subset_aliases
from ...data.cache.source import FeatureSource
from ...data.detections import Detections, write_detections
from ...data.digest import digest_of, tensor_chunks, values_digest
from ...data.durations import describe_repairs
from ...data.errors import EtadError
from ...data.files.atomic import write_json
from ...data.predictions import RawPrediction, predictions_digest, read_predictions, write_predictions
from ...data.progress import progress_bar
from ...data.ranks import ALONE, Ranks
from ...data.settings import Mark, marks
from ...detect.model.build import Trained
from ...detect.results.infer import infer
from ...detect.results.postprocess import VideoScores, detections
from ...detect.settings import DetectSettings, LabelSettings
from ...detect.windows import Window, WindowReport, make_windows, windows_digest
from ..config import Config
from .evaluate import Evaluation, evaluate
from .inputs import NO_SCORES
from .labels import video_scores
from .operating import choose_thresholds, read_thresholds, write_thresholds
from .result import StageNotes

# Settings of inference that come after the raw predictions, which are good whatever these are.
_AFTER_RAW = ("inference.", "labels.", "tious")


def inference_settings(trained: Trained, config: Config, scores: Path | None) -> DetectSettings:
    """The checkpoint's sizes and rules, with what may change between training and inference taken from the config.

    Raises
    ------
    EtadError
        Labels come from a file and none is named, or from a branch that the detector does not have.
    """
    labels = "scores" if scores is not None else trained.settings.labels.source
    if config.detect.labels.source == "branch" and labels == "classifier":
        raise EtadError(
            "detect.labels.source=branch, but this detector was trained without a class branch. Leave the key out, or "
            "train one that has it."
        )
    if labels == "scores" and scores is None:
        raise EtadError(NO_SCORES)
    return trained.settings.model_copy(
        update={
            "inference": config.detect.inference,
            "labels": LabelSettings(source=labels, top=config.detect.labels.top),
            "sampling": config.detect.sampling,
            "precision": config.detect.precision,
            "kernels": config.detect.kernels,
            "tious": config.detect.tious,
        }
    )


def infer_and_evaluate(
    config: Config,
    notes: StageNotes,
    *,
    trained: Trained,
    features: FeatureSource,
    annotations: Annotations,
    scores: Path | None,
    checkpoint_classifier: Path | None,
    device: torch.device,
    title: str,
    ranks: Ranks = ALONE,
) -> Evaluation | None:
    """Infer, label and evaluate; infers only where the raw predictions are not those of these very features.

    Parameters
    ----------
    notes
        Of the stage so far; its folder gets the files.
    scores
        File of video-level class scores.
    checkpoint_classifier
        The video classifier of a checkpoint that came from elsewhere.
    ranks
        Processes that infer together; the first one does all that comes after.
    """
    settings = inference_settings(trained, config, scores)

    # 1. Raw predictions of every test window.
    tested = annotations.subset(config.data.test_subset)
    windows, report = make_windows(tested, features, settings=settings, classes=trained.classes, training=False)
    note_windows(notes, config.data.test_subset, report)
    raw = notes.files.raw
    model_digest = _model_digest(trained, features, windows, settings)
    if ranks.broadcast(predictions_digest(raw) == model_digest):
        notes.lines.append("inference skipped: raw.h5 is up to date")
    else:
        trained.detector.compute_with(precision=settings.heads_precision, kernels=settings.kernels)
        predictions = infer(
            trained.detector.to(device),
            windows,
            features,
            settings=settings,
            device=device,
            workers=config.workers,
            ranks=ranks,
        )
        if ranks.is_first:
            bar = progress_bar(f"{title}: infer", predictions, unit="window", total=len(windows))
            write_predictions(raw, bar, model_digest=model_digest)
        else:
            for _ in predictions:  # the first rank gets them all
                pass
    if not ranks.is_first:
        return None

    # 2. Labels, then detections.
    source = None
    if settings.labels.source != "branch":
        source = video_scores(
            settings,
            features,
            annotations,
            train_subset=config.data.train_subset,
            videos=[window.video_id for window in windows],
            classes=trained.classes,
            scores=scores,
            files=notes.files,
            checkpoint_classifier=checkpoint_classifier,
        )
    found = _detections(raw, settings, source, trained.classes)
    write_detections(notes.files.detections, found)

    # 3. Operating thresholds, chosen on the validation subset where its features are at hand.
    _choose_thresholds(
        config,
        notes,
        trained=trained,
        settings=settings,
        features=features,
        annotations=annotations,
        found=found,
        checkpoint_classifier=checkpoint_classifier,
        device=device,
        title=title,
    )

    # 4. Evaluation.
    return measure(config, notes, annotations, found, tious=settings.tious)


def _choose_thresholds(
    config: Config,
    notes: StageNotes,
    *,
    trained: Trained,
    settings: DetectSettings,
    features: FeatureSource,
    annotations: Annotations,
    found: Detections,
    checkpoint_classifier: Path | None,
    device: torch.device,
    title: str,
) -> None:
    """Choose from which score on predictions are reported, and write it beside the detections."""
    data, name = config.data, config.data.validation_subset
    others = (subset_aliases(data.train_subset), subset_aliases(data.test_subset))
    apart = [] if name is None or subset_aliases(name) in others else annotations.subset(name)
    known_classes = set(trained.classes)
    apart = [video for video in apart if all(action.label in known_classes for action in video.actions)]
    matches = match_ids([video.id for video in apart], features.ids, where=str(features.path))
    apart = [video for video in apart if video.id in matches]
    # A file of scores need not have them; without an action among them there is nothing to choose by.
    if settings.labels.source == "scores" or not any(video.actions for video in apart):
        subset, tested = data.test_subset, annotations.subset(data.test_subset)
        thresholds = choose_thresholds(tested, found, subset=subset, is_tested_on=True)
    else:
        assert name is not None
        windows, _ = make_windows(apart, features, settings=settings, classes=trained.classes, training=False)
        made_from = values_digest(
            {
                "model": _model_digest(trained, features, windows, settings),
                "settings": settings.model_dump(mode="json", include={"inference", "labels"}),
            }
        )
        with contextlib.suppress(EtadError):  # damaged: they are chosen again
            known = read_thresholds(notes.files.thresholds)
            if known is not None and known.made_from == made_from:
                return
        trained.detector.compute_with(precision=settings.heads_precision, kernels=settings.kernels)
        predictions = infer(trained.detector.to(device), windows, features, settings=settings, device=device)
        bar = progress_bar(f"{title}: thresholds", predictions, unit="window", total=len(windows))
        source = None
        if settings.labels.source != "branch":
            source = video_scores(
                settings,
                features,
                annotations,
                train_subset=data.train_subset,
                videos=[video.id for video in apart],
                classes=trained.classes,
                scores=None,
                files=notes.files,
                checkpoint_classifier=checkpoint_classifier,
            )
        labelled = _labelled(bar, settings, source, trained.classes)
        thresholds = choose_thresholds(apart, labelled, subset=name, is_tested_on=False, made_from=made_from)
    if thresholds is None:
        notes.files.thresholds.unlink(missing_ok=True)
    else:
        write_thresholds(notes.files.thresholds, thresholds)


def measure(
    config: Config, notes: StageNotes, annotations: Annotations, found: Detections, *, tious: Sequence[float]
) -> Evaluation | None:
    """Evaluate a stage's detections and write its metrics; none where the test subset has no action."""
    subset = config.data.test_subset
    if not any(video.actions for video in annotations.subset(subset)):
        notes.lines.append(f"no evaluation: no video of subset '{subset}' has an action")
        return None
    source = str(notes.files.detections)
    duplicates = config.data.duplicates
    evaluation = evaluate(annotations, subset, found, tious=tious, source=source, duplicates=duplicates)
    write_json(notes.files.metrics, evaluation.as_json(), indent=1)
    return evaluation


def note_windows(notes: StageNotes, subset: str, report: WindowReport) -> None:
    """Note what was left out of a subset, and what was mended."""
    notes.missing += [id for id in report.missing if id not in notes.missing]
    notes.lines += [f"{subset}: {line}" for line in (*report.lines(), *report.notes())]
    if report.repairs:
        notes.lines.append(f"{subset}: {describe_repairs(report.repairs)}")


def require_windows(windows: Sequence[Window], report: WindowReport, subset: str) -> None:
    """Refuse to train on nothing.

    Raises
    ------
    EtadError
        No window is left; tells what was left out and why.
    """
    if not windows:
        why = "; ".join(report.lines()) or "none of its videos is long enough"
        raise EtadError(f"no training window is left of subset '{subset}': {why}.")


def _detections(raw: Path, settings: DetectSettings, source: VideoScores | None, classes: Sequence[str]) -> Detections:
    return _labelled(read_predictions(raw), settings, source, classes)


def _labelled(
    predictions: Iterable[RawPrediction],
    settings: DetectSettings,
    source: VideoScores | None,
    classes: Sequence[str],
) -> Detections:
    videos = list(detections(predictions, settings=settings, video_scores=source))
    return Detections.join(
        [(video.video_id, video.segments, video.labels, video.scores) for video in videos], labels=classes
    )


# To be changed where a baseline's weights come to say something else.
_BASELINES = "baselines 2"


def _model_digest(
    trained: Trained, features: FeatureSource, windows: Sequence[Window], settings: DetectSettings
) -> str:
    # Any other setting of inference counts once it is not its default: what was made before it came stays good.
    defaults, others = DetectSettings(), []
    for key, mark in marks(DetectSettings):
        if mark is Mark.INFERENCE and key != "sampling.inference_ratio" and not key.startswith(_AFTER_RAW):
            value, default = attrgetter(key)(settings), attrgetter(key)(defaults)
            if value != default:
                others.append(repr((key, value)))
    if settings.model != "etad":
        others.append(_BASELINES)
    rest = (
        features.digest,
        windows_digest(windows),
        repr((settings.sampling.inference_ratio, settings.heads_precision)),
        *others,
    )
    weights = tensor_chunks(dict(sorted(trained.state["model"].items())))
    return digest_of(chain(weights, (part.encode() for part in rest)))
