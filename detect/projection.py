"""Project first, gather afterwards: a linear layer on RoI features without the RoI features.

RoI-align and the layer after it are both linear: `W roi(z)` sums weight x (W_bin z_t) over bins and snippets. So each
snippet is projected once for every bin, and a proposal sums the rows of that table that it touches. The table costs the
same however many proposals there are, and stays in the processor's cache, video by video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .roi import Incidence, bag_sum, transposed


@dataclass(frozen=True)
class Gather:
    """Which rows of a video's table each output row sums.

    Parameters
    ----------
    index, weight
        (nnz,) row of the table and factor of each term.
    offsets
        (rows + 1,) where each output row's terms begin, and the end.
    """

    index: Tensor
    weight: Tensor
    offsets: Tensor


def gather_of(touching: Incidence) -> Gather:
    """Lay out the terms of the extended, start and end layer in one table of T x (R + 2 R/4) rows.

    Output rows are K of the extended layer, K of the start layer (the first quarter of the bins), K of the end layer.
    """
    bins = touching.counts.shape[1]
    quarter = bins // 4
    row = touching.position * (bins + 2 * quarter) + touching.bins
    in_start = touching.bins < quarter
    in_end = touching.bins >= bins - quarter
    index = torch.cat([row, row[in_start] + bins, row[in_end] + 2 * quarter])
    weight = torch.cat([touching.weight, touching.weight[in_start], touching.weight[in_end]])
    counts = touching.counts
    terms = torch.cat([counts.sum(1), counts[:, :quarter].sum(1), counts[:, -quarter:].sum(1)])
    return Gather(index, weight, F.pad(terms.cumsum(0), (1, 0)))


def project_and_gather(z: Tensor, weight: Tensor, gathers: list[Gather], width: int) -> Tensor:
    """Apply the layers to every proposal of every video.

    Parameters
    ----------
    z
        (B, T, 128) features.
    weight
        (128, S x width) the layers' weights, for each of S bins.
    gathers
        One a video, all with as many output rows.

    Returns
    -------
    Tensor
        (B, rows, width).
    """
    terms = [part for gather in gathers for part in (gather.index, gather.weight, gather.offsets)]
    return _ProjectAndGather.apply(z, weight, width, *terms)


class _ProjectAndGather(torch.autograd.Function):
    """One video's table at a time, forward and backward; tables are made again and never kept."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, width: int, *terms: Tensor) -> Tensor:
        ctx.save_for_backward(z, weight, *terms)
        ctx.width = width
        table = z.new_empty(z.shape[1], weight.shape[1])
        rows = []
        for video, (index, factor, offsets) in enumerate(_triples(terms)):
            torch.mm(z[video], weight, out=table)
            rows.append(bag_sum(table.view(-1, width), index, factor, offsets))
        return torch.stack(rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        z, weight, *terms = ctx.saved_tensors
        grad_z, grad_weight = torch.empty_like(z), torch.zeros_like(weight)
        num_rows = z.shape[1] * weight.shape[1] // ctx.width
        for video, (index, factor, offsets) in enumerate(_triples(terms)):
            by_row = transposed(index, factor, offsets, num_rows)
            grad_table = bag_sum(grads[0][video].contiguous(), *by_row).view(z.shape[1], -1)
            torch.mm(grad_table, weight.t(), out=grad_z[video])
            grad_weight.addmm_(z[video].t(), grad_table)
        return grad_z, grad_weight, None, *(None for _ in terms)


def _triples(terms: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    return zip(terms[::3], terms[1::3], terms[2::3])
