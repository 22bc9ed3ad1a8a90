"""RoI-align of proposals on a snippet sequence, as a sparse incidence of proposals and snippets.

RoI-align is linear in the features: every bin of every proposal is a weighted sum of a few snippets. We write the
weights down once (they need no gradient: proposals are detached, method, section 2) and let every consumer gather with
them, so that the [K, channels, R] features need never be built.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor

from .blocks import BLOCK

# Snippet sequences' lengths that a proposal may reach out of its sequence.
FAR = 4


class Terms(NamedTuple):
    """Weighted rows to sum, bag by bag.

    Parameters
    ----------
    row, weight
        (nnz,) row and factor of each term.
    ends
        (bags,) how many terms there are up to each bag's end.
    """

    row: Tensor
    weight: Tensor
    ends: Tensor

    @staticmethod
    def joined(parts: Sequence[Terms]) -> Terms:
        """All bags of the first part, then those of the next."""
        before = itertools.accumulate((len(part.row) for part in parts), initial=0)
        ends = [part.ends + already for part, already in zip(parts, before)]
        rows, weights, _ = zip(*parts)
        return Terms(torch.cat(rows), torch.cat(weights), torch.cat(ends))

    def offsets(self) -> Tensor:
        """(bags + 1,) where each bag's terms begin, and the end."""
        return F.pad(self.ends, (1, 0))


@dataclass(frozen=True)
class Placement:
    """Which snippets each bin of each proposal sums, and how much of them.

    A proposal's bins have a cell each for as many snippets in a row as any of them may touch. Cells of all proposals
    lie one below the other, a column for each bin.

    Parameters
    ----------
    first
        (K, R) the snippet of a bin's first cell.
    num_cells
        (K,) cells of a proposal's bins.
    weight
        (cells of all, R) share of each snippet in the bin; 0 for those that it does not touch.
    """

    first: Tensor
    num_cells: Tensor
    weight: Tensor

    def by_proposal(self, *layers: tuple[slice, int], stride: int = 1, step: int = 0) -> Terms:
        """List what a proposal's bins sum, one bag for each proposal; all bags of the first layer, then of the next.

        Parameters
        ----------
        layers
            The bins that a layer reads, and a shift.
        stride, step
            Bin b reads snippet t in row `t stride + b step + shift`.
        """
        owner, number = _unrolled(self.num_cells)
        below = (number * stride)[:, None]
        rows_at = self.first * stride + torch.arange(self.first.shape[1], dtype=torch.int32, device=owner.device) * step
        widths = [self.first[:, bins].shape[1] for bins, _ in layers]
        before = [len(owner) * width for width in itertools.accumulate(widths, initial=0)]
        rows, cells = rows_at.new_empty(before[-1]), self.weight.new_empty(before[-1])
        for (bins, shift), width, start, stop in zip(layers, widths, before, before[1:]):
            torch.index_select(rows_at[:, bins] + shift, 0, owner, out=rows[start:stop].view(-1, width)).add_(below)
            cells[start:stop].view(-1, width).copy_(self.weight[:, bins])
        ends = self.num_cells.cumsum(0)
        return _not_zero(rows, cells, torch.cat([ends * width + already for width, already in zip(widths, before)]))

    def by_bin(self) -> Terms:
        """List what each bin sums in one bag, the first bin of every proposal, then the second; row t is snippet t."""
        owner, number = _unrolled(self.num_cells)
        rows = self.first.index_select(0, owner).add_(number[:, None])
        starts = torch.arange(rows.shape[1], device=rows.device) * rows.shape[0]
        ends = (self.num_cells.cumsum(0) + starts[:, None]).flatten()
        cells = self.weight.t().clone(memory_format=torch.contiguous_format)
        return _not_zero(rows.t().flatten(), cells.flatten(), ends)


def place_samples(proposals: Tensor, *, bins: int, num_snippets: int) -> Placement:
    """Place every bin's samples and merge those that touch the same snippet (G-TAD's rules, method, section 2.2).

    Parameters
    ----------
    proposals
        (K, 2) start and end in snippets; may leave [0, T] and may be reversed.
    bins
        R.
    num_snippets
        T.
    """
    proposals = proposals.detach().to(torch.promote_types(proposals.dtype, torch.float32))
    # 1. Positions. The float32 order of operations is torchvision's: RoI-align jumps where ceil(width / R) changes,
    #    and another order flips a few proposals visibly.
    #    What lies far outside the video reads nothing there, so runaway proposals are cut to keep n within bounds.
    reach = FAR * num_snippets
    low, high = proposals.nan_to_num(0.0).clamp(-reach, reach).unbind(-1)
    bin_width = (high - low).clamp(min=1) / bins
    samples = torch.ceil(bin_width)
    first = low[:, None] + torch.arange(bins, device=low.device, dtype=low.dtype) * bin_width[:, None]  # [K, R]
    # P is the number of all proposals' samples in a bin: samples of one proposal lie one below the other.
    num_samples = samples.long()
    owner, number = _unrolled(num_samples)  # [P]
    samples = samples.index_select(0, owner)
    step = (number + 0.5) * bin_width.index_select(0, owner) / samples
    x = first.index_select(0, owner).add_(step[:, None])  # [P, R]

    # 2. A sample outside [-1, T] counts as 0 and stays in the divisor; others are clamped into the sequence.
    share = x.clamp(-1, num_snippets).eq_(x).div_(samples[:, None])
    x.clamp_(0, num_snippets - 1)

    # 3. Samples lie at most one snippet apart, so a bin's n samples touch at most n + 1 snippets in a row. Rounding may
    #    carry the last one beyond: the line through the last two of these snippets then goes on that little bit.
    left = x.floor()
    starts = num_samples.cumsum(0) - num_samples
    base = left.index_select(0, starts)  # [K, R]
    based = base.index_select(0, owner)
    cell = left.sub_(based).clamp_(max=(samples - 1)[:, None])
    right = x.sub_(based).sub_(cell).mul_(share)
    weight = x.new_zeros(len(owner) + len(low), bins)
    top = starts + torch.arange(len(low), device=low.device)  # [K] a proposal's first cells
    at = cell.int().mul_(bins).add_((top * bins).int().index_select(0, owner)[:, None])
    at = at.add_(torch.arange(bins, dtype=torch.int32, device=low.device)).flatten()
    # One below the other, not by row and column: that is faster.
    weight.view(-1).index_add_(0, at, share.sub_(right).flatten())
    weight[1:].view(-1).index_add_(0, at, right.flatten())
    return Placement(base.int(), num_samples + 1, weight)


def roi_align(features: Tensor, proposals: Tensor, *, bins: int) -> Tensor:
    """(B, T, C) features and proposals in snippets, (K, 2) or (B, K, 2) -> (B, K, R, C)."""

    def terms_of(own: Tensor) -> Terms:
        return place_samples(own, bins=bins, num_snippets=features.shape[1]).by_bin()

    shared = proposals.dim() == 2
    all_terms = itertools.repeat(terms_of(proposals), len(features)) if shared else map(terms_of, proposals)
    by_video = [
        gather_sum(video, terms.row, terms.weight.to(features.dtype), terms.offsets())
        for video, terms in zip(features, all_terms)
    ]
    return torch.stack(by_video).unflatten(1, (bins, -1)).transpose(1, 2)


def roi_mean(features: Tensor, proposals: Tensor, *, bins: int) -> Tensor:
    """Average `roi_align` over the bins: (B, T, C) features and shared (K, 2) proposals -> (B, K, C)."""
    placed = [place_samples(part, bins=bins, num_snippets=features.shape[1]) for part in proposals.split(BLOCK)]
    terms = Terms.joined([part.by_proposal((slice(bins), 0)) for part in placed])
    sums = [gather_sum(video, terms.row, terms.weight, terms.offsets()) for video in features]
    return torch.stack(sums) / bins


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
    counts = torch.bincount(index, minlength=num_rows)
    return bag_of[order].to(index.dtype), weight[order], F.pad(counts.cumsum(0), (1, 0)).to(offsets.dtype)


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


def _unrolled(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For each of so many items of every owner: the owner, (sum,) int64, and the item's number there, (sum,) int32."""
    starts = counts.cumsum(0) - counts
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    return owner, torch.arange(len(owner), device=counts.device).sub_(starts.index_select(0, owner)).int()


def _not_zero(rows: Tensor, cells: Tensor, ends: Tensor) -> Terms:
    """Terms of the cells that are not zero; `ends` counts cells up to each bag's end. Overwrites rows and cells."""
    if cells.device.type == "cpu":
        # Goes over the cells once; a list of those that are not zero, to select by, takes three times as long.
        starts = F.pad(ends, (1, 0)).int().numpy()
        terms = csr_matrix((cells.numpy(), rows.numpy(), starts), shape=(len(ends), 2**31 - 1))
        terms.eliminate_zeros()
        return Terms(*map(torch.from_numpy, (terms.indices, terms.data, terms.indptr[1:])))
    kept = cells.nonzero().squeeze(1)
    ends = torch.searchsorted(kept, ends, out_int32=True)
    return Terms(rows.index_select(0, kept), cells.index_select(0, kept), ends)
