"""What training on own videos will take: snippets, steps, time and disk, from the data and from costs measured here."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ...data.annotations import Annotations, Video
from ...data.cache.cache import FeatureCache
from ...data.cache.source import Snippets
from ...data.checkpoint import load_checkpoint
from ...data.errors import EtadError, counted
from ...data.precision import choose_dtype
from ...data.timeline import Timing, spread, strided
from ...data.video.video import open_video, probe
from ...detect.loop import build_optimizer
from ...detect.model.build import build_detector
from ...detect.objective import build_objective
from ...detect.windows import Window, make_windows, training_classes
from ...extract.encode import encode_clips
from ...extract.joined import Encoders
from ...extract.settings import ClipSettings
from ..config import Config
from ..run_folder import RunFolder
from .extract import Sources
from .infer import require_windows

# Frames that are decoded, and clips that are encoded, to see how long one takes.
_FRAMES, _CLIPS = 64, 4
# Weights of a checkpoint and the optimiser's two moments of each; the last checkpoint and the best one.
_NUMBERS_A_WEIGHT, _CHECKPOINTS, _BYTES = 3, 2, 4
# Inference and classifier beside the training, as a share of it.
_AND_MORE = 1.15


@dataclass(frozen=True)
class TrainPlan:
    """What is to be done, and what it will take.

    Parameters
    ----------
    videos, snippets, extract_seconds
        To extract: those that are in the cache already do not count.
    windows, steps, train_seconds
        To train: steps that are done already do not count.
    bytes, free_bytes
        What will be written, and the room there is.
    """

    videos: int
    snippets: int
    extract_seconds: float
    windows: int
    steps: int
    train_seconds: float
    bytes: int
    free_bytes: int

    def lines(self) -> list[str]:
        """One line a part."""
        lines = []
        if self.videos:
            lines.append(
                f"extract: {counted(self.snippets, 'snippet')} of {counted(self.videos, 'video')}, "
                f"about {duration_text(self.extract_seconds)}"
            )
        else:
            lines.append("extract: every video's features are there")
        if self.steps:
            lines.append(
                f"train: {counted(self.steps, 'step')} on {counted(self.windows, 'window')}, "
                f"about {duration_text(self.train_seconds)}"
            )
        else:
            lines.append("train: every epoch is done; --epochs N trains on")
        lines.append(f"disk: about {self.bytes / 2**20:.0f} MiB of {self.free_bytes / 2**30:.1f} GiB that are free")
        return lines


def plan_training(
    config: Config,
    run: RunFolder,
    *,
    encoders: Encoders,
    sources: Sources,
    annotations: Annotations,
    done: tuple[int, int],
    device: torch.device,
) -> TrainPlan:
    """Plan, from the annotations, what the files say and a few clips and one step that are timed here.

    Parameters
    ----------
    encoders
        With their weights.
    done
        Epochs, and steps of the next one, of a training that is gone on with.

    Raises
    ------
    EtadError
        No training window will be left.
    """
    there = set(FeatureCache(run.cache).ids) if run.cache.exists() else set()
    timings, lengths = snippets_of(config.clips, annotations, sources)
    missing = [id for id in timings if id not in there]
    windows = _windows(config, annotations, timings, lengths, run)
    training = config.detect.training
    epoch_steps = max(len(windows) // training.batch, 1)
    steps = max(0, epoch_steps * (training.epochs - done[0]) - done[1])
    num_snippets = sum(lengths[id] for id in missing)
    classes = training_classes(annotations, config.data.train_subset)
    step_seconds, num_weights = time_step(config, windows, channels=encoders.channels, classes=classes, device=device)
    clip_seconds = time_clip(config, encoders, device) if missing else 0.0
    decode_seconds = (1 + len(encoders.further)) * _decode_seconds(
        config.clips, {id: sources.files[id] for id in missing}, timings
    )
    item = np.dtype(config.extract.store_dtype).itemsize
    return TrainPlan(
        videos=len(missing),
        snippets=num_snippets,
        extract_seconds=num_snippets * clip_seconds + decode_seconds,
        windows=len(windows),
        steps=steps,
        train_seconds=steps * step_seconds * _AND_MORE,
        bytes=num_snippets * encoders.channels * item + num_weights * _NUMBERS_A_WEIGHT * _CHECKPOINTS * _BYTES,
        free_bytes=shutil.disk_usage(_existing(run.path)).free,
    )


def snippets_of(
    clips: ClipSettings, annotations: Annotations, sources: Sources
) -> tuple[dict[str, Timing], dict[str, int]]:
    """How the snippets of each annotated video will stand, and how many; what cannot be opened is left out."""
    timings: dict[str, Timing] = {}
    lengths: dict[str, int] = {}
    for id, path in sources.files.items():
        video = annotations.videos.get(id)
        if video is None:
            continue
        seconds, fps = video.duration_seconds, clips.fps
        if seconds is None or fps is None:
            try:
                info = probe(path)
            except EtadError:  # extraction will say so
                continue
            seconds, fps = info.duration_seconds, fps or info.fps
        if clips.layout == "spread":
            timeline = spread(
                duration_seconds=seconds,
                fps=fps,
                clip_frames=clips.clip_frames,
                frame_step=clips.frame_step,
                num_snippets=clips.num_snippets,
            )
        else:
            timeline = strided(
                duration_seconds=seconds,
                fps=fps,
                clip_frames=clips.clip_frames,
                frame_step=clips.frame_step,
                stride_frames=clips.stride_frames,
            )
        timings[id], lengths[id] = Timing.of(timeline), len(timeline.start_frames)
    return timings, lengths


def time_clip(config: Config, encoders: Encoders, device: torch.device) -> float:
    """Seconds that one clip takes the encoders here."""
    dtype, seconds = choose_dtype(config.encoder.precision, device), 0.0
    length = config.clips.clip_frames
    seen = [(encoders.first, config.clips.crop, length)]
    seen += [(each.encoder, each.crop, min(each.frames or length, length)) for each in encoders.further]
    for encoder, crop, count in seen:
        width, height = (crop, crop) if isinstance(crop, int) else crop
        frames = torch.zeros(_CLIPS, count, height, width, 3, dtype=torch.uint8, device=device)
        encode = partial(encode_clips, encoder.to(device).eval(), frames, dtype)
        with torch.inference_mode():
            seconds += least_seconds(encode) / _CLIPS
    return seconds


def time_step(
    config: Config, windows: Sequence[Window], *, channels: int, classes: Sequence[str], device: torch.device
) -> tuple[float, int]:
    """Seconds that one training step takes here, on features of noise; and the detector's number of weights."""
    settings = config.detect.model_copy(update={"in_channels": channels})
    detector = build_detector(settings, in_channels=channels, num_classes=len(classes), seed=0).to(device)
    objective = build_objective(settings)
    optimizer = build_optimizer(
        [{"params": list(detector.parameters()), "lr": 1e-9}], kind=settings.training.optimizer, weight_decay=0.0
    )
    batch = list(windows[: settings.training.batch])
    features = torch.randn(len(batch), channels, settings.num_snippets, device=device)

    def step() -> None:
        generator = torch.Generator().manual_seed(0)
        optimizer.zero_grad(set_to_none=True)
        objective(detector, batch, features, None, generator=generator, training=True)["loss"].backward()
        optimizer.step()

    seconds = least_seconds(step)
    return seconds, sum(weights.numel() for weights in detector.parameters())


def duration_text(seconds: float) -> str:
    """Word a time roughly.

    Examples
    --------
    >>> duration_text(3.2), duration_text(100), duration_text(5400)
    ('5 s', '2 min', '1.5 h')
    """
    if seconds < 55:
        return f"{max(5, round(seconds / 5) * 5)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _windows(
    config: Config, annotations: Annotations, timings: Mapping[str, Timing], lengths: Mapping[str, int], run: RunFolder
) -> list[Window]:
    learned = [video for video in annotations.subset(config.data.train_subset) if video.id in timings]
    classes = training_classes(annotations, config.data.train_subset)
    planned = Snippets(config.data.videos or run.path, timings, lengths)
    windows, report = make_windows(
        [_measured(video, timings) for video in learned],
        planned,
        settings=config.detect,
        classes=classes,
        training=True,
    )
    require_windows(windows, report, config.data.train_subset)
    return windows


def _measured(video: Video, timings: Mapping[str, Timing]) -> Video:
    return replace(video, duration_seconds=timings[video.id].duration_seconds)


def _decode_seconds(clips: ClipSettings, files: Mapping[str, Path], timings: Mapping[str, Timing]) -> float:
    """Seconds that decoding takes for all of some videos, by what the first frames of one take."""
    for id, path in files.items():
        times = np.arange(_FRAMES) / timings[id].fps
        times = times[times < timings[id].duration_seconds]
        started = time.monotonic()
        try:
            with open_video(path) as video:
                for _ in video.read(times, resize=clips.resize):
                    pass
        except EtadError:
            continue
        share = len(times) / timings[id].fps
        return (time.monotonic() - started) / max(share, 1e-3) * sum(timings[id].duration_seconds for id in files)
    return 0.0


def steps_done(last: Path) -> tuple[int, int]:
    """Epochs that lie behind a training, by its last checkpoint, and steps of the next one."""
    if not last.exists():
        return 0, 0
    position = load_checkpoint(last).get("position")
    epoch, step = (position.get(name) if isinstance(position, dict) else None for name in ("epoch", "step"))
    return (epoch, step) if isinstance(epoch, int) and isinstance(step, int) else (0, 0)


def least_seconds(work: Callable[[], object], times: int = 2) -> float:
    """The least of the seconds that something takes: the first time, memory is made ready."""
    taken = []
    for _ in range(times):
        started = time.monotonic()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.monotonic() - started)
    return min(taken)


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.absolute().parents) if each.exists())
