"""Farthest point sampling: each new point is the one farthest from all points chosen so far."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...data.errors import EtadError
from ..kernels import map_parallel
from .population import Population

# Points that compete for the next few picks: their table of distances stays in the processor's cache.
NUM_RIVALS = 512

# Squared distances below this share of the largest squared length are rounding: such points are the same.
SAME_POINT = 1e-13

_PICKED = -1.0  # below every distance


def sample_by_distance(population: Population, *, count: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Sample by farthest point, (B, k) ascending: the strategy `fps`."""
    assert population.features is not None
    picks = sample_fps(
        population.features,
        count,
        generator=generator,
        num_draws=population.num_draws,
        first=population.own_draws.start,
    )
    return picks.sort(dim=1).values


def sample_fps(
    features: Tensor, count: int, *, generator: torch.Generator, num_draws: int | None = None, first: int = 0
) -> Tensor:
    """Pick points by farthest Euclidean distance, the first one at random (Alg. 2).

    Of equal distances the first row is picked; no row is picked twice.

    Parameters
    ----------
    features
        (B, N, C) the points of each video.
    count
        Points k to pick of a video.
    generator
        Where the first point comes from (on the CPU).
    num_draws, first
        The videos are numbers `first` .. `first` + B - 1 of so many, which draw together; none: of themselves alone.

    Returns
    -------
    Tensor
        (B, k) int64, in the order of picking, on the features' device.

    Raises
    ------
    EtadError
        The features are not finite.
    """
    num_videos, num_items, _ = features.shape
    drawn = torch.randint(max(num_items, 1), (num_videos if num_draws is None else num_draws,), generator=generator)
    starts = drawn[first : first + num_videos].tolist()
    if not count or not num_videos:
        return torch.empty(num_videos, count, dtype=torch.int64, device=features.device)

    def pick(video: tuple[Tensor, int]) -> np.ndarray:
        return farthest_points(video[0], count, start=video[1])

    picks = map_parallel(pick, list(zip(features, starts)), rows=num_items)
    return torch.from_numpy(np.stack(picks)).to(features.device)


def farthest_points(points: Tensor, count: int, *, start: int) -> np.ndarray:
    """Pick `count` of the points (N, C), beginning with row `start`; (count,) rows in the order of picking.

    The distance to the nearest pick only falls. So an old one is an upper bound, and only the points that are
    farthest away, the rivals, need be kept up to date as long as the best of them stays above the bound of all
    others; those are brought up to date together, by one matrix product, when that ends.
    """
    points = points.detach().to("cpu", torch.float64)
    squares = torch.linalg.vecdot(points, points)
    if not torch.isfinite(squares).all():  # what is not finite makes its row's sum so
        raise EtadError("FPS sampling got features that are not finite numbers. Look for them with `etad verify`.")
    same = SAME_POINT * float(squares.max())

    picks = [start]
    nearest = np.full(len(points), np.inf)
    first = 0
    while len(picks) < count:
        # 1. Bring all points up to date with the last picks.
        fresh = torch.tensor(picks[first:])
        first = len(picks)
        np.minimum(nearest, _squared_distances(points, squares, fresh, same).amin(dim=1).numpy(), out=nearest)
        nearest[picks] = _PICKED
        # 2. Choose the rivals, and the bound of the others.
        rivals, bound, last_equal = _rivals(nearest, NUM_RIVALS)
        own = torch.from_numpy(rivals)
        table = _squared_distances(points[own], squares[own], torch.arange(len(rivals)), same).numpy()
        left = nearest[rivals]
        # 3. Pick among them while none of the others is as far away, or one as far comes in a later row.
        while len(picks) < count:
            best = int(left.argmax())
            if left[best] < bound or (left[best] == bound and rivals[best] > last_equal):
                break
            picks.append(int(rivals[best]))
            np.minimum(left, table[best], out=left)
            left[best] = _PICKED
    return np.array(picks, dtype=np.int64)


def _rivals(nearest: np.ndarray, most: int) -> tuple[np.ndarray, float, int]:
    """List the rows of the largest distances, ascending; also the largest other one, and the last row equal to it."""
    if len(nearest) <= most:
        return np.arange(len(nearest)), -np.inf, -1
    bound = float(np.partition(nearest, len(nearest) - most - 1)[len(nearest) - most - 1])
    above = np.flatnonzero(nearest > bound)
    # Of those equal to the bound the first ones come along: all others equal to it stand in later rows.
    equal = np.flatnonzero(nearest == bound)[: most - len(above)] if bound > _PICKED else above[:0]
    return np.sort(np.concatenate([above, equal])), bound, int(equal[-1]) if len(equal) else -1


def _squared_distances(points: Tensor, squares: Tensor, chosen: Tensor, same: float) -> Tensor:
    """Squared distances (N, m) of all points to the chosen rows."""
    # -2 x y + |y|^2 in the product's own pass, then + |x|^2, in place: the table is larger than any cache.
    distances = torch.addmm(squares[chosen], points, points[chosen].T, alpha=-2).add_(squares[:, None])
    return distances.masked_fill_(distances < same, 0.0)
