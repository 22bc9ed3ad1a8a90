"""Project first, gather afterwards: a linear layer on RoI features without the RoI features.

RoI-align and the layer after it are both linear: `W roi(z)` sums weight x (W_bin z_t) over bins and snippets. So each
snippet is projected once for every bin, and a proposal sums the rows of that table that it touches. The table costs the
same however many proposals there are, and stays in the processor's cache, video by video.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        (3 k + 1,) where each output row's terms begin, and the end.
    """

    index: Tensor
    weight: Tensor
    offsets: Tensor

    @property
    def num_proposals(self) -> int:
        return (len(self.offsets) - 1) // 3

    def sums(self, table: Tensor) -> Tensor:
        """(rows of the table, width) -> (3, k, width): the extended, the start and the end layer."""
        return bag_sum(table, self.index, self.weight, self.offsets).view(3, -1, table.shape[1])

    def spread(self, grad: Tensor, num_rows: int) -> Tensor:
        """Send the gradient of the sums, (3, k, width), back to the table's rows."""
        return bag_sum(grad.flatten(0, 1), *transposed(self.index, self.weight, self.offsets, num_rows))


def gather_of(touching: Incidence) -> Gather:
    """Lay out the terms of the extended, start and end layer in one table of T x (R + 2 R/4) rows.

    Output rows are k of the extended layer, k of the start layer (the first quarter of the bins), k of the end layer.
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
