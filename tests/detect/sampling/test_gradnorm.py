"""Sampling by gradient norm: as many as asked for, each as often as it should be, and right on average."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from etad.detect.sampling.gradnorm import inclusion_probabilities, sample_by_norm, systematic
from etad.extract.encoders.encoder import Encoder
from etad.extract.encoders.resnet import resnet_stages
from etad.pipeline.e2e.samples import draw_samples
from etad.pipeline.e2e.sgs import ByGradient, sgs_step

pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [1, 3, 7, 20])
def test_probabilities_rise_with_the_norm_and_add_up(count: int) -> None:
    norms = torch.rand(20, generator=seeded(0)) ** 4
    found = inclusion_probabilities(norms, count)
    assert found.sum().item() == pytest.approx(count)
    assert found.max() <= 1 and found.min() > 0
    assert bool((found[norms.argsort()].diff() >= 0).all())
    free = found < 1
    if free.any():
        ratio = found[free] / norms[free]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_snippets_without_gradient_are_never_drawn_and_no_gradient_at_all_draws_alike() -> None:
    assert inclusion_probabilities(torch.tensor([0.0, 2.0, 0.0, 1.0]), 3).tolist() == [0, 1, 0, 1]
    assert inclusion_probabilities(torch.zeros(4), 2).tolist() == [0.5] * 4
    indices, weights = sample_by_norm(torch.tensor([0.0, 2.0, 0.0]), 2, generator=seeded(0))
    assert indices.tolist() == [1] and weights.tolist() == [1]
    assert len(sample_by_norm(torch.ones(3), 0, generator=seeded(0))[0]) == 0


def test_each_item_is_drawn_as_often_as_its_probability_says() -> None:
    probabilities = inclusion_probabilities(torch.rand(12, generator=seeded(1)) ** 3, 4)
    generator, counts, draws = seeded(2), torch.zeros(12), 4000
    for _ in range(draws):
        drawn = systematic(probabilities, generator=generator)
        assert len(drawn) == 4 and bool((drawn.diff() > 0).all())
        counts[drawn] += 1
    spread = (probabilities * (1 - probabilities) / draws).sqrt().float()
    assert bool(((counts / draws - probabilities).abs() <= 5 * spread + 1e-6).all())


class _Loss:
    """A loss that looks at neighbours and cares for some snippets much more than for others."""

    def __init__(self, channels: int, num_snippets: int) -> None:
        self.layer = nn.Conv1d(channels, 3, 3, padding=1).double()
        self.stress = torch.rand(num_snippets, generator=seeded(3)).double() ** 4

    def __call__(self, features: Sequence[Tensor]) -> Tensor:
        parts = [self.layer(part.T[None]).tanh().square() * self.stress[: len(part)] for part in features]
        return torch.stack([part.sum() for part in parts]).sum()


def _encoder() -> Encoder:
    torch.manual_seed(0)
    stages = resnet_stages(num_blocks=(1, 1, 1, 1), width=4, bottleneck=False, shifted_part=8)
    return Encoder(stages, channels=32, mean=(120, 110, 100), std=(60, 60, 60)).double().freeze(1).train()


def _gradient(encoder: Encoder) -> Tensor:
    found = torch.cat([each.grad.flatten() for each in encoder.parameters() if each.grad is not None])
    encoder.zero_grad()
    return found


@pytest.mark.parametrize("keep", ["nothing", "maps"])
def test_the_encoders_gradient_is_right_on_average(keep: str) -> None:
    encoder, loss = _encoder(), _Loss(32, 10)
    videos = [torch.randint(0, 256, (n, 2, 16, 16, 3), dtype=torch.uint8, generator=seeded(n)) for n in (10, 6)]

    # 1. What each snippet alone adds to the gradient; it is linear in the snippets' weights.
    alone = []
    for video, length in enumerate((10, 6)):
        for index in range(length):
            chosen = [torch.tensor([], dtype=torch.long)] * 2
            chosen[video] = torch.tensor([index])
            sgs_step(encoder, videos, loss, samples=chosen, micro_batch=4)
            alone.append(_gradient(encoder))
    parts = torch.stack(alone)

    # 2. A step's gradient is that sum with the weights of its draw.
    seen: list[Tensor] = []

    def remember(gradients: Sequence[Tensor], features: Sequence[Tensor]) -> Sequence[tuple[Tensor, Tensor]]:
        chosen = draw_samples("gradnorm", [10, 6], ratio=0.35, chunk=1, generator=seeded(5))
        assert isinstance(chosen, ByGradient)
        seen.extend(part.norm(dim=1) for part in gradients)
        weighted = chosen.draw(gradients, features)
        for (indices, sent), part in zip(weighted, gradients):
            found = sent.norm(dim=1) / part[indices].norm(dim=1)
            torch.testing.assert_close(sent, part[indices] * found[:, None])
            weights.append(torch.zeros(len(part), dtype=torch.float64).index_put_((indices,), found))
        return weighted

    weights: list[Tensor] = []
    step = sgs_step(encoder, videos, loss, samples=ByGradient(remember), micro_batch=2, first_pass_cache=keep)
    assert [len(sample) for sample in step.samples] == [3, 2]
    torch.testing.assert_close(_gradient(encoder), torch.cat(weights) @ parts, rtol=1e-9, atol=1e-12)

    # 3. Over many draws it comes to the whole gradient; unscaled random sampling comes to a third of it.
    generator, total, draws = seeded(6), torch.zeros(len(parts), dtype=torch.float64), 3000
    for _ in range(draws):
        for norms, start, count in ((seen[0], 0, 3), (seen[1], 10, 2)):
            indices, found = sample_by_norm(norms, count, generator=generator)
            total[start + indices] += found
    whole = parts.sum(0)
    assert ((total / draws) @ parts - whole).norm() < 0.03 * whole.norm()


def test_it_comes_closer_than_random_sampling_where_norms_are_uneven() -> None:
    norms = torch.rand(40, generator=seeded(7)).double() ** 4
    parts = norms[:, None] * torch.randn(40, 64, generator=seeded(8)).double()
    errors: dict[str, float] = {"random": 0.0, "gradnorm": 0.0}
    generator = seeded(9)
    for _ in range(100):
        chosen = torch.randperm(40, generator=generator)[:6]
        errors["random"] += (parts[chosen].sum(0) * 40 / 6 - parts.sum(0)).norm().item()
        indices, weights = sample_by_norm(norms, 6, generator=generator)
        errors["gradnorm"] += (weights @ parts[indices] - parts.sum(0)).norm().item()
    assert errors["gradnorm"] < 0.6 * errors["random"]
