"""Proposals in blocks, and which thread evaluates which."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .threads import even_parts

# Proposals of a block. More of them no longer make the products faster, and fall out of the cache.
BLOCK = 1024


@dataclass(frozen=True)
class ProposalBlock:
    """Consecutive proposals of one video.

    Parameters
    ----------
    video
        Number of the video in the batch.
    key
        Blocks of one key look at the same proposals: videos may share them.
    proposals
        (k, 2) what they look at, in snippets.
    """

    video: int
    key: int
    proposals: Tensor


def blocks_of(proposals: Tensor, num_videos: int) -> list[ProposalBlock]:
    """Cut proposals into blocks that the processor's threads can share evenly.

    Parameters
    ----------
    proposals
        (K, 2) in snippets, which all videos share, or (B, K, 2), each video's own.
    num_videos
        B.
    """
    num_proposals = proposals.shape[-2]
    per_video = -(-num_proposals // BLOCK)
    if per_video > 1 and proposals.device.type == "cpu":
        threads = torch.get_num_threads()
        per_video = -(-per_video // threads) * threads
    size = -(-num_proposals // per_video)
    if proposals.dim() == 2:
        parts = proposals.split(size)
        return [ProposalBlock(video, key, part) for video in range(num_videos) for key, part in enumerate(parts)]
    assert len(proposals) == num_videos, (proposals.shape, num_videos)
    owned = ((video, part) for video, own in enumerate(proposals) for part in own.split(size))
    return [ProposalBlock(video, key, part) for key, (video, part) in enumerate(owned)]


def shares(blocks: Sequence[ProposalBlock], device: torch.device) -> tuple[list[list[int]], list[int]]:
    """Share blocks among threads.

    Parameters
    ----------
    blocks
        Of all videos, in order; every video has as many.

    Returns
    -------
    parts, shared
        Numbers of each thread's blocks: as many whole videos as every thread can have, then every n-th block of the
        videos that are left over, as proposals get longer from one to the next. And these videos.
    """
    num_parts, num_videos = len(even_parts(len(blocks), device)), blocks[-1].video + 1
    whole = num_videos // num_parts * num_parts
    first_shared = len(blocks) // num_videos * whole
    size = first_shared // num_parts
    parts = [
        [*range(part * size, (part + 1) * size), *range(first_shared + part, len(blocks), num_parts)]
        for part in range(num_parts)
    ]
    return parts, list(range(whole, num_videos))


def starts_of(blocks: Sequence[ProposalBlock]) -> list[int]:
    """Where each block's proposals begin, and the end."""
    return list(itertools.accumulate((len(block.proposals) for block in blocks), initial=0))
