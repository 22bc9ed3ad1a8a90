"""Which few of many to learn from: five strategies, for sequences (snippets) and for lattices (proposals).

They know neither snippets nor proposals: sizes, a lattice or features in, indices out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.errors import EtadError, nearest
from .fps import sample_fps
from .kdpp import sample_kdpp

STRATEGIES = ("random", "grid", "block", "fps", "dpp")

# Strategies that look at features.
NEEDS_FEATURES = ("fps", "dpp")

# Identity added to the DPP's kernel of cosine similarities (supplement, G).
DPP_JITTER = 0.01


def sample_size(strategy: str, num_items: int, ratio: float, *, chunk: int = 1) -> int:
    """Count the items that a share of them makes: rounded up for FPS, down for all others (Alg. 2).

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
    count = math.ceil(exact) if strategy == "fps" else math.floor(exact)
    return min(-(-count // chunk) * chunk, num_items)


def sample_sequence(
    strategy: str,
    *,
    num_draws: int,
    num_items: int,
    count: int,
    generator: torch.Generator,
    features: Tensor | None = None,
) -> Tensor:
    """Choose `count` of the items of a sequence, anew for each draw.

    `random`: without replacement. `grid`: the middles of `count` equal stretches. `block`: neighbours, beginning at
    random. `fps` and `dpp`: by features.

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
        (B, N, C), for `fps` and `dpp`.

    Returns
    -------
    Tensor
        (B, k) int64, ascending, on the features' device (else on the CPU).
    """
    _check_name(strategy)
    assert 0 <= count <= num_items, (count, num_items)
    if count == num_items:
        return _same_for_all(torch.arange(num_items), num_draws, features)
    if strategy in NEEDS_FEATURES:
        return _guided(strategy, features, (num_draws, num_items), count, generator)
    if strategy == "random":
        return _random(num_draws, num_items, count, generator)
    if strategy == "grid":
        middles = (torch.arange(count, dtype=torch.float64) + 0.5) * (num_items / max(count, 1))
        return _same_for_all(middles.long(), num_draws, features)
    first = torch.randint(num_items - count + 1, (num_draws, 1), generator=generator)
    return first + torch.arange(count)


def sample_lattice(
    strategy: str,
    cells: Tensor,
    *,
    num_draws: int,
    ratio: float,
    generator: torch.Generator,
    features: Tensor | None = None,
) -> Tensor:
    """Choose a share of a lattice's cells, anew for each draw (APS, method, section 4).

    `random`: without replacement. `grid`: every sqrt(1 / ratio)-th start and duration. `block`: a square of the map of
    durations and starts, anywhere. `fps` and `dpp`: by features.

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
        (B, K, C), for `fps` and `dpp`.

    Returns
    -------
    Tensor
        (B, n) int64 rows of `cells`, ascending, on the features' device (else on the CPU).

    Raises
    ------
    EtadError
        The strategy is unknown, the ratio is none, or a block of that size does not fit.
    """
    num_cells = len(cells)
    _check_name(strategy)
    count = sample_size(strategy, num_cells, ratio)
    if count == num_cells:
        return _same_for_all(torch.arange(num_cells), num_draws, features)
    if strategy in NEEDS_FEATURES:
        return _guided(strategy, features, (num_draws, num_cells), count, generator)
    if strategy == "random":
        return _random(num_draws, num_cells, count, generator)
    if strategy == "grid":
        return _same_for_all(_grid(cells, ratio), num_draws, features)
    return _blocks(cells, num_draws, count, ratio, generator)


def _random(num_draws: int, num_items: int, count: int, generator: torch.Generator) -> Tensor:
    draws = [torch.randperm(num_items, generator=generator)[:count] for _ in range(num_draws)]
    return torch.stack(draws).sort(dim=1).values if draws else torch.empty(0, count, dtype=torch.int64)


def _guided(
    strategy: str, features: Tensor | None, shape: tuple[int, int], count: int, generator: torch.Generator
) -> Tensor:
    assert features is not None, f"{strategy} chooses by features"
    assert features.shape[:2] == shape, (features.shape, shape)
    if strategy == "fps":
        return sample_fps(features, count, generator=generator).sort(dim=1).values
    # Cosine similarity: rows of unit length. In float64, so that equal directions stay equal.
    rows = F.normalize(features.detach().double(), dim=-1)
    return sample_kdpp(rows, count, jitter=DPP_JITTER, generator=generator)


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


def _same_for_all(rows: Tensor, num_draws: int, features: Tensor | None) -> Tensor:
    return rows.to(features.device if features is not None else "cpu").expand(num_draws, len(rows))


def _check_name(strategy: str) -> None:
    if strategy not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise EtadError(
            f"the sampling strategy {strategy!r} is unknown; take one of {known}.{nearest(strategy, STRATEGIES)}"
        )


def _check_ratio(ratio: float) -> None:
    if not 0 <= ratio <= 1:
        raise EtadError(f"a sampling ratio of {ratio} is no share: give a number from 0 to 1 (0.06 is 6 %).")
