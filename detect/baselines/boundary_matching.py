"""BMN's boundary-matching layer: features at points along every proposal, convolved over the points (BMN, section 3.3).

The layer as published multiplies T snippets by a dense matrix of T x N x D x T weights and then convolves C x N x D x T
values. Here the convolution comes first: it is linear in the snippets, so each of its N slices is applied to the T
snippets, and what is left is one sparse product, of a row for each proposal. The sums are the same in another order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array, csr_array
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..model.proposals import lattice

# Offsets, columns and values of a sparse matrix, row by row.
_Rows = tuple[Tensor, Tensor, Tensor]


class BoundaryMatching(nn.Module):
    """Sample features along every proposal of the lattice.

    Parameters
    ----------
    num_snippets, max_duration
        T and D; the K proposals are those of `lattice`, in its order.
    num_samples
        N, bins of a proposal.
    samples_per_bin
        Points whose mean a bin is.
    extension
        How much of its own length a proposal is widened by on each side.
    """

    def __init__(
        self, *, num_snippets: int, max_duration: int, num_samples: int, samples_per_bin: int, extension: float
    ) -> None:
        super().__init__()
        self.num_snippets, self.num_samples = num_snippets, num_samples
        weights = sampling_weights(
            num_snippets,
            max_duration,
            num_samples=num_samples,
            samples_per_bin=samples_per_bin,
            extension=extension,
        )
        for name, matrix in (("rows", weights), ("columns", weights.T.tocsr())):
            # In float64, to be rounded to the features' dtype.
            for part, values in zip(("offsets", "index", "values"), (matrix.indptr, matrix.indices, matrix.data)):
                self.register_buffer(f"{name}_{part}", torch.from_numpy(values.copy()), persistent=False)

    def sample(self, x: Tensor) -> Tensor:
        """Sample plainly: (B, C, T) features -> (B, C, N, K); for N K values a channel, memory goes."""
        offsets, index, values = self._matrix("rows", x.dtype)
        row_of = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=x.device), offsets.diff())
        weights = x.new_zeros(len(offsets) - 1, self.num_snippets * self.num_samples)
        weights[row_of, index.long()] = values
        weights = weights.view(-1, self.num_snippets, self.num_samples)
        return torch.einsum("bct,ktn->bcnk", x, weights)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolve the samples of one window over the bins.

        Parameters
        ----------
        x
            (C, T)
        weight, bias
            (O, C, N) and (O,)

        Returns
        -------
        Tensor
            (K, O)
        """
        channels, width = weight.shape[1], weight.shape[0]
        slices = weight.permute(1, 2, 0).reshape(channels, -1)  # [C, N O]
        convolved = (x.t() @ slices).view(-1, width)  # [T N, O]
        rows, columns = (self._matrix(name, convolved.dtype) for name in ("rows", "columns"))
        product: Tensor = _SparseProduct.apply(convolved, rows, columns)
        return product + bias.to(product)

    def _matrix(self, name: str, dtype: torch.dtype) -> _Rows:
        offsets, index, values = (self.get_buffer(f"{name}_{part}") for part in ("offsets", "index", "values"))
        return offsets, index, values.to(dtype)


class _SparseProduct(torch.autograd.Function):
    """A sparse matrix times a dense one; the gradient is the product with the transposed matrix, which is given too."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, rows: _Rows, columns: _Rows) -> Tensor:
        ctx.columns = columns
        return _product(dense, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _product(gradient.contiguous(), ctx.columns), None, None


def _product(dense: Tensor, matrix: _Rows) -> Tensor:
    # Weighted sums of rows: several times faster on the CPU than PyTorch's sparse product, and in a fixed order.
    offsets, index, values = matrix
    return F.embedding_bag(
        index, dense, offsets, mode="sum", per_sample_weights=values, include_last_offset=True
    )  # [rows, O]


def sampling_weights(
    num_snippets: int, max_duration: int, *, num_samples: int, samples_per_bin: int, extension: float
) -> csr_array:
    """Weight of each snippet in each bin of each proposal of the lattice, as BMN's public code has them.

    A proposal of start i and duration d is read at N x samples_per_bin points, evenly from i - extension d to
    i + d - 1 + extension d, in snippets; between snippets linearly, and beyond them as 0, but that before the first
    snippet points up to one snippet away read it whole.

    Returns
    -------
    csr_array
        (K, T N) float64; column t N + n is snippet t in bin n.
    """
    start, duration = lattice(num_snippets, max_duration).numpy().astype(np.float64).T[:, :, None]  # [K, 1]
    num_points = num_samples * samples_per_bin
    first = start - extension * duration
    length = duration - 1 + 2 * extension * duration
    points = first + length / max(num_points - 1, 1) * np.arange(num_points)  # [K, N x samples_per_bin]
    points = np.where((points > -1) & (points < 0), 0.0, points)
    below = np.floor(points)
    share = points - below
    bins = np.broadcast_to(np.arange(num_points) // samples_per_bin, points.shape)
    rows = np.broadcast_to(np.arange(len(points))[:, None], points.shape)
    parts = []
    for snippet, weight in ((below, 1 - share), (below + 1, share)):
        inside = (snippet >= 0) & (snippet < num_snippets) & (weight > 0)
        column = snippet[inside].astype(np.int32) * num_samples + bins[inside]
        parts.append((weight[inside] / samples_per_bin, rows[inside].astype(np.int32), column.astype(np.int32)))
    weights, row, column = (np.concatenate(each) for each in zip(*parts))
    return coo_array((weights, (row, column)), shape=(len(points), num_snippets * num_samples)).tocsr()
