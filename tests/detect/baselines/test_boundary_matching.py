import pytest
import torch

from etad.detect.baselines.boundary_matching import BoundaryMatching
from etad.detect.model.proposals import lattice
from reference import bmn as plain

SIZES = {"num_samples": 4, "samples_per_bin": 3, "extension": 0.5}


def at_proposals(by_duration: torch.Tensor, num_snippets: int, max_duration: int) -> torch.Tensor:
    """(..., D, T) -> (..., K), in the lattice's order."""
    start, duration = lattice(num_snippets, max_duration).unbind(1)
    return by_duration[..., duration - 1, start]


@pytest.mark.parametrize(("num_snippets", "max_duration"), [(7, 7), (9, 4), (3, 1)])
def test_the_sparse_product_equals_sampling_and_convolving_plainly(num_snippets: int, max_duration: int) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = BoundaryMatching(num_snippets=num_snippets, max_duration=max_duration, **SIZES)  # type: ignore[arg-type]
    sizes = [(3, num_snippets), (5, 3, 4), (5,)]
    mine = [torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True) for size in sizes]
    theirs = [each.detach().clone().requires_grad_() for each in mine]
    ours = layer.convolve(*mine)  # [K, O]
    sampled = plain.samples(theirs[0], max_duration, **SIZES)  # type: ignore[arg-type]
    expected = torch.einsum("cndt,ocn->dto", sampled, theirs[1]) + theirs[2]
    expected = at_proposals(expected.permute(2, 0, 1), num_snippets, max_duration).T
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
    weight = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad((ours * weight).sum(), mine)
    for found, wanted in zip(gradients, torch.autograd.grad((expected * weight).sum(), theirs)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    plainly = layer.sample(mine[0][None])[0]
    torch.testing.assert_close(plainly, at_proposals(sampled, num_snippets, max_duration), rtol=0, atol=1e-10)


def test_its_tables_follow_the_module_and_are_no_part_of_a_checkpoint() -> None:
    layer = BoundaryMatching(num_snippets=5, max_duration=5, **SIZES)  # type: ignore[arg-type]
    assert not layer.state_dict()
    x = torch.randn(2, 5, requires_grad=True)
    out = layer.convolve(x, torch.randn(3, 2, 4), torch.zeros(3))
    assert out.dtype == torch.float32 and out.shape == (15, 3)
    out.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
