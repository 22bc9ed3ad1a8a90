import pytest
import torch
from torch import Tensor

from etad.data.errors import EtadError
from etad.detect.model.proposals import lattice
from etad.detect.sampling.population import sample_lattice, sample_sequence, sample_size
from etad.detect.strategies import STRATEGIES
from reference import sampling as plain

# Those that need no gradients.
SAMPLERS = [name for name, row in STRATEGIES.items() if row.needs != "gradients"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_cells(strategy: str, cells: Tensor, ratio: float, **options) -> Tensor:
    features = torch.randn(3, len(cells), 6, generator=generator(9))
    options = {"num_draws": 3, "generator": generator(), "features": features, **options}
    return sample_lattice(strategy, cells, ratio=ratio, **options)


def draw_items(strategy: str, count: int, **options) -> Tensor:
    features = torch.randn(3, 20, 6, generator=generator(9))
    options = {"num_draws": 3, "num_items": 20, "generator": generator(), "features": features, **options}
    return sample_sequence(strategy, count=count, **options)


def test_six_per_cent_of_the_full_lattice_are_as_many_as_published() -> None:
    cells = lattice(128, 128)
    features = None
    assert draw_cells("random", cells, 0.06, features=features).shape == (3, 495)
    assert draw_cells("grid", cells, 0.06, features=features).shape == (3, 496)
    assert draw_cells("block", cells, 0.06, features=features).shape == (3, 22 * 22)
    assert sample_size("dpp", len(cells), 0.06) == 495
    assert sample_size("fps", len(cells), 0.06) == 496


@pytest.mark.parametrize("strategy", SAMPLERS)
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.2, 1.0])
def test_cells_are_distinct_ascending_and_as_many_as_asked(strategy: str, ratio: float) -> None:
    cells = lattice(16, 16)
    rows = draw_cells(strategy, cells, ratio)
    assert rows.dtype == torch.int64
    assert (rows.diff(dim=1) > 0).all()
    count = sample_size(strategy, len(cells), ratio)
    if strategy == "block" and ratio < 1:
        count = int(count**0.5) ** 2
    if strategy != "grid" or ratio in (0.0, 1.0):
        assert rows.shape == (3, count)
    if ratio == 1:
        assert rows.tolist() == [list(range(len(cells)))] * 3


@pytest.mark.parametrize("strategy", SAMPLERS)
@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_items_are_distinct_ascending_and_as_many_as_asked(strategy: str, count: int) -> None:
    items = draw_items(strategy, count)
    assert items.shape == (3, count)
    assert (items.diff(dim=1) > 0).all()
    assert ((items >= 0) & (items < 20)).all()


@pytest.mark.parametrize("strategy", SAMPLERS)
def test_a_seed_repeats_the_draw_and_videos_differ(strategy: str) -> None:
    cells = lattice(16, 16)
    assert torch.equal(draw_cells(strategy, cells, 0.2), draw_cells(strategy, cells, 0.2))
    assert torch.equal(draw_items(strategy, 6), draw_items(strategy, 6))
    if not STRATEGIES[strategy].same_for_all:
        assert len({tuple(row) for row in draw_cells(strategy, cells, 0.2).tolist()}) > 1
        assert not torch.equal(draw_items(strategy, 6), draw_items(strategy, 6, generator=generator(5)))


@pytest.mark.parametrize("ratio", [0.03, 0.06, 0.1, 0.5])
@pytest.mark.parametrize(("num_snippets", "max_duration"), [(128, 128), (128, 64), (10, 4)])
def test_the_grid_equals_the_plain_one(num_snippets: int, max_duration: int, ratio: float) -> None:
    cells = lattice(num_snippets, max_duration)
    rows = draw_cells("grid", cells, ratio, features=None)[0]
    assert [tuple(cell) for cell in cells[rows].tolist()] == plain.grid(num_snippets, max_duration, ratio)


def test_a_block_is_a_square_of_the_map_anywhere_it_fits() -> None:
    cells = lattice(12, 9)
    side = 4
    corners = set()
    for row in draw_cells("block", cells, 17 / len(cells), num_draws=300, features=None):
        starts, durations = cells[row].T
        assert len(row) == side * side
        assert starts.max() - starts.min() == durations.max() - durations.min() == side - 1
        corners.add((int(durations.min()) - 1, int(starts.min())))
    expected = {(x, y) for x in range(9 - 2 * side + 1) for y in range(12 - 2 * side - x + 1)}
    assert corners == expected


def test_blocks_follow_the_order_of_the_cells() -> None:
    cells = lattice(12, 12)
    shuffled = cells[torch.randperm(len(cells), generator=generator())]
    ours = draw_cells("block", shuffled, 0.2, features=None)
    expected = draw_cells("block", cells, 0.2, features=None)
    for row, same in zip(ours, expected):
        assert set(map(tuple, shuffled[row].tolist())) == set(map(tuple, cells[same].tolist()))


def test_a_block_that_does_not_fit_is_refused_with_the_largest_that_does() -> None:
    cells = lattice(128, 128)
    with pytest.raises(EtadError, match=r"a block of 60% .* Take 49 % or less"):
        draw_cells("block", cells, 0.6, features=None)
    assert draw_cells("block", cells, 0.49, features=None).shape == (3, 63 * 63)


def test_a_grid_of_items_is_evenly_spread() -> None:
    assert draw_items("grid", 5)[0].tolist() == [2, 6, 10, 14, 18]
    assert set(draw_items("grid", 7)[0].diff().tolist()) <= {2, 3}


def test_a_block_of_items_is_unbroken_and_reaches_both_ends() -> None:
    items = draw_items("block", 6, num_draws=200, features=None)
    assert (items.diff(dim=1) == 1).all()
    assert items.min() == 0
    assert items.max() == 19


def test_random_items_are_uniform() -> None:
    items = draw_items("random", 5, num_draws=4000, features=None)
    share = torch.bincount(items.flatten(), minlength=20) / 4000
    assert (share - 0.25).abs().max() < 0.04


def test_feature_guided_strategies_spread_over_the_clusters() -> None:
    centers = 10 * torch.eye(4)
    features = centers.repeat_interleave(5, dim=0) + 0.01 * torch.randn(20, 4, generator=generator())
    for strategy in ("fps", "dpp"):
        items = draw_items(strategy, 4, features=features.expand(3, -1, -1))
        assert all(len(set((row // 5).tolist())) == 4 for row in items)


def test_identical_rows_and_rows_of_zeros_can_be_sampled() -> None:
    for value in (0.0, 1.0):
        for strategy in ("fps", "dpp"):
            assert draw_items(strategy, 8, features=torch.full((3, 20, 4), value)).shape == (3, 8)


def test_rounding_of_the_ratio_is_not_taken_at_its_word() -> None:
    assert sample_size("random", 100, 0.29) == 29
    assert sample_size("fps", 100, 0.07) == 7
    assert sample_size("fps", 128, 0.3) == 39
    assert [sample_size("random", 128, ratio) for ratio in (0.0, 0.1, 0.3, 1.0)] == [0, 12, 38, 128]
    assert {sample_size(name, 128, 0.3, chunk=4) for name in ("random", "fps", "gradnorm", "coreset")} == {40}
    assert sample_size("random", 6, 1, chunk=4) == 6


def test_mistakes_are_named() -> None:
    with pytest.raises(EtadError, match=r"'randm' is unknown.*Did you mean 'random'"):
        draw_items("randm", 3)
    with pytest.raises(EtadError, match="ratio of 6 is no share"):
        draw_cells("random", lattice(8, 8), 6)
    with pytest.raises(EtadError, match="not finite"):
        draw_items("dpp", 3, features=torch.full((3, 20, 4), float("nan")))
