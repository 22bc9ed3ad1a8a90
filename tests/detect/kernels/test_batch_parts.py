import weakref

import pytest
import torch

from etad.detect.kernels import run_in_parts
from etad.detect.model.enhance import Enhancement


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("variant", ["lstm", "conv", "transformer"])
@pytest.mark.parametrize("masked", [False, True])
def test_parts_of_a_batch_give_what_the_whole_gives_forward_and_backward(
    threads: int, variant: str, masked: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    enhance = Enhancement(in_channels=8, variant=variant).double()  # type: ignore[arg-type]
    features = torch.randn(5, 8, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    mask = (torch.arange(6) < torch.tensor([[6], [4], [6], [3], [5]]))[:, None].double() if masked else None
    frozen = enhance.fuse.norm.bias.requires_grad_(False)
    learned = [each for each in enhance.parameters() if each.requires_grad]

    ours, expected = enhance(features, mask), enhance._enhance(features, mask)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    weight = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    ours_grads = torch.autograd.grad((ours * weight).sum(), [features, *learned])
    expected_grads = torch.autograd.grad((expected * weight).sum(), [features, *learned])
    torch.testing.assert_close(ours_grads, expected_grads, rtol=0, atol=1e-10)
    assert frozen.grad is None
    with torch.no_grad():
        torch.testing.assert_close(enhance(features, mask), expected, rtol=0, atol=1e-12)
    with torch.inference_mode():
        assert enhance(features, mask).is_inference()
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("batch", [1, 3])
def test_each_part_runs_on_one_thread_in_the_mode_of_its_caller(threads: int, batch: int) -> None:
    module, seen = torch.nn.Linear(4, 4), []

    def watched(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        seen.append((torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return module(x)

    x = torch.ones(batch, 4)
    with torch.no_grad():
        run_in_parts(watched, module, x, None, is_recurrent=True, kernels="fast")
    assert set(seen) == {(1, False, False)} and len(seen) == min(threads, batch)
    seen.clear()
    with torch.inference_mode():
        run_in_parts(watched, module, x, None, is_recurrent=True, kernels="fast")
    assert set(seen) == {(1, False, True)}
    with torch.autocast("cpu", torch.bfloat16):
        assert run_in_parts(watched, module, x, None, is_recurrent=True, kernels="fast").dtype == torch.bfloat16
    assert torch.get_num_threads() == threads


def test_long_steps_are_shared_by_threads_where_parts_would_be_uneven(threads: int) -> None:
    seen: list[tuple[int, int]] = []

    def watched(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        seen.append((len(x), torch.get_num_threads()))
        return x

    with torch.no_grad():
        run_in_parts(watched, torch.nn.Identity(), torch.ones(3, 4), None, is_recurrent=False, kernels="fast")
    assert seen == ([(3, 2)] if threads == 2 else [(3 // threads, 1)] * threads)


def test_the_graph_of_a_step_goes_with_its_backward_pass() -> None:
    module, outputs = torch.nn.Linear(4, 4), []

    def watched(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        out = module(x)
        outputs.append(weakref.ref(out))
        return out

    result = run_in_parts(watched, module, torch.ones(3, 4), None, is_recurrent=True, kernels="fast")
    assert all(each() is not None for each in outputs)
    result.sum().backward()
    assert outputs and all(each() is None for each in outputs)
    with pytest.raises(AssertionError, match="a second backward pass"):
        torch.autograd.grad(result.sum(), module.weight)


def test_features_without_a_gradient_and_twice_the_same_step() -> None:
    enhance = Enhancement(in_channels=8, variant="lstm")
    features = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(1))

    def step() -> list[torch.Tensor]:
        enhance.zero_grad()
        enhance(features).square().mean().backward()
        return [each.grad.clone() for each in enhance.parameters()]  # type: ignore[union-attr]

    first, second = step(), step()
    assert features.grad is None
    assert all(torch.equal(a, b) for a, b in zip(first, second))
