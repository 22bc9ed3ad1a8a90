"""Clips through an encoder on any device, while the next ones are decoded and fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.timeline import Timeline
from .clips import ClipBatch, Failure, Reading
from .encoders.encoder import Encoder

# Batches that a GPU may have before it: enough never to wait, few enough for its memory.
_LAUNCHED_AHEAD = 2
# A further encoder, and the frames of a clip that it sees; None: all.
FurtherPart = tuple[Encoder, list[int] | None]


@dataclass(frozen=True, kw_only=True)
class EncodedVideo:
    """One video's features.

    Parameters
    ----------
    features
        float32 (T, C).
    reading
        What was noticed while it was read.
    """

    video_id: str
    path: Path
    features: np.ndarray
    timeline: Timeline
    reading: Reading


def encode_clips(encoder: Encoder, clips: Tensor, dtype: torch.dtype) -> Tensor:
    """Encode clips, uint8 (N, L, H, W, 3) on the encoder's device, as float32 (N, C); the last mean is in float32."""
    short = dtype != torch.float32
    with torch.autocast(clips.device.type, dtype=dtype if short else None, enabled=short):
        last_map = encoder.run_stages(encoder.normalise(clips), 0, len(encoder.stages))
    return encoder.pool(last_map.float())


def _encode_batch(
    encoder: Encoder, further: Sequence[FurtherPart], batch: ClipBatch, device: torch.device, dtype: torch.dtype
) -> Tensor:
    features = [_encode_alone(encoder, batch.clips, device, dtype)]
    for (other, frames), clips in zip(further, batch.further, strict=True):
        seen = clips if frames is None else clips[:, frames]
        features.append(_encode_alone(other, seen, device, dtype))
    return features[0] if len(features) == 1 else torch.cat(features, dim=1)


@torch.inference_mode()
def _encode_alone(encoder: Encoder, clips: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    frames = torch.from_numpy(clips)
    if device.type == "cuda":
        frames = frames.pin_memory()
    return encode_clips(encoder, frames.to(device, non_blocking=True), dtype)


def encode_batches(
    encoder: Encoder,
    items: Iterable[ClipBatch | Failure],
    *,
    device: torch.device,
    dtype: torch.dtype,
    further: Sequence[FurtherPart] = (),
    report: Callable[[float], None] = lambda share: None,
) -> Iterator[EncodedVideo | Failure]:
    """Encode the batches of one video after the other; failures pass through, in their place.

    A GPU is never waited for while it has work: a video's features are fetched when the next one's batch is launched.

    Parameters
    ----------
    encoder
        On `device`, in evaluation mode.
    items
        As `clip_batches` yields them.
    dtype
        dtype of the encoder's layers; features are float32.
    further
        Encoders of the items' further clips, whose channels follow, and which frames of a clip each one sees.
    report
        Called after each batch with the share of its video, 0..1, that is encoded.
    """
    # A video's features are filled in: joined from their parts, they would take twice their memory.
    whole: Tensor | None = None
    lost: frozenset[int] = frozenset()
    launched: deque[torch.cuda.Event] = deque()
    finished: tuple[ClipBatch, Tensor, Reading] | None = None
    for item in items:
        if isinstance(item, Failure):
            whole, lost = None, frozenset()
            if finished is not None:
                yield _fetch(*finished)
                finished = None
            yield item
            continue
        found = _encode_batch(encoder, further, item, device, dtype)
        if whole is None:
            whole = found.new_empty(item.timeline.num_snippets, found.shape[1])
        whole[item.first_snippet : item.first_snippet + len(found)] = found
        lost |= item.reading.lost_ticks
        report((item.first_snippet + len(item.clips)) / item.timeline.num_snippets)
        if finished is not None:
            yield _fetch(*finished)
            finished = None
        if device.type == "cuda":
            launched.append(torch.cuda.Event())
            launched[-1].record()
            if len(launched) > _LAUNCHED_AHEAD:
                launched.popleft().synchronize()
        if item.is_last:
            finished = (item, whole, replace(item.reading, lost_ticks=lost))
            whole, lost = None, frozenset()
            if device.type != "cuda":
                yield _fetch(*finished)
                finished = None
    if finished is not None:
        yield _fetch(*finished)


def _fetch(last: ClipBatch, features: Tensor, reading: Reading) -> EncodedVideo:
    return EncodedVideo(
        video_id=last.video_id,
        path=last.path,
        features=features.cpu().numpy(),
        timeline=last.timeline,
        reading=reading,
    )
