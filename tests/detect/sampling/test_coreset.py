"""Sampling of representatives: the plain greedy choice, sums of gradients that lose nothing, and a closer gradient."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etad.detect.sampling.coreset import cover, sample_representatives
from etad.detect.sampling.gradnorm import sample_by_norm
from etad.pipeline.e2e.samples import draw_samples
from etad.pipeline.e2e.sgs import ByGradient, sgs_step

from .test_gradnorm import _encoder, _gradient, _Loss, seeded

pytestmark = pytest.mark.usefixtures("one_thread")


def plain_greedy(gradients: Tensor, features: Tensor, most: int) -> list[int]:
    """Try each snippet as the next representative, and add up what is then left, number by number."""
    total = len(features)
    far = max(((features[i] - features[j]).norm().item() for i in range(total) for j in range(total)), default=0) or 1

    def left(chosen: Sequence[int]) -> float:
        return sum(
            gradients[i].square().sum().item()
            * min([far, *((features[i] - features[j]).norm().item() for j in chosen)])
            for i in range(total)
        )

    chosen: list[int] = []
    while len(chosen) < most:
        best = min((j for j in range(total) if j not in chosen), key=lambda j: left([*chosen, j]))
        if left(chosen) - left([*chosen, best]) <= 1e-9:
            break
        chosen.append(best)
    return chosen


def drawn(
    gradients: Sequence[Tensor], features: Sequence[Tensor], counts: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    return sample_representatives(gradients, features, counts, own=range(len(counts)), generator=seeded(0))


@given(seed=st.integers(0, 10**6), total=st.integers(1, 9), most=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_representatives_are_those_of_the_plain_greedy_choice(seed: int, total: int, most: int) -> None:
    gradients = torch.randn(total, 3, generator=seeded(seed)).double() ** 3
    features = torch.randn(total, 4, generator=seeded(seed + 1)).double()
    found = cover(gradients, features, most=most)
    expected = plain_greedy(gradients, features, min(most, total))
    assert found.order[: len(expected)].tolist() == expected
    assert len(found.order) == min(most, total)
    assert bool((found.gains.diff() <= 1e-9 * found.gains[0]).all())


def test_two_representatives_leave_hardly_more_than_the_best_two() -> None:
    gradients, features = torch.randn(12, 3, generator=seeded(0)), torch.randn(12, 2, generator=seeded(1))
    distances, weights = torch.cdist(features, features), gradients.square().sum(1)

    def left(pair: Sequence[int]) -> float:
        return float(weights @ distances[:, list(pair)].min(1).values)

    pairs = [left(pair) for pair in itertools.combinations(range(12), 2)]
    found = left(cover(gradients, features, most=2).order.tolist())
    assert found <= 1.2 * min(pairs) < sorted(pairs)[len(pairs) // 2]


@given(
    seed=st.integers(0, 10**6), lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), share=st.floats(0.1, 1)
)
@settings(max_examples=60, deadline=None)
def test_sums_lose_no_gradient_and_the_sample_is_as_large_as_asked_for(
    seed: int, lengths: list[int], share: float
) -> None:
    gradients = [torch.randn(length, 3, generator=seeded(seed + n)).double() for n, length in enumerate(lengths)]
    features = [torch.randn(length, 4, generator=seeded(seed - n - 1)).double() for n, length in enumerate(lengths)]
    counts = [max(1, round(share * length)) for length in lengths]
    found = drawn(gradients, features, counts)
    assert sum(len(indices) for indices, _ in found) == sum(counts)
    for (indices, sums), part in zip(found, gradients, strict=True):
        assert indices.tolist() == sorted(set(indices.tolist())) and len(sums) == len(indices)
        if len(indices):
            torch.testing.assert_close(sums.sum(0), part.sum(0))


def test_a_video_with_the_larger_gradients_gets_more() -> None:
    features = [torch.randn(20, 4, generator=seeded(n)) for n in range(2)]
    gradients = [scale * torch.randn(20, 4, generator=seeded(2)) for scale in (0.1, 1.0)]
    few, many = (len(indices) for indices, _ in drawn(gradients, features, [4, 4]))
    assert few + many == 8 and few < many


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_all_snippets_carry_their_own_gradient_and_none_carries_nothing(share: float) -> None:
    gradients = torch.randn(8, 3, generator=seeded(3)).double()
    gradients[[2, 5]] = 0
    twins = torch.randn(4, 2, generator=seeded(4)).double().repeat(2, 1)  # each feature twice
    ((indices, sums),) = drawn([gradients], [twins], [round(8 * share)])
    if share == 1:
        assert {0, 1, 3, 4, 6, 7} <= set(indices.tolist())
        assert torch.equal(sums, gradients[indices])
    else:
        pairs = gradients[:4] + gradients[4:]
        assert sorted(indices.remainder(4).tolist()) == [0, 1, 2, 3]
        torch.testing.assert_close(sums, pairs[indices.remainder(4)])


def test_no_gradient_no_snippet_and_features_all_alike() -> None:
    zero = torch.zeros(5, 3)
    assert [len(indices) for indices, _ in drawn([zero], [torch.rand(5, 2)], [3])] == [0]
    gradients = torch.tensor([[1.0], [3.0], [2.0]])
    ((indices, sums),) = drawn([gradients], [torch.ones(3, 2)], [1])
    assert indices.tolist() == [0] and sums.tolist() == [[6.0]]
    ((indices, sums),) = drawn([gradients[:1]], [torch.ones(1, 2)], [1])
    assert indices.tolist() == [0] and sums.tolist() == [[1.0]]
    assert drawn([gradients], [torch.ones(3, 2)], [0])[0][0].tolist() == []


def test_a_step_sends_the_sums_through_the_representatives_and_all_of_them_are_back_propagation() -> None:
    encoder, loss = _encoder(), _Loss(32, 10)
    videos = [torch.randint(0, 256, (n, 2, 16, 16, 3), dtype=torch.uint8, generator=seeded(n)) for n in (10, 6)]
    seen: dict[str, Sequence[Tensor]] = {}

    def remember(gradients: Sequence[Tensor], features: Sequence[Tensor]) -> Sequence[tuple[Tensor, Tensor]]:
        chosen = draw_samples("coreset", [10, 6], ratio=0.35, chunk=1, generator=seeded(5))
        assert isinstance(chosen, ByGradient)
        found = chosen.draw(gradients, features)
        seen.update(indices=[indices for indices, _ in found], sums=[sums for _, sums in found])
        return found

    step = sgs_step(encoder, videos, loss, samples=ByGradient(remember), micro_batch=2)
    assert sum(len(sample) for sample in step.samples) == 5
    found = _gradient(encoder)
    total = torch.zeros(())
    for video, indices, sums in zip(videos, seen["indices"], seen["sums"], strict=True):
        if len(indices):
            total = total + (encoder(encoder.normalise(video[indices])) * sums).sum()
    total.backward()
    torch.testing.assert_close(found, _gradient(encoder), rtol=1e-9, atol=1e-12)

    chosen = draw_samples("coreset", [10, 6], ratio=1, chunk=1, generator=seeded(5))
    sgs_step(encoder, videos, loss, samples=chosen, micro_batch=3)
    found = _gradient(encoder)
    loss([encoder(encoder.normalise(video)) for video in videos]).backward()
    torch.testing.assert_close(found, _gradient(encoder), rtol=1e-10, atol=1e-12)


def test_it_comes_closer_than_weights_where_near_snippets_pull_in_opposite_directions() -> None:
    encoder = _encoder()
    base = torch.randint(0, 256, (4, 2, 16, 16, 3), generator=seeded(0))
    noise = torch.randint(-8, 9, (40, 2, 16, 16, 3), generator=seeded(1))
    video = (base.repeat_interleave(10, 0) + noise).clamp(0, 255).to(torch.uint8)  # four scenes of ten like snippets
    features = encoder(encoder.normalise(video))
    gradients = torch.randn(features.shape, generator=seeded(2)).double() * torch.rand(40, 1, generator=seeded(3)) ** 2

    def sent(indices: Tensor, values: Tensor) -> Tensor:
        (encoder(encoder.normalise(video[indices])) * values).sum().backward()
        return _gradient(encoder)

    whole = sent(torch.arange(40), gradients)
    ((indices, sums),) = drawn([gradients], [features.detach()], [8])
    ours = (sent(indices, sums) - whole).norm()
    generator, errors = seeded(4), []
    for _ in range(20):
        indices, weights = sample_by_norm(gradients.norm(dim=1), 8, generator=generator)
        errors.append((sent(indices, gradients[indices] * weights[:, None]) - whole).norm())
    assert ours < 0.3 * torch.stack(errors).mean()
