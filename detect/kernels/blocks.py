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
class Block:
    """Consecutive proposals of one video.

    Parameters
    ----------
    video
        Number of the video in the batch.
    proposals
        (k, 2) what they look at, in snippets.
    """

    video: int
    proposals: Tensor


def blocks_of(proposals: Tensor) -> list[Block]:
    """Cut proposals, (B, K, 2) in snippets, into blocks that the processor's threads can share evenly."""
    num_proposals = proposals.shape[1]
    per_video = -(-num_proposals // BLOCK)
    if per_video > 1 and proposals.device.type == "cpu":
        threads = torch.get_num_threads()
        per_video = -(-per_video // threads) * threads
    size = -(-num_proposals // per_video)
    return [Block(number, part) for number, video in enumerate(proposals) for part in video.split(size)]


def shares(blocks: Sequence[Block], device: torch.device) -> tuple[list[list[int]], list[int]]:
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


def starts_of(blocks: Sequence[Block]) -> list[int]:
    """Where each block's proposals begin, and the end."""
    return list(itertools.accumulate((len(block.proposals) for block in blocks), initial=0))
