"""The detect stage of a run: windows, training, inference, labels, detections, evaluation."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ...data.annotations import Annotations
from ...data.cache.cache import FeatureCache
from ...data.cache.meta import FeatureMeta
from ...data.checkpoint import load_checkpoint
from ...data.digest import file_sha256, values_digest
from ...data.errors import EtadError
from ...data.progress import StepBar
from ...data.ranks import Ranks, current_ranks
from ...detect.loop import EpochTraining
from ...detect.model.build import Trained, check_channels, load_detector
from ...detect.model.published import RELEASED_ENCODER, find_released, load_released
from ...detect.settings import LabelSettings
from ...detect.train import Trainer
from ...detect.windows import Window, make_windows, training_classes, windows_digest
from ...extract.encoders.encoder import build_encoder
from ...extract.joined import JOINT
from ...extract.weights.adapters import same_frozen
from ...extract.weights.load import load_weights
from ..config import Config
from ..events import TrainingEvents
from ..manifest import noting
from ..run_folder import RunFolder, StageFolder
from .extract import noted_weights
from .infer import infer_and_evaluate, note_windows, require_windows
from .inputs import require_data, require_scores, validation_videos
from .result import StageNotes, StageResult


def load_any_detector(path: Path, config: Config, annotations: Annotations | None) -> Trained:
    """Load a detector of etad, or one that the authors of ETAD released, with its encoder where it has one.

    Parameters
    ----------
    config
        Says of a released detector what its file does not: windows, inference, labels.
    annotations
        Whose classes a released detector's proposals get; none: they stay without.

    Raises
    ------
    EtadError
        The file holds neither, or what it holds does not fit.
    """
    state = load_checkpoint(path)
    released = None if "format" in state else find_released(path, state)
    if released is None:
        return load_detector(path)
    settings = config.detect
    if annotations is None:
        settings = settings.model_copy(update={"labels": LabelSettings(source="scores", top=1)})
        classes: tuple[str, ...] = ("action",)
    else:
        classes = training_classes(annotations, config.data.train_subset)
    trained = load_released(path, released, settings=settings, classes=classes)
    if released.has_encoder:
        encoder = build_encoder(RELEASED_ENCODER)
        load_weights(encoder, path, name=RELEASED_ENCODER)
        trained.state["encoder"] = encoder.state_dict()
    return trained


def check_cache(cache: FeatureCache, config: Config) -> None:
    """Refuse a cache whose encoder or timing contradicts the config.

    Raises
    ------
    EtadError
        Naming both values, the cache and a video.
    """
    if cache.meta(cache.ids[0]).is_imported:
        return  # the config says how videos are extracted, which these features were not
    clips, meta = config.clips, cache.meta(cache.ids[0])  # one for all: a cache mixes neither encoders nor transforms
    wanted = clips.model_dump(mode="json")
    names = [name for name in ("layout", "resize", "crop", "edge", "still") if name in meta.transform]
    of_all = _encoders(meta, config) + [(f"clips.{name}", meta.transform[name], wanted[name]) for name in names]
    for number, video_id in enumerate(cache.ids):
        timing = cache.timing(video_id)
        compared: list[tuple[str, object, object]] = [
            *(of_all if number == 0 else []),
            ("clips.clip_frames", timing.clip_frames, clips.clip_frames),
            ("clips.frame_step", timing.frame_step, clips.frame_step),
        ]
        if clips.fps is not None and abs(timing.fps - clips.fps) > 1e-3:
            compared.append(("clips.fps", timing.fps, clips.fps))
        layout = clips.layout if meta.transform.get("layout", clips.layout) == clips.layout else None
        # In another layout, other numbers of snippets and strides follow.
        if layout == "spread" and cache.lengths[video_id] != clips.num_snippets:
            compared.append(("clips.num_snippets", cache.lengths[video_id], clips.num_snippets))
        if layout == "sliding" and timing.centers_seconds is None and cache.lengths[video_id] > 1:
            stride = round(timing.center_step_seconds * timing.fps, 3)
            compared.append(("clips.stride_frames", stride, clips.stride_frames))
        differing = [(key, found, expected) for key, found, expected in compared if found != expected]
        if differing:
            stated = "; ".join(f"{key}={found}, the config says {expected}" for key, found, expected in differing)
            sets = " and ".join(f"{key}={found}" for key, found, _ in differing)
            raise EtadError(
                f"{cache.path}: video '{video_id}' was extracted with {stated}. "
                f"Extract again into another run folder, or set {sets}."
            )


def _encoders(meta: FeatureMeta, config: Config) -> list[tuple[str, object, object]]:
    """Encoders of a cache beside those of the config, and what further ones saw."""
    first, *further = meta.encoder.split(JOINT)
    compared: list[tuple[str, object, object]] = [("encoder.name", first, config.encoder.name)]
    compared.append(("encoder.also", further, [each.name for each in config.encoder.also]))
    stated = meta.transform.get("also", [])
    for number, (settings, found) in enumerate(zip(config.encoder.also, stated, strict=False)):
        wanted = settings.model_dump(mode="json")
        compared += [
            (f"encoder.also.{number}.{name}", found.get(name), wanted[name])
            for name in ("resize", "crop")
            if wanted[name] is not None
        ]
        compared.append((f"encoder.also.{number}.frames", found.get("frames"), wanted["frames"]))
    return compared


def detect(
    config: Config,
    run: RunFolder,
    *,
    cache: FeatureCache,
    annotations: Annotations,
    device: torch.device,
    scores: Path | None = None,
    checkpoint: Path | None = None,
) -> StageResult:
    """Train (unless a checkpoint is given), infer, label, and evaluate; do only what is missing.

    Parameters
    ----------
    scores
        File of video-level class scores.
    checkpoint
        A trained detector: nothing is trained.
    """
    notes, ranks = StageNotes(run.detect), current_ranks()
    check_cache(cache, config)
    notes.lines += cache.reading_notes()
    note_unused(notes, config)
    check_channels(config.detect, cache.channels, cache.path)
    given = None if checkpoint is None else load_any_detector(checkpoint, config, annotations)
    if given is None:
        require_data(config, annotations, scores=scores, there=cache.ids)
    elif scores is not None:
        tested = [video.id for video in annotations.subset(config.data.test_subset)]
        require_scores(scores, given.classes, tested, there=cache.ids)
    inputs = {"annotations": annotations.source, "scores": scores, "checkpoint": checkpoint}
    digests = {"cache": cache.digest, "weights": cache.meta(cache.ids[0]).weights_sha256}
    with contextlib.ExitStack() as held:
        checkpoint_classifier = None
        if checkpoint is None:
            bound = held.enter_context(run.bind("detect", config))
            held.enter_context(noting(run, "detect", config, device=device, files=inputs, digests=digests))
            checkpoint = _train(
                config,
                notes,
                cache=cache,
                annotations=annotations,
                bound=bound,
                device=device,
                ranks=ranks,
                noted=noted_weights(run),
                accepted=lambda: run.remember(config, "detect"),
            )
        else:
            held.enter_context(run.hold("detect"))
            held.enter_context(noting(run, "detect", config, device=device, files=inputs, digests=digests))
            assert given is not None
            if given.state.get("released"):
                rules = f"preset={given.settings.preset}, bins={given.settings.roi_bins}"
                notes.lines.append(f"detector: {checkpoint} is the authors' release ({rules})")
            else:
                checkpoint_classifier = StageFolder(checkpoint.parent.parent).classifier
            notes.lines += given.training_notes(checkpoint)
        trained = given or load_detector(checkpoint)
        check_features(trained, cache, checkpoint)
        if given is not None:
            run.remember(config, "detect")
        evaluation = infer_and_evaluate(
            config,
            notes,
            trained=trained,
            features=cache,
            annotations=annotations,
            scores=scores,
            checkpoint_classifier=checkpoint_classifier,
            device=device,
            title="detect",
            ranks=ranks,
        )
    return notes.result(evaluation)


def note_unused(notes: StageNotes, config: Config) -> None:
    """Note the settings that are set and belong to another detector than the one that is named."""
    if unused := config.detect.unused():
        notes.lines.append(f"detect.model={config.detect.model} makes no use of detect.{', detect.'.join(unused)}")


def train_on(
    trainer: EpochTraining,
    notes: StageNotes,
    *,
    title: str,
    accepted: Callable[[], None],
    tensorboard: bool = False,
) -> None:
    """Go on from where a training stopped to its last epoch, with a bar; nothing where it is done.

    Parameters
    ----------
    accepted
        Called when it is known that this training can go on from there, before it does.
    tensorboard
        Write its log as TensorBoard events, too, that of the epochs before included.
    """
    resumed = trainer.resume()
    accepted()
    if tensorboard and trainer.ranks.is_first:
        events = TrainingEvents(trainer.files)
        events.update()
        trainer.after_epoch = events.update
    if trainer.state.epoch >= trainer.epochs:
        notes.lines.append(f"training skipped: {trainer.last} is done")
        return
    if resumed:
        at = f"epoch {trainer.state.epoch + 1}, step {trainer.state.step + 1}"
        notes.lines.append(f"training went on from {trainer.last} ({at})")
    with StepBar(f"{title}: train", done=trainer.position, total=trainer.num_steps) as bar:
        trainer.within_step = bar.within
        trainer.run(bar)


def trained_weights(trained: Trained, checkpoint: Path) -> str | None:
    """Digest of the encoder weights whose features a detector knows; None where no file of these is there any more.

    A detector that was trained end to end goes with the tuned encoder, which lies beside its checkpoints, or in the
    same file where the authors released it.
    """
    if "encoder" not in trained.state:
        return trained.source.get("weights_sha256")
    if trained.state.get("released"):
        return file_sha256(checkpoint)
    tuned, file = trained.state["encoder"], StageFolder(checkpoint.parent.parent).encoder
    if not file.is_file():
        return None
    content = load_checkpoint(file)
    written = content.get("encoder", {})
    if not same_frozen(content, trained.state):
        return None
    same = written.keys() == tuned.keys() and all(torch.equal(written[name], tuned[name]) for name in tuned)
    return file_sha256(file) if same else None


def check_features(trained: Trained, cache: FeatureCache, checkpoint: Path) -> None:
    """Refuse features of another width, encoder, weights or transform than the detector was trained on.

    Raises
    ------
    EtadError
        Naming both values; detections from such features are noise.
    """
    sizes = trained.settings.model_copy(update={"in_channels": trained.state["in_channels"]})
    check_channels(sizes, cache.channels, cache.path, trained=checkpoint)
    encoder, expected = cache.meta(cache.ids[0]).encoder, trained.source.get("encoder")
    # What the authors trained on, somebody else extracted: imported features count as theirs by their channels.
    if encoder != expected and not (trained.state.get("released") and cache.meta(cache.ids[0]).is_imported):
        raise EtadError(
            f"{cache.path}: features of encoder {encoder}, but {checkpoint} was trained on features of {expected}. "
            "Extract with that encoder, or train on these features."
        )
    meta = cache.meta(cache.ids[0])
    weights = trained_weights(trained, checkpoint)
    # Imported features do not state their weights.
    is_stated = not meta.is_imported and trained.source.get("clips") != {}
    if weights is not None and is_stated and meta.weights_sha256 != weights:
        place = trained.source.get("weights")
        whose = f" (it was {place})" if place and "encoder" not in trained.state else ""
        if trained.state.get("released"):
            whose = f" (its own encoder: `etad extract --weights {checkpoint}`)"
        raise EtadError(
            f"{cache.path}: features of encoder {encoder} with weights of sha256 {meta.weights_sha256}, but "
            f"{checkpoint} was trained on features of weights of sha256 {weights}{whose}. Extract with those weights, "
            "or train on these features."
        )
    for name, found, trained_on in _transform_differences(trained, meta):
        raise EtadError(
            f"{cache.path}: features of frames with {name}={found}, but {checkpoint} was trained on features with "
            f"{name}={trained_on}. Extract them anew as those were, or train on these."
        )


def _transform_differences(trained: Trained, meta: FeatureMeta) -> list[tuple[str, object, object]]:
    """What was done otherwise to frames; what the checkpoint or the cache does not state is passed over."""
    text = trained.source.get("transform")
    try:
        known = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return []
    found = json.loads(meta.transform_json)
    return [
        (name, found[name], known[name]) for name in sorted(known.keys() & found.keys()) if found[name] != known[name]
    ]


def _train(
    config: Config,
    notes: StageNotes,
    *,
    cache: FeatureCache,
    annotations: Annotations,
    bound: Mapping[str, Any],
    device: torch.device,
    ranks: Ranks,
    noted: Mapping[str, Path],
    accepted: Callable[[], None],
) -> Path:
    settings = config.detect.model_copy(update={"in_channels": cache.channels})
    classes = training_classes(annotations, config.data.train_subset)
    learned = annotations.subset(config.data.train_subset)
    windows, report = make_windows(learned, cache, settings=settings, classes=classes, training=True)
    note_windows(notes, config.data.train_subset, report)
    require_windows(windows, report, config.data.train_subset)
    val_windows: list[Window] = []
    if kept_apart := validation_videos(config, annotations):
        val_windows, report = make_windows(kept_apart, cache, settings=settings, classes=classes, training=False)
        note_windows(notes, str(config.data.validation_subset), report)
    first = cache.meta(cache.ids[0])
    features = [repr(cache.kind), first.weights_sha256]
    places = [str(noted.get(sha256, "")) for sha256 in first.weights_sha256.split(JOINT)]
    trainer = Trainer(
        settings,
        train_windows=windows,
        val_windows=val_windows,
        cache=cache,
        classes=classes,
        source={
            "encoder": first.encoder,
            "weights_sha256": first.weights_sha256,
            "clips": {} if first.is_imported else config.clips.model_dump(mode="json"),
            "transform": first.transform_json,
            "weights": places[0],
            **({"further_weights": places[1:]} if len(places) > 1 else {}),
            "clip_frames": first.timing.clip_frames,
            "frame_step": first.timing.frame_step,
        },
        config_digest=values_digest({"config": bound, "windows": windows_digest(windows), "features": features}),
        made_from={
            "other settings": values_digest(bound),
            "features of another kind": values_digest({"features": features}),
        },
        folder=notes.folder,
        device=device,
        seed=config.seed,
        workers=config.workers,
        ranks=ranks,
    )
    train_on(trainer, notes, title="detect", accepted=accepted, tensorboard=config.tensorboard)
    return trainer.files.checkpoint(settings.inference.checkpoint)
