"""Candidate proposals: every start and duration on the snippet lattice."""

from __future__ import annotations

import torch
from torch import Tensor


def lattice(num_snippets: int, max_duration: int) -> Tensor:
    """List every (start i, duration d) with i + d <= T, 1 <= d <= D, duration outer, start inner (method, section 2).

    Returns
    -------
    Tensor
        (K, 2) integers.

    Examples
    --------
    >>> lattice(3, 2).tolist()
    [[0, 1], [1, 1], [2, 1], [0, 2], [1, 2]]
    >>> len(lattice(128, 128))
    8256
    """
    durations = torch.arange(1, max_duration + 1)
    starts = torch.arange(num_snippets)
    pairs = torch.stack(torch.meshgrid(durations, starts, indexing="ij"), dim=-1).view(-1, 2).flip(-1)
    return pairs[pairs.sum(dim=1) <= num_snippets]


def boundaries(cells: Tensor, num_snippets: int) -> Tensor:
    """Turn lattice cells into proposals.

    Parameters
    ----------
    cells
        (..., 2) start and duration in snippets.

    Returns
    -------
    Tensor
        (..., 2) start and end as fractions of the window, float32.

    Examples
    --------
    >>> boundaries(torch.tensor([[1, 2]]), 4).tolist()
    [[0.25, 0.75]]
    """
    start, duration = cells.unbind(-1)
    return torch.stack([start, start + duration], dim=-1) / num_snippets


def snippet_of(boundary: Tensor, num_snippets: int) -> Tensor:
    """Find the snippet a boundary is read at: clamp(trunc(float32(T * boundary)), 0, T - 1) (method, section 3).

    A boundary that is NaN is read at the first one: as an index it would end in a traceback, before the loss, which is
    NaN then, too, is complained of.
    """
    return (boundary.float() * num_snippets).trunc().clamp(0, num_snippets - 1).nan_to_num(nan=0.0).long()


def extend(proposals: Tensor, ratio: float = 0.5) -> Tensor:
    """Widen proposals on both sides, to see their context (A.2).

    Parameters
    ----------
    proposals
        (..., 2) start and end, in any unit.
    ratio
        How much of its own length a proposal grows by on each side.

    Examples
    --------
    >>> extend(torch.tensor([0.5, 0.75])).tolist()
    [0.375, 0.875]
    """
    start, end = proposals.unbind(-1)
    margin = (end - start) * ratio
    return torch.stack([start - margin, end + margin], dim=-1)


def refine(proposals: Tensor, offsets: Tensor) -> Tensor:
    """Average the segment moved by its ends and the one moved by its centre (method, section 2.4).

    Parameters
    ----------
    proposals
        (..., 2) fractions of the window.
    offsets
        (..., 4) ds, de, dc, dw, in widths of the proposal.

    Returns
    -------
    Tensor
        (..., 2); may leave [0, 1] or be reversed.
    """
    start, end = proposals.unbind(-1)
    width, center = end - start, (start + end) / 2
    by_start, by_end, by_center, by_width = offsets.unbind(-1)
    moved_center, moved_width = center + width * by_center, width * torch.exp(by_width)
    starts = (start + width * by_start + moved_center - moved_width / 2) / 2
    ends = (end + width * by_end + moved_center + moved_width / 2) / 2
    return torch.stack([starts, ends], dim=-1)
