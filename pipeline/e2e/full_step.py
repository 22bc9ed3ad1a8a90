"""Ordinary back-propagation through every snippet, to compare gradient sampling with (Table 7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...extract.encoders.encoder import Encoder
from .sgs import LossOf, SgsStep


def full_step(
    encoder: Encoder,
    videos: Sequence[Tensor],
    loss_of: LossOf,
    *,
    recompute: bool,
    autocast: torch.dtype | None = None,
) -> SgsStep:
    """Add to the gradients of detector and encoder what one batch of videos gives, through one graph.

    Parameters
    ----------
    videos
        uint8 (T, L, H, W, 3) each, augmented already; T may differ.
    recompute
        Keep what goes into each stage alone, and compute the rest again in the backward pass.
    autocast
        dtype in which the encoder computes.
    """
    frames = torch.cat([video.to(encoder.mean.device) for video in videos])
    split, last = encoder.frozen_stages + 1, len(encoder.stages)
    device = frames.device.type
    x = encoder.normalise(frames)
    with torch.autocast(device, dtype=autocast, enabled=autocast is not None):
        with torch.no_grad():
            x = encoder.run_stages(x, 0, split)
        for number in range(split, last):
            if recompute:
                x = checkpoint(encoder.run_stages, x, number, number + 1, use_reentrant=False)
            else:
                x = encoder.run_stages(x, number, number + 1)
    features = encoder.pool(x.to(encoder.mean.dtype))
    of_videos = features.split([len(video) for video in videos])
    loss = loss_of(of_videos)
    loss.backward()
    everything = tuple(torch.arange(len(video)) for video in videos)
    return SgsStep(loss.detach(), tuple(part.detach() for part in of_videos), everything, kept_bytes=0)
