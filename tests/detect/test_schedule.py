"""Learning rates over the epochs, beside the field's own schedulers."""

import pytest
import torch

from etad.detect.schedule import RateDecay, RateSchedule

STEPS = 5


def factors(schedule: RateSchedule, epochs: int) -> list[float]:
    return [schedule.factor(epoch, step, STEPS) for epoch in range(epochs) for step in range(STEPS)]


def test_by_default_a_tenth_comes_after_the_fifth_epoch() -> None:
    assert factors(RateSchedule(), 7) == [1.0] * 25 + [0.1] * 10


def test_a_cosine_falls_as_torchs_does_and_stays_at_a_hundredth() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    plain = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3 * STEPS, eta_min=0.01)
    expected = []
    for _ in range(3 * STEPS):
        expected.append(plain.get_last_lr()[0])
        optimizer.step()
        plain.step()
    found = factors(RateSchedule("cosine", decay_after=3), 4)
    assert found[: 3 * STEPS] == pytest.approx(expected)
    assert found[3 * STEPS :] == pytest.approx([0.01] * STEPS)


@pytest.mark.parametrize("decay", ["step", "cosine"])
def test_a_warm_up_rises_linearly_to_what_comes_without(decay: RateDecay) -> None:
    plain, warm = (factors(RateSchedule(decay, 3, epochs), 3) for epochs in (0.0, 1.4))
    shares = [each / other for each, other in zip(warm, plain, strict=True)]
    assert shares == pytest.approx([min(1.0, (number + 1) / 7) for number in range(15)])


def test_a_warm_up_of_less_than_a_step_is_none() -> None:
    assert factors(RateSchedule(warmup_epochs=0.05), 1) == [1.0] * STEPS
