"""The Python API: what `import etad` offers, in terms of the stages."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...data.annotations import Annotations, read_annotations
from ...data.cache.cache import FeatureCache
from ...data.cache.item import check_finite
from ...data.cache.parts import storable
from ...data.cache.source import FeatureSource, MemoryFeatures
from ...data.detections import Detections, read_detections
from ...data.errors import EtadError, listing
from ...data.precision import choose_dtype
from ...data.timeline import Timing
from ...detect.results.alignment import Duplicates
from ...detect.results.postprocess import VideoDetections
from ...extract.clips import ClipPlan, Failure
from ...extract.joined import Encoders
from ...extract.run import ExtractReport, flaws_of
from ..config import Config, load_config
from ..device import choose_device, threads_for
from ..run_folder import RunFolder
from ..stages.evaluate import Evaluation
from ..stages.evaluate import evaluate as measure
from ..stages.extract import extract_with_all, load_encoders
from .trained import TrainedRun, load_run
from .videos import find_inputs

_SUBSET = "evaluated"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detection:
    """An action that was detected.

    Parameters
    ----------
    start_seconds, end_seconds
        Where it lies in its video.
    label
        Its class; None where the run's labels come from a file of scores, which tells nothing of new videos.
    score
        How likely it is, of those of one class and run; no probability.
    """

    start_seconds: float
    end_seconds: float
    label: str | None
    score: float


class Predictor:
    """What a run has trained, ready to detect actions in new videos; `etad.load` makes it.

    Parameters
    ----------
    trained
        What the run has trained.
    weights
        The encoder's, where they have been moved.
    device
        `auto`, `cpu`, `cuda` or `cuda:N`; none: as the run's config says.
    """

    def __init__(self, trained: TrainedRun, *, weights: Path | None = None, device: str | None = None) -> None:
        self._trained, self._weights = trained, weights
        self._device = choose_device(device or trained.config.device)
        self._encoders: Encoders | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that it knows."""
        return self._trained.trained.classes

    @property
    def channels(self) -> int:
        """Channels of the features that it takes."""
        return int(self._trained.trained.state["in_channels"])

    @property
    def thresholds(self) -> dict[str, float]:
        """Least score of a detection of each class, chosen on held-out videos; 0 where none were chosen."""
        chosen = self._trained.thresholds
        return {label: 0.0 if chosen is None else chosen.of(label) for label in self.classes}

    def predict(
        self,
        video: str | Path | np.ndarray,
        *,
        fps: float | None = None,
        stride: float | None = None,
        clip_frames: int | None = None,
        first_center_seconds: float | None = None,
        duration_seconds: float | None = None,
        threshold: float | None = None,
    ) -> list[Detection]:
        """Detect actions in a video file, or in features of one; the log warns of frames that cannot be decoded.

        Parameters
        ----------
        video
            A file, or features [T, C] of the run's encoder.
        fps, stride
            Of features: frames per second, and frames from one snippet to the next.
        clip_frames
            Of features: frames of a snippet; none: as many as the run's have.
        first_center_seconds
            Of features: the middle of the first snippet; none: half a snippet from the start.
        duration_seconds
            Of features: how long the video is; none: to the end of its last snippet.
        threshold
            Least score; none: the run's own thresholds, by class. 0 gives every detection.

        Returns
        -------
        list
            By falling score.

        Raises
        ------
        EtadError
            The file is no video that can be read, or the features are not of the run's kind.
        """
        if isinstance(video, np.ndarray):
            source = self._features(video, fps, stride, clip_frames, first_center_seconds, duration_seconds)
        else:
            given = (fps, stride, clip_frames, first_center_seconds, duration_seconds)
            if any(value is not None for value in given):
                raise EtadError(
                    "fps, stride and the like describe features; a video file states its own. Leave them out."
                )
            source = self._encode(Path(video))
        found = self._trained.detect(source, source.ids[0], device=self._device)
        return self._reported(found, threshold)

    def _encode(self, path: Path) -> FeatureSource:
        if not path.is_file():
            raise EtadError(f"{path}: there is no such file. Check the path.")
        if self._encoders is None:
            self._encoders = self._trained.encoders(self._weights)
        config = self._trained.config
        encoded = self._encoders.encode(
            {path.stem: path},
            ClipPlan(**config.clips.model_dump()),
            batch_clips=config.extract.batch_clips,
            workers=config.workers,
            device=self._device,
            dtype=choose_dtype(config.encoder.precision, self._device),
        )
        with threads_for(self._encoders.first), contextlib.closing(encoded):
            (video,) = encoded
        if isinstance(video, Failure):
            raise EtadError(video.reason)
        for flaw in flaws_of(video, None):
            _logger.warning("%s", flaw.reason)
        try:
            # As a cache would give them back, so that the command detects the very same.
            features = storable(video.features, config.extract.store_dtype).astype(np.float32)
        except EtadError as error:
            raise EtadError(f"{path}: {error}") from error
        timing = Timing.of(video.timeline)
        return MemoryFeatures(path, features.shape[1], "", {path.stem: features}, {path.stem: timing})

    def _features(
        self,
        array: np.ndarray,
        fps: float | None,
        stride: float | None,
        clip_frames: int | None,
        first_center_seconds: float | None,
        duration_seconds: float | None,
    ) -> FeatureSource:
        """Features with the times of their snippets."""
        expected = self.channels
        if array.ndim != 2 or array.shape[1] != expected or not len(array):
            turned = array.ndim == 2 and array.shape[0] == expected
            hint = " Transpose them." if turned else " Extract them with the encoder that the run was trained with."
            raise EtadError(
                f"features have shape {list(array.shape)}, expected [snippets, {expected}], channels last.{hint}"
            )
        if fps is None or stride is None:
            raise EtadError("features say nothing of time: give fps (frames per second) and stride (frames a snippet).")
        features = np.ascontiguousarray(array, dtype=np.float32)
        try:
            check_finite(features)
        except EtadError as error:
            raise EtadError(f"features: {error}. Leave such snippets out, or compute them again.") from error
        if not (np.isfinite([fps, stride]).all() and min(fps, stride) > 0):
            raise EtadError(f"fps={fps:g}, stride={stride:g}: expected finite numbers above 0.")
        clips, known = self._trained.config.clips, self._trained.trained.source
        clip_frames = clip_frames or int(known.get("clip_frames", clips.clip_frames))
        frame_step = int(known.get("frame_step", clips.frame_step))
        clip_seconds = clip_frames * frame_step / fps
        first = clip_seconds / 2 if first_center_seconds is None else first_center_seconds
        step = stride / fps
        last = first + step * (len(features) - 1)
        duration = last + clip_seconds / 2 if duration_seconds is None else duration_seconds
        if not np.isfinite([first, duration]).all() or min(clip_seconds, duration) <= 0:
            raise EtadError(
                f"first_center_seconds={first:g}, duration_seconds={duration:g}, snippets of {clip_seconds:g} s: "
                "expected finite numbers, and lengths above 0."
            )
        if last > duration + clip_seconds:
            raise EtadError(
                f"the last of {len(features)} snippets stands at {last:.1f} s, but the video lasts {duration:.1f} s. "
                "Check fps, stride and duration_seconds."
            )
        timing = Timing(
            duration_seconds=duration,
            fps=fps,
            num_frames=max(1, round(duration * fps)),
            clip_frames=clip_frames,
            frame_step=frame_step,
            first_center_seconds=first,
            center_step_seconds=step,
        )
        return MemoryFeatures(Path("features"), expected, "", {"features": features}, {"features": timing})

    def _reported(self, found: VideoDetections, threshold: float | None) -> list[Detection]:
        chosen, reported = self._trained.thresholds, []
        for (start, end), code, score in zip(found.segments.tolist(), found.labels.tolist(), found.scores.tolist()):
            label = self.classes[code] if code >= 0 else None
            least = threshold
            if least is None:
                least = 0.0 if chosen is None else chosen.of(label) if label is not None else chosen.overall
            if score >= least:
                reported.append(Detection(start, end, label, score))
        return reported


def load(
    run: str | Path,
    *,
    checkpoint: str | Path | None = None,
    weights: str | Path | None = None,
    device: str | None = None,
) -> Predictor:
    """Load what a run has trained.

    Parameters
    ----------
    run
        Run folder of `etad detect` or `etad e2e`.
    checkpoint
        Another detector than the run's own.
    weights
        The encoder's weights, where they have been moved since training.
    device
        `auto`, `cpu`, `cuda` or `cuda:N`; none: as the run's config says.

    Raises
    ------
    EtadError
        There is no trained detector.
    """
    loaded = load_run(Path(run), None if checkpoint is None else Path(checkpoint))
    _ = loaded.digest  # complains of what is missing
    for note in loaded.trained.training_notes(loaded.checkpoint):
        _logger.warning("%s", note)
    return Predictor(loaded, weights=None if weights is None else Path(weights), device=device)


def extract_features(
    videos: str | Path | Sequence[str | Path],
    cache: str | Path,
    *,
    config: str | Path | Config | None = None,
    sets: Sequence[str] = (),
    weights: str | Path | None = None,
    device: str | None = None,
) -> ExtractReport:
    """Run a video encoder over videos into a feature cache; what the cache has already is left as it is.

    Parameters
    ----------
    videos
        Files, folders and patterns.
    cache
        The HDF5 file to make or extend.
    config
        Preset or TOML file; none: the defaults.
    sets
        Settings that differ from it, such as `clips.stride_frames=8`.
    weights
        Of the encoder; none: as the config says.
    device
        `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns
    -------
    ExtractReport
        Which videos are done, which were there, which failed and why.
    """
    words = [videos] if isinstance(videos, (str, Path)) else list(videos)
    files, _ = find_inputs(words)
    if not isinstance(config, Config):
        config = load_config(None if config is None else str(config), sets, device=device)
    cache = Path(cache)
    encoders, _ = load_encoders(config, RunFolder(cache.parent), None if weights is None else Path(weights))
    with threads_for(encoders.first):
        return extract_with_all(
            encoders,
            config=config,
            files=files,
            cache=cache,
            shard=None,
            device=choose_device(config.device),
        )


def evaluate(
    annotations: str | Path | Annotations,
    detections: str | Path | Detections | Mapping[str, Sequence[Detection]],
    *,
    subset: str | None = None,
    tious: Sequence[float] = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
    duplicates: Duplicates = "kept",
) -> Evaluation:
    """Measure detections: mAP and AR@AN, as `etad evaluate` does.

    Parameters
    ----------
    annotations
        A file in ActivityNet's form, or one that was read.
    detections
        A results file, one that was read, or lists of detections by video id.
    subset
        Which videos count; none: those that have detections.
    tious
        Thresholds.
    duplicates
        Whether actions that are annotated twice count twice.

    Raises
    ------
    EtadError
        There is nothing to compare.
    """
    read = annotations if isinstance(annotations, Annotations) else read_annotations(Path(annotations))
    source = "detections"
    if isinstance(detections, (str, Path)):
        source, found = str(detections), read_detections(detections)
    elif isinstance(detections, Detections):
        found = detections
    else:
        found = _joined(detections)
    if subset is None:
        known = [video for video in read.videos.values() if video.id in found.video_ids]
        if not known:
            raise EtadError(
                f"{read.source}: has none of the videos of the detections ({listing(found.video_ids, 3)}). Give the "
                "videos the ids that they have there, or name a subset."
            )
        videos = {video.id: replace(video, subset=_SUBSET) for video in known}
        read = replace(read, videos=videos, known_labels=read.known_labels | set(read.labels))
    return measure(read, subset or _SUBSET, found, tious=tious, source=source, duplicates=duplicates)


def _joined(lists: Mapping[str, Sequence[Detection]]) -> Detections:
    labels = sorted({each.label for found in lists.values() for each in found if each.label is not None})
    codes: dict[str | None, int] = {None: -1} | {label: code for code, label in enumerate(labels)}
    videos = [
        (
            id,
            np.array([[each.start_seconds, each.end_seconds] for each in found]).reshape(-1, 2),
            np.array([codes[each.label] for each in found], dtype=np.int64),
            np.array([each.score for each in found]),
        )
        for id, found in lists.items()
    ]
    return Detections.join(videos, labels=labels)


__all__ = ["Detection", "Evaluation", "FeatureCache", "Predictor", "evaluate", "extract_features", "load"]
