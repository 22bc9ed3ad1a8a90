"""Features of a tuned encoder that never leave memory, and the detector's loss on them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ...data.annotations import Video
from ...data.cache.source import FeatureSource, MemoryFeatures
from ...data.timeline import Timing
from ...detect.loading import Batches
from ...detect.model.detector import Detector
from ...detect.objective import Objective
from ...detect.run_state import place_generator
from ...detect.settings import DetectSettings
from ...detect.windows import make_windows
from ...extract.clips import ClipPlan, Failure, clip_batches
from ...extract.encode import encode_batches
from ...extract.encoders.encoder import Encoder


def encode_in_memory(
    files: Mapping[str, Path],
    plan: ClipPlan,
    *,
    encoder: Encoder,
    dtype: torch.dtype,
    batch_clips: int,
    workers: int,
    folder: Path,
    device: torch.device,
    title: str,
) -> tuple[MemoryFeatures, list[Failure]]:
    """Encode videos as extraction does, and keep their features; videos that fail are left out and returned."""
    features, timings, failed = {}, {}, []
    was_training = encoder.training
    encoder.eval()
    decoded = clip_batches(files, plan, batch_clips=batch_clips, workers=workers)
    with contextlib.closing(decoded), tqdm(total=len(files), unit="video", desc=title, file=sys.stderr) as bar:
        for item in encode_batches(encoder, decoded, device=device, dtype=dtype):
            if isinstance(item, Failure):
                failed.append(item)
            else:
                features[item.video_id], timings[item.video_id] = item.features, Timing.of(item.timeline)
            bar.update()
    encoder.train(was_training)
    digest = features_digest(files, plan, encoder=encoder, dtype=dtype)
    return MemoryFeatures(folder, encoder.channels, digest, features, timings), failed


def features_digest(files: Mapping[str, Path], plan: ClipPlan, *, encoder: Encoder, dtype: torch.dtype) -> str:
    """Name features before they are computed: by the encoder's weights, what is done to frames, and the files."""
    total = hashlib.sha256(f"{json.dumps(plan.describe(), sort_keys=True)} {dtype}".encode())
    for name, tensor in encoder.state_dict().items():
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    for id, path in files.items():
        found = path.stat() if path.exists() else None
        total.update(repr((id, found and (found.st_size, found.st_mtime_ns))).encode())
    return total.hexdigest()


@torch.no_grad()
def mean_loss(
    detector: Detector,
    videos: Sequence[Video],
    features: FeatureSource,
    *,
    settings: DetectSettings,
    classes: Sequence[str],
    objective: Objective,
    device: torch.device,
    seed: int,
) -> float | None:
    """Mean loss over all windows of some videos, on the grid's proposals (SPEC section 4); none without windows."""
    windows, _ = make_windows(videos, features, settings=settings, classes=classes, training=False)
    if not windows:
        return None
    detector.eval()
    batch = settings.training.batch
    order = [list(range(i, min(i + batch, len(windows)))) for i in range(0, len(windows), batch)]
    batches = Batches(windows, features, settings=settings, workers=0, memory_gib=0.0)
    total = 0.0
    for number, (values, mask) in enumerate(batches.of(order)):
        parts = objective(
            detector,
            [windows[i] for i in order[number]],
            values.to(device),
            None if mask is None else mask.to(device),
            generator=place_generator(seed, 2, number),
            training=False,
        )
        total += parts["loss"].item() * len(order[number])
    return total / len(windows)
