import pytest
import torch

from etad.detect.enhance import Enhancement


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
