"""Which few of many to learn from, by any strategy of the table, for sequences (snippets) and lattices (proposals).

Neither snippets nor proposals are known here: sizes, a lattice or features in, indices out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...data.errors import EtadError
from ..strategies import find_strategy


@dataclass(frozen=True)
class Population:
    """What is sampled from, anew for each of B draws, one a video.

    Parameters
    ----------
    num_draws, num_items
        B and N.
    features
        (B, N, C), for strategies that need them; of the draws `own`.
    cells
        (N, 2) start and duration, where the items are a lattice's cells: all that fit into T snippets, of durations 1
        to D, in any order; none where they are a sequence.
    own
        Draws that are wanted; the others only move the generator on, as if they were. None: all.
    """

    num_draws: int
    num_items: int
    features: Tensor | None = None
    cells: Tensor | None = None
    own: range | None = None

    @property
    def own_draws(self) -> range:
        return range(self.num_draws) if self.own is None else self.own

    def same_for_all(self, rows: Tensor) -> Tensor:
        """Give every draw the same rows, (k,) -> (B, k)."""
        return rows.to(self.features.device if self.features is not None else "cpu").expand(self.num_draws, len(rows))


def sample_size(strategy: str, num_items: int, ratio: float, *, chunk: int = 1) -> int:
    """Count the items that a share of them makes: rounded up for FPS, down for the others (Alg. 2).

    Parameters
    ----------
    chunk
        The count is rounded up to whole chunks of so many (the release's snippets: 4; the paper: 1).

    Examples
    --------
    >>> sample_size("random", 8256, 0.06), sample_size("dpp", 128, 0.3), sample_size("fps", 128, 0.3)
    (495, 38, 39)
    >>> sample_size("random", 128, 0.3, chunk=4)
    40
    """
    _check_ratio(ratio)
    # 0.29 * 100 is 28.999999999999996 and 0.07 * 100 is 7.000000000000001: neither is meant.
    exact = round(ratio * num_items, 9)
    count = math.ceil(exact) if find_strategy(strategy, gradients=True).rounds_up else math.floor(exact)
    return min(-(-count // chunk) * chunk, num_items)


def sample_sequence(
    strategy: str,
    *,
    num_draws: int,
    num_items: int,
    count: int,
    generator: torch.Generator,
    features: Tensor | None = None,
    own: range | None = None,
) -> Tensor:
    """Choose `count` of the items of a sequence, anew for each draw.

    Parameters
    ----------
    num_draws
        Draws B: one for each video of a batch.
    num_items
        Length N of the sequence.
    count
        Items k to choose.
    generator
        Where the randomness comes from (on the CPU).
    features
        (B, N, C), for strategies that need them; of the draws `own`.
    own
        Draws that are wanted; the others only move the generator on, as if they were. None: all.

    Returns
    -------
    Tensor
        (B, k) int64, ascending, on the features' device (else on the CPU); of the draws `own`.
    """
    assert 0 <= count <= num_items, (count, num_items)
    population = Population(num_draws, num_items, features, own=own)
    return _sample(strategy, population, count=count, ratio=count / max(num_items, 1), generator=generator)


def sample_lattice(
    strategy: str,
    cells: Tensor,
    *,
    num_draws: int,
    ratio: float,
    generator: torch.Generator,
    features: Tensor | None = None,
    own: range | None = None,
) -> Tensor:
    """Choose a share of a lattice's cells, anew for each draw (APS, method, section 4).

    Parameters
    ----------
    cells
        (K, 2) start and duration: all that fit into T snippets, of durations 1 to D, in any order.
    num_draws
        Draws B: one for each video of a batch.
    ratio
        Share of the cells, 0 to 1; 1 takes all of them, whatever the strategy.
    generator
        Where the randomness comes from (on the CPU).
    features
        (B, K, C), for strategies that need them; of the draws `own`.
    own
        Draws that are wanted; the others only move the generator on, as if they were. None: all.

    Returns
    -------
    Tensor
        (B, n) int64 rows of `cells`, ascending, on the features' device (else on the CPU); of the draws `own`.

    Raises
    ------
    EtadError
        The strategy is unknown, the ratio is none, or a block of that size does not fit.
    """
    population = Population(num_draws, len(cells), features, cells, own)
    count = sample_size(strategy, len(cells), ratio)
    return _sample(strategy, population, count=count, ratio=ratio, generator=generator)


def _sample(strategy: str, population: Population, *, count: int, ratio: float, generator: torch.Generator) -> Tensor:
    row, own = find_strategy(strategy, gradients=False), population.own_draws
    if count == population.num_items:
        return population.same_for_all(torch.arange(count))[own.start : own.stop]
    if row.needs == "features":
        if population.features is None:
            assert not own, f"{strategy} chooses by features"
            population = replace(population, features=torch.empty(0, population.num_items, 1))
        assert population.features is not None
        shape = (len(own), population.num_items)
        assert population.features.shape[:2] == shape, (population.features.shape, shape)
    rows: Tensor = row.load()(population, count=count, ratio=ratio, generator=generator)
    return rows if row.needs == "features" else rows[own.start : own.stop]


def _check_ratio(ratio: float) -> None:
    if not 0 <= ratio <= 1:
        raise EtadError(f"a sampling ratio of {ratio} is no share: give a number from 0 to 1 (0.06 is 6 %).")
