"""What a run has trained, put together: encoder, detector, labels, thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data.annotations import Video
from ...data.cache.source import FeatureSource
from ...data.checkpoint import naming_contents
from ...data.digest import file_sha256, tensors_digest, values_digest
from ...data.errors import EtadError
from ...data.progress import progress_bar
from ...detect.model.build import Trained
from ...detect.results.classify import VideoClassifier, load_classifier
from ...detect.results.infer import infer
from ...detect.results.postprocess import VideoDetections, detections
from ...detect.settings import DetectSettings, LabelSettings
from ...detect.windows import make_windows
from ...extract.encoders.encoder import ENCODERS, build_encoder
from ...extract.joined import JOINT, Encoders
from ...extract.settings import ClipSettings, JoinedSettings
from ...extract.weights.adapters import FrozenWeights, restore_encoder
from ..config import Config, settle
from ..run_folder import RunFolder, StageFolder
from ..stages.detect import load_any_detector
from ..stages.extract import RANDOM, fill_frozen, load_encoders, noted_weights, packaged_weights
from ..stages.operating import OperatingThresholds, read_thresholds


@dataclass(frozen=True)
class TrainedRun:
    """All that detects actions in a new video.

    Parameters
    ----------
    config
        The run's, with clips and encoder as the detector knows them.
    run
        Where the run's files lie.
    checkpoint, trained
        The detector.
    thresholds
        From which score on detections are reported; None where none were chosen.
    """

    config: Config
    run: RunFolder
    checkpoint: Path
    trained: Trained
    thresholds: OperatingThresholds | None

    @property
    def files(self) -> StageFolder:
        """The files of the stage that trained the detector."""
        return StageFolder(self.checkpoint.parent.parent)

    @property
    def has_labels(self) -> bool:
        """Whether its detections have labels: a file of scores tells nothing of new videos."""
        return self.trained.settings.labels.source != "scores"

    @cached_property
    def settings(self) -> DetectSettings:
        """The detector's sizes and rules, with what may change after training taken from the config."""
        own, config = self.trained.settings, self.config.detect
        labels = LabelSettings(source=own.labels.source, top=config.labels.top if self.has_labels else 1)
        changed: dict[str, Any] = {"inference": config.inference, "labels": labels, "sampling": config.sampling}
        return own.model_copy(update=changed | {"precision": config.precision, "kernels": config.kernels})

    @cached_property
    def classifier(self) -> VideoClassifier | None:
        """What labels the proposals; None where a class branch does, or nobody."""
        if self.settings.labels.source != "classifier":
            return None
        if not self.files.classifier.exists():
            raise EtadError(
                f"{self.files.classifier}: the video classifier that labels this detector's proposals is not there. "
                "Call the stage that trained the detector again, which trains it, or copy it there."
            )
        return load_classifier(self.files.classifier)

    @cached_property
    def digest(self) -> str:
        """Digest of all that makes detections from features."""
        classifier = self.classifier
        return values_digest(
            {
                "detector": tensors_digest(self.trained.state["model"]),
                "settings": self.settings.model_dump(mode="json", exclude={"training", "tious"}),
                "classifier": file_sha256(self.files.classifier) if classifier is not None else None,
            }
        )

    def encoders(self, named: Path | None = None) -> Encoders:
        """Build the encoder, or the joined ones, whose features the detector knows.

        Parameters
        ----------
        named
            File of the first one's weights, where that has been moved since.

        Raises
        ------
        EtadError
            The weights are not to be found, or those named are others.
        """
        state, name = self.trained.state, self.config.encoder.name
        if name not in ENCODERS:
            raise EtadError(
                f"{self.checkpoint}: was trained on features of encoder '{name}', which etad does not have, so it "
                "takes features and no videos. Give them to `etad.load(run).predict`; docs/python.md says how."
            )
        if "adapter" in state:
            return self._adapted(named)
        if "encoder" in state:
            tuned = state["encoder"]
            if named is not None:
                raise EtadError(
                    f"{self.checkpoint}: was trained end to end and holds its own encoder, so it takes no other "
                    "weights. Leave --weights out."
                )
            encoder = build_encoder(name, clip_frames=self.config.clips.clip_frames)
            encoder.freeze(4)
            with naming_contents(self.checkpoint):
                encoder.load_state_dict(tuned)
            return Encoders(name, encoder, f"tuned-{tensors_digest(tuned)}")
        if self.trained.state.get("released"):  # which weights it was trained on, its file does not tell
            return load_encoders(self.config, self.run, named)[0]
        expected, *others = str(self.trained.source.get("weights_sha256", "")).split(JOINT)
        if named is None and expected.startswith(RANDOM):
            seed = int(expected.removeprefix(RANDOM))
            settings = self.config.encoder.model_copy(update={"init": "random", "weights": None})
            config = self.config.model_copy(update={"seed": seed, "encoder": settings})
        else:
            path = self._weights(named, expected)
            config = self.config
            named = path
        config = config.model_copy(update={"encoder": config.encoder.model_copy(update={"also": self._also(others)})})
        encoders, _ = load_encoders(config, self.run, named)
        for further, its in zip(encoders.further, others, strict=True):
            if further.weights_sha256 != its:
                raise EtadError(
                    f"{self.checkpoint}: was trained on features of {further.name} with weights of sha256 {its}, those "
                    f"found have sha256 {further.weights_sha256}. Name that file in encoder.also."
                )
        return encoders

    def _also(self, expected: Sequence[str]) -> tuple[JoinedSettings, ...]:
        """The further encoders of the config, each with the file that has the expected digest, where there is one."""
        stated = self.trained.source.get("further_weights")
        noted = noted_weights(self.run)
        found = []
        for number, settings in enumerate(self.config.encoder.also):
            its = expected[number] if number < len(expected) else ""
            place = stated[number] if isinstance(stated, list) and number < len(stated) else None
            paths = [Path(path) for path in (settings.weights, place or None, noted.get(its)) if path is not None]
            same = next((path for path in paths if path.is_file() and file_sha256(path) == its), None)
            found.append(settings if same is None else settings.model_copy(update={"weights": same}))
        return tuple(found)

    def _adapted(self, named: Path | None) -> Encoders:
        """Build the encoder whose adapters the checkpoint holds, with the weights beside them."""
        state, name = self.trained.state, self.config.encoder.name
        with naming_contents(self.checkpoint):
            frozen = FrozenWeights.of(state)
        encoder = build_encoder(name, clip_frames=self.config.clips.clip_frames, adapter=state["adapter"]).freeze(4)
        fill_frozen(encoder, frozen, self.config, self.run, where=str(self.checkpoint), named=named)
        with naming_contents(self.checkpoint):
            restore_encoder(encoder, state)
        told = {"adapters": tensors_digest(state["encoder"]), "frozen": frozen.digest}
        return Encoders(name, encoder, f"tuned-{values_digest(told)}")

    def _weights(self, named: Path | None, expected: str) -> Path:
        """Find the file with a digest."""
        if named is not None:
            found = file_sha256(named) if named.is_file() else ""
            if found and found != expected:
                raise EtadError(
                    f"{named}: these encoder weights have sha256 {found}, but {self.checkpoint} was trained on "
                    f"features of weights with sha256 {expected}. Name that file, or train on features of these."
                )
            return named
        noted = [self.trained.source.get("weights") or None, noted_weights(self.run).get(expected)]
        places = [*noted, self.config.encoder.weights, self.run.encoder]
        tried = list(dict.fromkeys(Path(place) for place in places if place is not None))
        for path in tried:
            if path.is_file() and file_sha256(path) == expected:
                return path
        packaged = packaged_weights(self.config.encoder.name)
        if packaged is not None and file_sha256(packaged) == expected:
            return packaged
        where = f" (looked for in {', '.join(map(str, tried))})" if tried else ""
        raise EtadError(
            f"{self.checkpoint}: was trained on features of encoder weights with sha256 {expected}, which are not "
            f"where they were{where}. Name their file with --weights."
        )

    def detect(self, features: FeatureSource, video_id: str, *, device: torch.device) -> VideoDetections:
        """Detect actions in one video, in memory that its length does not fill; labels are -1 where there are none.

        Raises
        ------
        EtadError
            What comes out is not finite.
        """
        settings, classifier = self.settings, self.classifier
        video = Video(video_id, "", None, ())
        windows, _ = make_windows([video], features, settings=settings, classes=self.trained.classes, training=False)
        detector = self.trained.detector.to(device)
        detector.compute_with(precision=settings.heads_precision, kernels=settings.kernels)
        raw = infer(detector, windows, features, settings=settings, device=device)
        bar = progress_bar(f"predict: {video_id}", raw, unit="window", total=len(windows), shown=len(windows) > 1)
        source = None
        if settings.labels.source != "branch":
            scores = np.ones(1) if classifier is None else classifier.scores(features.read(video_id))
            source = lambda _: scores  # noqa: E731
        (found,) = detections(bar, settings=settings, video_scores=source)
        if not (np.isfinite(found.segments).all() and np.isfinite(found.scores).all()):
            raise EtadError(f"{self.checkpoint}: gives numbers that are not finite for this video. Train it again.")
        if self.has_labels:
            return found
        return VideoDetections(video_id, found.segments, np.full(len(found.labels), -1), found.scores)


def load_run(folder: Path, checkpoint: Path | None = None, config: Config | None = None) -> TrainedRun:
    """Load what a run has trained: the tuned encoder and detector where it was trained end to end.

    Parameters
    ----------
    folder
        The run folder.
    checkpoint
        Another detector; its own run folder says how to use it.
    config
        Instead of the run's own.

    Raises
    ------
    EtadError
        There is no trained detector, or its checkpoint does not fit what it states.
    """
    if checkpoint is None:
        checkpoint = _checkpoint_of(RunFolder(folder), config)
    else:
        own = run_of(checkpoint)
        folder = own.path if own.known_config() is not None else folder
    run = RunFolder(folder)
    config = config or config_of(run)
    trained = load_any_detector(checkpoint, config, None)
    name, *others = str(trained.source.get("encoder")).split(JOINT)
    also = tuple(each.name for each in config.encoder.also)
    if also != tuple(others):
        raise EtadError(
            f"{checkpoint}: was trained on features of {JOINT.join((name, *others))}, but encoder.also names "
            f"{', '.join(also) or 'none'}. Name those, in this order: encoder.also=[...], or leave -c out."
        )
    encoder = config.encoder if config.encoder.name == name else config.encoder.model_copy(update={"name": name})
    with naming_contents(checkpoint):
        released = trained.state.get("released")
        clips = config.clips if released else ClipSettings.model_validate(trained.source["clips"])
    thresholds = read_thresholds(StageFolder(checkpoint.parent.parent).thresholds)
    config = config.model_copy(update={"encoder": encoder, "clips": clips})
    return TrainedRun(config, run, checkpoint, trained, thresholds)


def config_of(run: RunFolder) -> Config:
    """What a run was done with; the defaults where it does not say."""
    known = run.known_config()
    return Config() if known is None else settle(known, where=str(run.path))


def run_of(checkpoint: Path) -> RunFolder:
    """The run folder that a checkpoint lies in."""
    return RunFolder(checkpoint.parent.parent.parent)


def _checkpoint_of(run: RunFolder, config: Config | None) -> Path:
    """The run's own detector: the one that was trained end to end, else the one on cached features."""
    known = config or config_of(run)
    names = dict.fromkeys((known.detect.inference.checkpoint, "last"))
    for stage in ("e2e", "detect"):
        for name in names:
            path = run.files(stage).checkpoint(name)
            # End-to-end training that has not come to its end has not written its encoder either.
            if path.exists() and (stage == "detect" or run.files(stage).encoder.exists()):
                return path
    if not run.path.is_dir():
        raise EtadError(f"{run.path}: there is no run folder here. Name the one that was trained in with -o.")
    raise EtadError(
        f"{run.path}: has no trained detector. Train one with `etad train`, `etad detect` or `etad e2e`, or name a "
        "checkpoint with --checkpoint."
    )
