from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from etad.data.errors import EtadError
from etad.detect.kernels import one_thread
from etad.detect.sampling.kdpp import Spectrum, log_symmetric_polynomials, sample_kdpp, sample_projection
from reference import sampling as plain

NUM_SETS = 1000


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel_factor(kind: str) -> Tensor:
    """Small factors: tall, wide, or with rows that are equal, zero, or all the same."""
    if kind == "tall":
        return normal(7, 3)
    if kind == "wide":
        return normal(5, 9)
    if kind == "one direction":
        return torch.ones(6, 4, dtype=torch.float64)
    rows = torch.nn.functional.normalize(normal(7, 3, seed=1), dim=1)
    rows[3] = rows[2]
    rows[5] = 0
    return rows


def assert_distributed(factor: Tensor, count: int, jitter: float, probabilities: dict[tuple[int, ...], float]) -> None:
    """Chi-square of many samples; sets expected fewer than five times are pooled."""
    random = np.random.default_rng(0)
    spectrum = Spectrum.of(factor)
    with one_thread():
        seen = Counter(tuple(spectrum.sample(count, jitter=jitter, random=random).tolist()) for _ in range(NUM_SETS))
    impossible = [chosen for chosen in seen if probabilities[chosen] < 1e-12]
    assert not impossible
    expected = {chosen: share * NUM_SETS for chosen, share in probabilities.items()}
    often = [chosen for chosen in expected if expected[chosen] >= 5]
    observed = [seen[chosen] for chosen in often]
    wanted = [expected[chosen] for chosen in often]
    if NUM_SETS - sum(wanted) > 1:
        observed.append(NUM_SETS - sum(observed))
        wanted.append(NUM_SETS - sum(wanted))
    wanted = [value * NUM_SETS / sum(wanted) for value in wanted]
    assert chisquare(observed, wanted).pvalue > 1e-4


@pytest.mark.parametrize(
    ("kind", "count", "jitter"),
    [
        ("tall", 1, 0.3),
        ("tall", 2, 0.0),
        ("tall", 5, 0.3),  # more than the rank
        ("tall", 6, 1e-3),
        ("wide", 3, 0.0),
        ("wide", 3, 0.5),
        ("one direction", 3, 0.01),
        ("degenerate", 2, 0.0),
        ("degenerate", 4, 0.01),
    ],
)
def test_sets_are_as_likely_as_their_determinants(kind: str, count: int, jitter: float) -> None:
    factor = kernel_factor(kind)
    assert_distributed(factor, count, jitter, plain.kdpp_probabilities(factor.numpy(), count, jitter))


def test_sets_are_as_likely_as_recorded(shared: Path) -> None:
    golden = torch.load(shared / "goldens" / "kdpp_small.pt", weights_only=True)
    recorded = {tuple(map(int, key.split(","))): float(share) for key, share in golden["subset_probs"].items()}
    computed = plain.kdpp_probabilities(golden["X"].numpy(), golden["k"], 0.0)
    assert computed == pytest.approx(recorded, abs=1e-12)
    assert_distributed(golden["X"], golden["k"], 0.0, recorded)


def test_a_projection_that_is_refreshed_often_keeps_its_distribution() -> None:
    vectors = torch.linalg.qr(normal(12, 9, seed=2)).Q
    kernel = (vectors @ vectors.T).numpy()
    random = np.random.default_rng(0)
    inclusion = np.zeros(12)
    for _ in range(1000):
        drawn = sample_projection(vectors, random)
        assert len(set(drawn.tolist())) == 9
        inclusion[drawn] += 1 / 1000
    np.testing.assert_allclose(inclusion, np.diag(kernel), atol=5 * 0.5 / 1000**0.5)


def test_symmetric_polynomials_do_not_overflow() -> None:
    table = log_symmetric_polynomials(np.log(np.full(600, 1e6)), 500)
    exact = [np.log(600.0), np.log(600.0) + np.log(599.0 / 2)]
    np.testing.assert_allclose(table[-1, 1:3] - np.log(1e6) * np.array([1, 2]), exact, rtol=1e-12)
    assert np.isfinite(table[-1]).all()


def test_every_video_gets_its_own_set_and_a_seed_repeats_it() -> None:
    factors = torch.nn.functional.normalize(normal(3, 40, 8).float(), dim=-1)

    def draw(seed: int) -> Tensor:
        return sample_kdpp(factors, 10, jitter=0.01, generator=torch.Generator().manual_seed(seed))

    sets = draw(0)
    assert sets.shape == (3, 10)
    assert (sets.diff(dim=1) > 0).all()
    assert len({tuple(row) for row in sets.tolist()}) == 3
    assert torch.equal(sets, draw(0))
    assert not torch.equal(sets, draw(1))


def test_one_video_of_many_items_is_sampled_on_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    factor = torch.nn.functional.normalize(normal(1, 1124, 24).float(), dim=-1)
    threads: list[int] = []
    in_steps: list[int] = []
    decompose = Spectrum.of

    def noting(features: Tensor) -> Spectrum:
        threads.append(torch.get_num_threads())
        return decompose(features)

    def noting_projection(vectors: Tensor, random: np.random.Generator) -> np.ndarray:
        in_steps.append(torch.get_num_threads())
        return sample_projection(vectors, random)

    monkeypatch.setattr(Spectrum, "of", noting)
    monkeypatch.setattr("etad.detect.sampling.kdpp.sample_projection", noting_projection)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        drawn = [sample_kdpp(factor, 40, jitter=0.01, generator=torch.Generator().manual_seed(3)) for _ in range(3)]
    finally:
        torch.set_num_threads(before)
    with one_thread():
        alone = sample_kdpp(factor, 40, jitter=0.01, generator=torch.Generator().manual_seed(3))
    assert threads == [2, 2, 2, 1]
    assert in_steps == [1] * 4, "a chain of small steps"
    assert (alone.diff(dim=1) > 0).all()
    assert all(torch.equal(each, alone) for each in drawn)


def test_no_item_and_all_items_need_no_features() -> None:
    nothing = torch.full((2, 5, 3), float("nan"))
    generator = torch.Generator()
    assert sample_kdpp(nothing, 0, jitter=0.01, generator=generator).shape == (2, 0)
    assert sample_kdpp(nothing, 5, jitter=0.01, generator=generator).tolist() == [[0, 1, 2, 3, 4]] * 2
    assert sample_kdpp(nothing[:0], 2, jitter=0.01, generator=generator).shape == (0, 2)


def test_rows_of_zeros_are_drawn_uniformly() -> None:
    assert_distributed(torch.zeros(4, 2), 2, 0.1, plain.kdpp_probabilities(np.zeros((4, 2)), 2, 0.1))


def test_a_rank_below_the_sample_is_refused_unless_something_is_added() -> None:
    factor = torch.ones(1, 6, 4)
    with pytest.raises(EtadError, match=r"3 items needs as many independent features, but they have rank 1"):
        sample_kdpp(factor, 3, jitter=0.0, generator=torch.Generator())
    assert sample_kdpp(factor, 3, jitter=0.01, generator=torch.Generator()).shape == (1, 3)


def test_features_that_are_not_numbers_are_refused() -> None:
    factor = torch.ones(1, 6, 4)
    factor[0, 2, 1] = float("inf")
    with pytest.raises(EtadError, match="not finite"):
        sample_kdpp(factor, 3, jitter=0.01, generator=torch.Generator())


def test_the_number_of_threads_is_left_as_it_was() -> None:
    before = torch.get_num_threads()
    with pytest.raises(EtadError):
        sample_kdpp(torch.ones(1, 6, 4), 3, jitter=0.0, generator=torch.Generator())
    assert torch.get_num_threads() == before
