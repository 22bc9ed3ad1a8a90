import pytest
import torch

from etad.detect.kernels import roi
from etad.detect.kernels.roi import gather_sum, place_samples
from reference import roi as plain

PROPOSALS = [
    [0.0, 12.0],
    [3.25, 4.0],  # shorter than one snippet
    [5.0, 2.0],  # reversed: becomes [5, 6]
    [-4.5, 9.5],  # leaves the sequence on the left
    [2.0, 30.0],  # and on the right
    [-9.0, -3.0],  # touches nothing
    [11.0, 12.0],
    [-0.75, 3.1],
]


def roi_align(features: torch.Tensor, proposals: torch.Tensor, *, bins: int) -> torch.Tensor:
    """Of one video."""
    return roi.roi_align(features[None], proposals[None], bins=bins)[0]


@pytest.mark.parametrize("bins", [4, 8])
def test_roi_align_equals_the_plain_one_forward_and_backward(bins: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    proposals = torch.tensor(PROPOSALS, dtype=torch.float64)
    ours = roi_align(features, proposals, bins=bins)
    expected = plain.roi_align(features, proposals, bins)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    weight = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    (ours_grad,) = torch.autograd.grad((ours * weight).sum(), features)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), features)
    torch.testing.assert_close(ours_grad, expected_grad, rtol=0, atol=1e-12)


def test_many_random_proposals_equal_the_plain_ones_in_float32() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(16, 3, generator=generator)
    proposals = torch.rand(60, 2, generator=generator) * 40 - 12
    ours = roi_align(features, proposals, bins=8)
    torch.testing.assert_close(ours, plain.roi_align(features, proposals, 8), rtol=1e-5, atol=1e-6)


def test_a_sample_that_rounding_carries_over_a_snippet_counts_for_its_neighbour() -> None:
    proposals = torch.tensor([[3.499999761581421, 19.5], [3.499999523162842, 27.5], [1.4999995231628418, 25.5]])
    low, high = proposals[0]
    first, second = (low + (0.5 + sample) * (high - low) / 16 for sample in (0, 1))
    assert second.floor() - first.floor() == 2, "rounding carries nothing here: choose another proposal"
    features = torch.randn(32, 3, generator=torch.Generator().manual_seed(2))
    expected = plain.roi_align(features, proposals, 8)
    torch.testing.assert_close(roi_align(features, proposals, bins=8), expected, rtol=1e-5, atol=1e-5)


def test_bins_of_a_proposal_are_those_of_all_bins() -> None:
    proposals = torch.tensor(PROPOSALS)
    placed = place_samples(proposals, bins=8, num_snippets=12)
    table = torch.randn(5 + 3 * 12, 4, generator=torch.Generator().manual_seed(3))
    terms = placed.by_proposal((slice(2, 5), 3), stride=3, step=1)
    sums = gather_sum(table, terms.row, terms.weight, terms.offsets())
    by_bin = [roi_align(table[5 + b :: 3], proposals, bins=8)[:, 2 + b] for b in range(3)]
    torch.testing.assert_close(sums, sum(by_bin, torch.zeros(len(proposals), 4)))


@pytest.mark.parametrize("short", [torch.bfloat16, torch.float16])
def test_short_numbers_and_wanted_gradients_change_no_placement(short: torch.dtype) -> None:
    features = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    proposals = torch.tensor([[1.5, 9.25], [-3.0, 20.5], [7.0, 7.5]])  # the same in every format
    long = roi_align(features, proposals, bins=8)
    assert torch.equal(roi_align(features, proposals.to(short).requires_grad_(), bins=8), long)


def test_no_proposals_give_no_rows() -> None:
    assert roi_align(torch.ones(4, 3), torch.zeros(0, 2), bins=8).shape == (0, 8, 3)


def test_a_runaway_proposal_stays_cheap_and_finite() -> None:
    proposals = torch.tensor([[-1e9, 1e9], [float("nan"), 3.0], [float("inf"), float("-inf")]])
    assert place_samples(proposals, bins=8, num_snippets=16).weight.numel() < 5000
    assert roi_align(torch.ones(16, 3), proposals, bins=8).isfinite().all()


def test_gather_sum_passes_gradcheck_with_empty_bags_and_unread_rows() -> None:
    table = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 3, 3, 1])
    weight = torch.tensor([0.5, 2.0, -1.0, 0.25], dtype=torch.float64)
    offsets = torch.tensor([0, 2, 2, 4])
    assert torch.autograd.gradcheck(lambda table: gather_sum(table, index, weight, offsets), table)


def test_videos_have_their_own_proposals_or_share_them() -> None:
    features = torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(4))
    first, second = torch.tensor(PROPOSALS), torch.tensor(PROPOSALS) / 2
    own = roi.roi_align(features, torch.stack([first, second]), bins=8)
    assert torch.equal(own[0], roi_align(features[0], first, bins=8))
    assert torch.equal(own[1], roi_align(features[1], second, bins=8))
    shared = roi.roi_align(features, first, bins=8)
    assert torch.equal(shared, roi.roi_align(features, torch.stack([first, first]), bins=8))
