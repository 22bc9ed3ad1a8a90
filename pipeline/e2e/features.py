"""Features of a tuned encoder that never leave memory, and the detector's loss on them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import torch

from ...data.cache.source import MemoryFeatures
from ...data.digest import digest_of, tensor_chunks
from ...data.progress import progress_bar
from ...data.timeline import Timing
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
    with contextlib.closing(decoded), progress_bar(title, unit="video", total=len(files)) as bar:
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
    frames = f"{json.dumps(plan.describe(), sort_keys=True)} {dtype}"
    stats = ((id, path.stat() if path.exists() else None) for id, path in files.items())
    sources = (repr((id, found and (found.st_size, found.st_mtime_ns))).encode() for id, found in stats)
    return digest_of(chain([frames.encode()], tensor_chunks(encoder.state_dict()), sources))
