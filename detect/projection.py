"""Project first, gather afterwards: a linear layer on RoI features without the RoI features.

RoI-align and the layer after it are both linear: `W roi(z)` sums weight x (W_bin z_t) over bins and snippets. So each
snippet is projected once for every bin, and a proposal sums the rows of that table that it touches. The table costs the
same however many proposals there are, and stays in the processor's cache, video by video and some columns at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .roi import Terms, bag_sum, place, transposed

# Columns that are gathered at once: their part of the table fits into a core's own cache.
PART = 128


@dataclass(frozen=True)
class Gather:
    """Which rows of a video's table each output row sums, for k proposals.

    The table holds a row for each bin and snippet of the extended layer, (R, T), below it those of the start layer,
    (R/4, T), and of the end layer, (R/4, T).

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

    def sums(self, table: Sequence[Tensor]) -> Tensor:
        """Parts of (rows, `PART`) -> (3, k, parts `PART`): the extended, the start and the end layer."""
        parts = [bag_sum(part, self.index, self.weight, self.offsets) for part in table]
        return torch.cat(parts, dim=1).view(3, -1, len(table) * PART)

    def spread(self, grad: Tensor, num_rows: int) -> list[Tensor]:
        """Send the gradient of the sums, (3, k, parts `PART`), back to the table's parts, (rows, `PART`)."""
        by_row = transposed(self.index, self.weight, self.offsets, num_rows)
        return [bag_sum(part.contiguous(), *by_row) for part in grad.flatten(0, 1).split(PART, dim=1)]


def gather_of(proposals: Tensor, *, bins: int, num_snippets: int) -> Gather:
    """Place k proposals, (k, 2) in snippets, and lay out the terms of the three layers.

    Output rows are k of the extended layer, k of the start layer (the first quarter of the bins), k of the end layer.
    """
    placed = place(proposals, bins=bins, num_snippets=num_snippets)
    start, end = slice(bins // 4), slice(bins - bins // 4, bins)
    # Each layer's rows lie below those of the layer before.
    shifts = (num_snippets * before for before in (0, bins, bins + bins // 4))
    terms = Terms.joined(
        [
            placed.by_proposal(layer, stride=num_snippets, shift=shift)
            for layer, shift in zip((slice(bins), start, end), shifts)
        ]
    )
    return Gather(terms.row, terms.weight, terms.offsets())
