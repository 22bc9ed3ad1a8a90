"""Exact sampling from a k-DPP: sets of k items, each as likely as the determinant of its kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.errors import EtadError
from ..kernels import map_parallel, one_thread
from .population import Population

# Directions with less than this share of the largest eigenvalue belong to the null space: their eigenvectors could
# not be told from the square root of the kernel.
RANK_TOLERANCE = 1e-10

# Identity added to the kernel of cosine similarities (supplement, G).
COSINE_JITTER = 0.01


def sample_by_diversity(population: Population, *, count: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Sample from the k-DPP of the features' cosine similarities, (B, k) ascending: the strategy `dpp`."""
    assert population.features is not None
    # Rows of unit length. In float64, so that equal directions stay equal.
    rows = F.normalize(population.features.detach().double(), dim=-1)
    first = population.own_draws.start
    return sample_kdpp(rows, count, jitter=COSINE_JITTER, generator=generator, first=first)


def sample_kdpp(factor: Tensor, count: int, *, jitter: float, generator: torch.Generator, first: int = 0) -> Tensor:
    """Sample sets with probability det(L_S) / sum of all such, where L = X X^T + jitter I (method, section 4).

    Parameters
    ----------
    factor
        (B, N, C) the kernel's factor X, of each video.
    count
        Items k of a set.
    jitter
        Added identity: above 0, k may exceed the rank of X.
    generator
        Where the randomness comes from (on the CPU).
    first
        Number of the first video among those that draw together.

    Returns
    -------
    Tensor
        (B, k) int64, ascending, on the factor's device.

    Raises
    ------
    EtadError
        The factor is not finite, or its rank is below k and nothing is added.
    """
    num_items = factor.shape[1]
    if count in (0, num_items):
        return torch.arange(count, device=factor.device).expand(factor.shape[0], count)
    seed = int(torch.randint(2**62, (1,), generator=generator))
    # Each video draws by itself, so that what one draws does not depend on the others.
    videos = [(video, np.random.default_rng([seed, number])) for number, video in enumerate(factor.detach(), first)]

    def sample(video: tuple[Tensor, np.random.Generator]) -> np.ndarray:
        return Spectrum.of(video[0]).sample(count, jitter=jitter, random=video[1])

    sets = map_parallel(sample, videos, rows=num_items)
    return torch.as_tensor(np.stack(sets) if sets else np.empty((0, count), dtype=np.int64), device=factor.device)


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues and eigenvectors of X X^T, the latter as far as anybody asks for them.

    Parameters
    ----------
    values
        (r,) eigenvalues above 0, ascending.
    vectors
        (N, r) eigenvectors of X X^T, or (C, r) those of X^T X where that is smaller (the dual).
    rows
        (N, C) X, where the vectors are dual ones.
    num_items
        N.
    """

    values: np.ndarray
    vectors: Tensor
    rows: Tensor | None
    num_items: int

    @classmethod
    def of(cls, factor: Tensor) -> Spectrum:
        """Decompose the smaller one of X X^T and X^T X; `factor` is (N, C)."""
        if not torch.isfinite(factor).all():
            raise EtadError("DPP sampling got features that are not finite numbers. Look for them with `etad verify`.")
        num_items, channels = factor.shape
        rows = factor.to("cpu", torch.float64)
        dual = channels < num_items
        values, vectors = torch.linalg.eigh(rows.T @ rows if dual else rows @ rows.T)
        known = values > RANK_TOLERANCE * values[-1].clamp(min=0)
        return cls(values[known].numpy(), vectors[:, known], rows if dual else None, num_items)

    def sample(self, count: int, *, jitter: float, random: np.random.Generator) -> np.ndarray:
        """Draw one set of `count` items, (count,) ascending, with probability ~ det(X_S X_S^T + jitter I).

        That determinant is the sum over all subsets A of S of det(X_A X_A^T) jitter^(|S| - |A|). So S is a sample A
        of X X^T alone, of random size, filled up with items drawn uniformly from the others.
        """
        log_values = np.log(self.values)
        table = log_symmetric_polynomials(log_values, min(count, len(log_values)))
        size = self._draw_size(table[-1], count, jitter, random)
        chosen = torch.from_numpy(_draw_eigenvectors(log_values, table, size, random))
        vectors = self.vectors[:, chosen]
        if self.rows is not None:
            vectors = self.rows @ (vectors / torch.from_numpy(self.values)[chosen].sqrt())
        with one_thread():  # it is a chain of small steps, unlike what came before
            items = sample_projection(vectors, random)
        others = np.setdiff1d(np.arange(self.num_items), items)
        return np.sort(np.concatenate([items, random.choice(others, count - size, replace=False)]))

    def _draw_size(self, log_polynomials: np.ndarray, count: int, jitter: float, random: np.random.Generator) -> int:
        """Draw how many of the `count` items come from X X^T; takes log of its symmetric polynomials by degree."""
        rank = len(self.values)
        if jitter == 0:
            if count > rank:
                raise EtadError(
                    f"DPP sampling of {count} items needs as many independent features, but they have rank {rank}. "
                    "Add to the kernel's diagonal (a jitter above 0), or sample fewer."
                )
            return count
        # Sets of items weigh their determinant; each of the others weighs the jitter, in any combination.
        log_factorial = np.cumsum(np.log(np.maximum(np.arange(self.num_items + 1), 1)))
        size = np.arange(len(log_polynomials))
        log_ways = (
            log_factorial[self.num_items - size] - log_factorial[count - size] - log_factorial[self.num_items - count]
        )
        log_weights = log_polynomials + (count - size) * math.log(jitter) + log_ways
        weights = np.exp(log_weights - log_weights.max())
        return int(random.choice(len(size), p=weights / weights.sum()))


def log_symmetric_polynomials(log_values: np.ndarray, degree: int) -> np.ndarray:
    """Log of the elementary symmetric polynomials of the first i values, (r + 1, degree + 1) for all i and degrees.

    Examples
    --------
    >>> np.exp(log_symmetric_polynomials(np.log([2.0, 3.0]), 2)).round(6).tolist()
    [[1.0, 0.0, 0.0], [1.0, 2.0, 0.0], [1.0, 5.0, 6.0]]
    """
    table = np.full((len(log_values) + 1, degree + 1), -np.inf)
    table[0, 0] = 0.0
    for i, log_value in enumerate(log_values):
        table[i + 1, 0] = 0.0
        np.logaddexp(table[i, 1:], table[i, :-1] + log_value, out=table[i + 1, 1:])
    return table


def sample_projection(vectors: Tensor, random: np.random.Generator) -> np.ndarray:
    """Sample k items from the DPP that projects onto the span of k orthonormal columns.

    Item i is next with a probability in proportion to what is left of row i after removing the directions of the
    items drawn so far. What is left only falls, so an old value is an upper bound: candidates are drawn by the old
    values and accepted with the ratio of new to old, which is exact, and all rows are brought up to date (one matrix
    product) only when half the mass is gone.

    Parameters
    ----------
    vectors
        (N, k) float64.

    Returns
    -------
    np.ndarray
        (k,) rows, in the order in which they were drawn.
    """
    count = vectors.shape[1]
    norms = vectors.square().sum(dim=1)  # [N]
    # Candidates need no more than an upper bound: single precision and a margin well above its rounding.
    fast_vectors = vectors.float()
    left, margin = norms.numpy().copy(), 1e-5 * norms.numpy()
    directions = torch.empty(count, count, dtype=torch.float64)
    drawn: list[int] = []
    while len(drawn) < count:
        first = len(drawn)
        bound = left + margin
        bound[drawn] = 0.0
        cumulative = np.cumsum(bound)
        # What is left sums up to the number of items still to draw.
        stop = first + (count - first + 1) // 2
        while len(drawn) < stop:
            item = int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))
            residual = _remove(vectors[item], directions[: len(drawn)])
            mass = float(residual @ residual)
            if item not in drawn[first:] and random.random() * bound[item] < mass:
                # Where little is left, rounding is a large part of it: once more.
                residual = _remove(residual, directions[: len(drawn)])
                directions[len(drawn)] = residual / residual.norm()
                drawn.append(item)
        fresh = directions[first:stop].float()
        left = np.maximum(left - (fast_vectors @ fresh.T).square_().sum(dim=1).numpy(), 0.0)
    return np.array(drawn, dtype=np.int64)


def _remove(row: Tensor, directions: Tensor) -> Tensor:
    """Take from a row (k,) its parts along orthonormal directions (m, k)."""
    return row - (directions @ row) @ directions


def _draw_eigenvectors(
    log_values: np.ndarray, table: np.ndarray, count: int, random: np.random.Generator
) -> np.ndarray:
    """Draw `count` eigenvectors, a set as likely as the product of its eigenvalues; (count,) descending."""
    chosen: list[int] = []
    i = len(log_values)
    while len(chosen) < count:
        wanted = count - len(chosen)
        # -inf where the values before this one are too few: it must be taken.
        log_share = log_values[i - 1] + table[i - 1, wanted - 1] - table[i, wanted]
        if random.random() < math.exp(min(log_share, 0.0)):
            chosen.append(i - 1)
        i -= 1
    return np.array(chosen, dtype=np.int64)
