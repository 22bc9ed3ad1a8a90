"""RoI-align of proposals on a snippet sequence, as a sparse incidence of proposals and snippets.

RoI-align is linear in the features: every bin of every proposal is a weighted sum of a few snippets. We write the
weights down once (they need no gradient: proposals are detached, SPEC section 2) and let every consumer gather with
them, so that the [K, channels, R] features need never be built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor

# Snippet sequences' lengths that a proposal may reach out of its sequence.
FAR = 4


@dataclass(frozen=True)
class Incidence:
    """Which snippets each bin of each proposal sums, and how much of them.

    Parameters
    ----------
    counts
        (K, R) number of snippets that a bin sums.
    position
        (nnz,) snippet of each term, ordered by proposal, then bin, then snippet.
    bins
        (nnz,) bin of each term.
    weight
        (nnz,) factor of each term.
    """

    counts: Tensor
    position: Tensor
    bins: Tensor
    weight: Tensor

    def per_proposal(self) -> Tensor:
        """(K + 1,) where each proposal's terms begin, and the end."""
        return _offsets(self.counts.sum(dim=1))

    def split(self, num_proposals: list[int]) -> list[Incidence]:
        """Cut into parts of so many proposals each."""
        counts = self.counts.split(num_proposals)
        sizes = [int(part.sum()) for part in counts]
        terms = zip(*(each.split(sizes) for each in (self.position, self.bins, self.weight)))
        return [Incidence(part, *each) for part, each in zip(counts, terms)]


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


def incidence(proposals: Tensor, *, bins: int, num_snippets: int) -> Incidence:
    """Place every bin's samples and merge those that touch the same snippet (G-TAD's rules, SPEC section 2.2).

    Parameters
    ----------
    proposals
        (K, 2) start and end in snippets; may leave [0, T] and may be reversed.
    bins
        R.
    num_snippets
        T.
    """
    # 1. Positions. The float32 order of operations is torchvision's: RoI-align jumps where ceil(width / R) changes,
    #    and another order flips a few proposals visibly.
    #    What lies far outside the video reads nothing there, so runaway proposals are cut to keep n within bounds.
    reach = FAR * num_snippets
    low, high = proposals.nan_to_num(0.0).clamp(-reach, reach).unbind(-1)
    width = (high - low).clamp(min=1)
    bin_width = width / bins
    samples = torch.ceil(width / bins)
    most = int(samples.max()) if len(samples) else 1
    bin_index = torch.arange(bins, device=low.device, dtype=low.dtype)
    sample_index = torch.arange(most, device=low.device, dtype=low.dtype)
    first = low[:, None] + bin_index * bin_width[:, None]  # [K, R]
    step = (sample_index + 0.5) * bin_width[:, None] / samples[:, None]  # [K, n]
    x = first[:, :, None] + step[:, None, :]  # [K, R, n]

    # 2. A sample outside [-1, T] counts as 0 and stays in the divisor; others are clamped into the sequence.
    inside = (sample_index < samples[:, None])[:, None, :] & (x >= -1) & (x <= num_snippets)
    x = x.clamp(min=0, max=num_snippets - 1)
    left = x.floor()
    right_share = x - left
    scale = inside / samples[:, None, None]

    # 3. Samples of a bin lie at most one snippet apart, so they touch at most n + 1 snippets in a row.
    base = torch.where(inside, left, float(num_snippets)).amin(dim=2, keepdim=True)
    place = (left - base).clamp(min=0, max=most).long()
    dense = x.new_zeros(*x.shape[:2], most + 2)
    dense.scatter_add_(2, place, (1 - right_share) * scale)
    dense.scatter_add_(2, place + 1, right_share * scale)

    # 4. Keep what is not zero.
    touched = dense > 0
    proposal, bin_number, place = touched.nonzero(as_tuple=True)
    position = base.squeeze(2)[proposal, bin_number].long() + place
    return Incidence(touched.sum(dim=2), position, bin_number, dense[touched])


def roi_align(features: Tensor, touching: Incidence) -> Tensor:
    """Gather the features of every bin of every proposal.

    Parameters
    ----------
    features
        (T, C) features of one video.
    touching
        Incidence of its K proposals.

    Returns
    -------
    Tensor
        (K, R, C).
    """
    offsets = _offsets(touching.counts.flatten())
    gathered = gather_sum(features, touching.position, touching.weight.to(features.dtype), offsets)
    return gathered.view(*touching.counts.shape, features.shape[1])


def gather_sum(table: Tensor, index: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """Sum weighted rows of a table, bag by bag, with a backward pass that is a bag sum too.

    Parameters
    ----------
    table
        (M, C).
    index, weight
        (nnz,) row and factor of each term.
    offsets
        (bags + 1,) where each bag's terms begin, and the end.

    Returns
    -------
    Tensor
        (bags, C).
    """
    return _GatherSum.apply(table, index, weight, offsets)


def bag_sum(table: Tensor, index: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """Sum weighted rows of a table, bag by bag, (bags, C); `gather_sum` without a gradient."""
    return F.embedding_bag(
        index, table, offsets, mode="sum", per_sample_weights=weight.to(table.dtype), include_last_offset=True
    )


def transposed(index: Tensor, weight: Tensor, offsets: Tensor, num_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Turn the terms of each bag into the terms of each row: the bags that read it, in their order.

    Returns
    -------
    bag, weight, offsets
        (nnz,), (nnz,), (num_rows + 1,).
    """
    if index.device.type == "cpu":
        # A counting sort: no comparison of a million numbers.
        shape = (len(offsets) - 1, num_rows)
        rows = csr_matrix((weight.numpy(), index.numpy(), offsets.numpy()), shape=shape).tocsc()
        return (
            torch.from_numpy(rows.indices).to(index.dtype),
            torch.from_numpy(rows.data),
            torch.from_numpy(rows.indptr).to(offsets.dtype),
        )
    order = torch.argsort(index, stable=True)
    bag_of = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=index.device), offsets.diff())
    return bag_of[order], weight[order], _offsets(torch.bincount(index, minlength=num_rows))


class _GatherSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(index, weight, offsets)
        ctx.num_rows = table.shape[0]
        return bag_sum(table, index, weight, offsets)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        index, weight, offsets = ctx.saved_tensors
        by_row = transposed(index, weight, offsets, ctx.num_rows)
        return bag_sum(grads[0].contiguous(), *by_row), None, None, None


def _offsets(counts: Tensor) -> Tensor:
    return F.pad(counts.cumsum(0), (1, 0))
