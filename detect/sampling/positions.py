"""Strategies that look at positions alone: `random`, `grid`, `block`; see `detect/strategies.py`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...data.errors import EtadError
from .population import Population


def sample_random(population: Population, *, count: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Sample without replacement."""
    draws = [torch.randperm(population.num_items, generator=generator)[:count] for _ in range(population.num_draws)]
    return torch.stack(draws).sort(dim=1).values if draws else torch.empty(0, count, dtype=torch.int64)


def sample_grid(population: Population, *, count: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Take the middles of `count` equal stretches, or of a lattice every sqrt(1 / ratio)-th start and duration."""
    if population.cells is not None:
        return population.same_for_all(_grid(population.cells, ratio))
    middles = (torch.arange(count, dtype=torch.float64) + 0.5) * (population.num_items / max(count, 1))
    return population.same_for_all(middles.long())


def sample_block(population: Population, *, count: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Sample neighbours, beginning anywhere, or of a lattice a square of the map of durations and starts.

    Raises
    ------
    EtadError
        A square of that size does not fit.
    """
    if population.cells is not None:
        return _blocks(population.cells, population.num_draws, count, ratio, generator)
    shape = (population.num_draws, 1)
    return torch.randint(population.num_items - count + 1, shape, generator=generator) + torch.arange(count)


def _grid(cells: Tensor, ratio: float) -> Tensor:
    """List the rows whose start and duration both lie on the grid, ascending.

    The map counts both from 0: its row d holds duration d + 1.
    """
    if ratio == 0:
        return torch.empty(0, dtype=torch.int64)
    num_snippets, max_duration = _extent(cells)
    step = math.sqrt(1 / ratio)
    on_grid = [
        torch.isin(column, torch.arange(1, size, step, dtype=torch.float64).round().long())
        for column, size in ((cells[:, 0], num_snippets), (cells[:, 1] - 1, max_duration))
    ]
    return torch.nonzero(on_grid[0] & on_grid[1]).flatten()


def _blocks(cells: Tensor, num_draws: int, count: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Draw a square of the map for each video, (B, side * side) rows, ascending; side = int(sqrt(count))."""
    num_snippets, max_duration = _extent(cells)
    side = math.isqrt(count)
    if 2 * side > min(num_snippets, max_duration):
        fitting = (min(num_snippets, max_duration) // 2) ** 2 / len(cells)
        raise EtadError(
            f"a block of {ratio:.0%} of the proposals does not fit into their map. Take {math.floor(100 * fitting)} % "
            "or less, all of them, or another strategy."
        )
    # Row of each place of the map; the corner's range leaves only places that hold a proposal.
    row_of = torch.empty(max_duration, num_snippets, dtype=torch.int64)
    row_of[cells[:, 1] - 1, cells[:, 0]] = torch.arange(len(cells))
    rows = []
    for _ in range(num_draws):
        duration = int(torch.randint(max_duration - 2 * side + 1, (1,), generator=generator))
        start = int(torch.randint(max(num_snippets - 2 * side - duration, 0) + 1, (1,), generator=generator))
        rows.append(row_of[duration : duration + side, start : start + side].flatten().sort().values)
    return torch.stack(rows) if rows else torch.empty(0, side * side, dtype=torch.int64)


def _extent(cells: Tensor) -> tuple[int, int]:
    """Snippets T and longest duration D of a lattice."""
    return int(cells.sum(dim=1).max()), int(cells[:, 1].max())
