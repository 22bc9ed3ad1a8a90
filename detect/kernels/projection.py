"""Project first, gather afterwards: a linear layer on RoI features without the RoI features.

RoI-align and the layer after it are both linear: `W roi(z)` sums weight x (W_bin z_t) over bins and snippets. So each
snippet is projected once for every bin, and a proposal sums the rows of that table that it touches. The table costs the
same however many proposals there are, and stays in the processor's cache, video by video and some columns at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .roi import bag_sum, place_samples, transposed

# Columns W that are gathered at once: their block of the table fits into a core's own cache.
COLUMN_BLOCK = 128


def layers_bins(bins: int) -> tuple[int, int, int]:
    """Bins of the extended, the start and the end layer: all, the first quarter, the last."""
    return bins, bins // 4, bins // 4


def packed(layers: Sequence[Tensor], width: int, dtype: torch.dtype) -> Tensor:
    """Lay out the layers' weights as one product with a snippet wants them.

    Parameters
    ----------
    layers
        Of each, (C, bins H): its bins side by side.
    width
        H, a multiple of `COLUMN_BLOCK`.

    Returns
    -------
    Tensor
        (H / W, C, columns W), W being `COLUMN_BLOCK`: of each block of columns one for every bin of the first layer,
        then of the next.
    """
    by_bin = [layer.unflatten(1, (-1, width // COLUMN_BLOCK, COLUMN_BLOCK)).permute(2, 0, 1, 3) for layer in layers]
    counts = [each.shape[2] for each in by_bin]
    whole = layers[0].new_empty(width // COLUMN_BLOCK, len(layers[0]), sum(counts), COLUMN_BLOCK, dtype=dtype)
    for out, layer in zip(whole.split(counts, dim=2), by_bin):
        out.copy_(layer)
    return whole.flatten(2)


def unpacked(whole: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """The layers of so many bins each, (C, bins H), that were packed."""
    by_bin = whole.unflatten(2, (-1, COLUMN_BLOCK)).split(list(counts), dim=2)
    return [layer.permute(1, 2, 0, 3).flatten(1) for layer in by_bin]


@dataclass(frozen=True)
class Gather:
    """Which rows of a video's table each output row sums, for k proposals.

    The table holds a row for each snippet and bin: of a snippet the R bins of the extended layer, then the R/4 of the
    start layer and the R/4 of the end layer.

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
        """k."""
        return (len(self.offsets) - 1) // 3

    def sums(self, table: Sequence[Tensor], out: Tensor) -> Tensor:
        """Column blocks (rows, W) -> (3, k, blocks W), into `out`: the extended, the start and the end layer."""
        for block, columns in zip(table, out.view(len(self.offsets) - 1, -1).split(COLUMN_BLOCK, dim=1)):
            columns.copy_(bag_sum(block, self.index, self.weight, self.offsets))
        return out

    def spread(self, grad: Tensor, num_rows: int) -> list[Tensor]:
        """Send the gradient of the sums, (3, k, blocks W), back to the table's column blocks, (rows, W)."""
        by_row = transposed(self.index, self.weight, self.offsets, num_rows)
        return [bag_sum(block.contiguous(), *by_row) for block in grad.flatten(0, 1).split(COLUMN_BLOCK, dim=1)]


def gather_of(proposals: Tensor, *, bins: int, num_snippets: int) -> Gather:
    """Place k proposals, (k, 2) in snippets, and lay out the terms of the three layers.

    Output rows are k of the extended layer, k of the start layer (the first quarter of the bins), k of the end layer.
    """
    placed = place_samples(proposals, bins=bins, num_snippets=num_snippets)
    start, end = slice(0, bins // 4), slice(bins - bins // 4, bins)
    counts = layers_bins(bins)
    # A layer's first bin is the first of its columns.
    columns = itertools.accumulate(counts, initial=0)
    layers = [(layer, column - layer.start) for layer, column in zip((slice(0, bins), start, end), columns)]
    terms = placed.by_proposal(*layers, stride=sum(counts), step=1)
    return Gather(terms.row, terms.weight, terms.offsets())
