import torch

from etad.detect.baselines.bmn import Bmn
from etad.detect.baselines.bmn_loss import (
    balanced_squared_error,
    bmn_loss,
    boundary_labels,
    weighted_cross_entropy,
)
from etad.detect.loss.targets import Actions, match
from etad.detect.model.proposals import boundaries, lattice
from reference import bmn as plain

SAMPLING = {"num_samples": 3, "samples_per_bin": 2, "extension": 0.5}
SIZES = {"in_channels": 8, "num_snippets": 6, "max_duration": 5, "width_1d": 8, "width_2d": 4, "width_3d": 6}


def network(**changes: object) -> Bmn:
    torch.manual_seed(0)
    return Bmn(**SIZES | SAMPLING | changes).double()  # type: ignore[arg-type]


def test_the_network_equals_the_plain_one_forward_and_backward() -> None:
    features = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    start, duration = lattice(6, 5).unbind(1)
    found = {}
    for kernels in ("fast", "reference"):
        bmn = network(kernels=kernels)
        output = bmn(features)
        gradients = torch.autograd.grad((output.iou**2).sum() + output.boundary.sum(), list(bmn.parameters()))
        found[kernels] = [output.boundary, output.iou, *gradients]
    weights = {name: each.detach().requires_grad_() for name, each in network().named_parameters()}
    outputs = [plain.network(weights, window, 5, **SAMPLING) for window in features]
    boundary = torch.stack([torch.stack(each[:2]) for each in outputs])
    iou = torch.stack([each[2][:, duration - 1, start].T for each in outputs])
    gradients = torch.autograd.grad((iou**2).sum() + boundary.sum(), list(weights.values()))
    for kernels in found:
        for ours, expected in zip(found[kernels], [boundary, iou, *gradients]):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


def test_bfloat16_rounds_what_is_said_and_its_gradients_but_not_the_scores() -> None:
    features = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(1))
    for kernels in ("fast", "reference"):
        found = {}
        for precision in ("float32", "bfloat16"):
            bmn = network(kernels=kernels, num_classes=3).float()
            bmn.compute_with(precision=precision, kernels=kernels)
            output = bmn(features)
            loss = torch.stack([(each**2).sum() for each in output.tensors()]).sum()
            found[precision] = [*output.tensors(), *torch.autograd.grad(loss, list(bmn.parameters()))]
        assert not torch.equal(found["float32"][1], found["bfloat16"][1])
        for exact, rounded in zip(found["float32"], found["bfloat16"]):
            assert rounded.dtype == torch.float32
            assert (exact - rounded).norm() < 0.02 * exact.norm()
        assert (found["bfloat16"][1] != found["bfloat16"][1].bfloat16()).any()


def test_a_grid_of_proposals_is_looked_up_in_the_map() -> None:
    bmn, features = network(num_classes=3).eval(), torch.randn(2, 8, 6, dtype=torch.float64)
    proposals = boundaries(lattice(6, 5), 6)
    with torch.no_grad():
        whole, some = bmn.predict(features, proposals), bmn.predict(features, proposals[[0, 7, 19]])
        without = network().eval().predict(features, proposals)
    for each, expected in zip(some, whole):
        rows = [0, 7, 19] if each.shape[1] == 3 else slice(None)
        assert torch.equal(each, expected[:, rows].to(each.dtype))
    assert whole.class_scores.shape == (2, 20, 3) and without.class_scores.shape == (2, 20, 0)


def test_padding_says_nothing_and_is_no_boundary() -> None:
    bmn, features = network(standardise=True), torch.randn(2, 8, 6, dtype=torch.float64)
    bmn.standardise_by(torch.full((8,), 5.0), torch.full((8,), 2.0))
    mask = torch.ones(2, 1, 6, dtype=torch.float64)
    mask[1, :, 4:] = 0
    features = features * mask
    predicted = bmn.predict(features, boundaries(lattice(6, 5), 6), mask)
    assert (predicted.boundary[1, :, 4:] == 0).all() and (predicted.boundary[0] > 0).all()
    alone = bmn.predict(features[:1], boundaries(lattice(6, 5), 6))
    torch.testing.assert_close(predicted.iou[0], alone.iou[0])


def test_a_padded_window_reads_as_one_that_ends_with_its_snippets() -> None:
    features = torch.randn(1, 8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alone, wide = network(), network(num_snippets=10)
    wide.load_state_dict(alone.state_dict())
    mask = (torch.arange(10) < 6).double()[None, None]
    read = []
    for bmn in (alone, wide):
        seen = bmn.x_1d_p.register_forward_hook(lambda _module, _inputs, x: read.append(x.detach()))
        padded = torch.nn.functional.pad(features, (0, 4)) if bmn is wide else features
        output = bmn(padded, mask if bmn is wide else None)
        seen.remove()
        read.append(output.boundary[:, :, :6].detach())
    torch.testing.assert_close(read[0], read[2][:, :, :6])
    torch.testing.assert_close(read[1], read[3])
    # What boundary matching reads of the padding is what it reads beyond a window.
    proposals = [boundaries(lattice(6, 5), 6), boundaries(lattice(10, 5), 10) * 10]
    of_wide = wide.matching.sample(read[2] * mask)[0]
    inside = [int((proposals[1] - each * 6).abs().sum(dim=1).argmin()) for each in proposals[0]]
    torch.testing.assert_close(alone.matching.sample(read[0])[0], of_wide[..., inside])


SEGMENTS = [[(0.1, 0.55), (0.5, 0.71)], [], [(0.0, 1.0)]]


def test_labels_and_loss_equal_the_plain_ones_forward_and_backward() -> None:
    generator = torch.Generator().manual_seed(2)
    actions = Actions.of(
        [torch.tensor(each, dtype=torch.float64).reshape(-1, 2) for each in SEGMENTS],
        [torch.zeros(len(each)) for each in SEGMENTS],
    )
    proposals = boundaries(lattice(6, 6), 6).double()
    boundary = torch.rand(3, 2, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    iou = torch.rand(3, len(proposals), 2, generator=generator, dtype=torch.float64, requires_grad=True)
    draws = [torch.rand(3, len(proposals), generator=generator) for _ in range(2)]
    output = network(max_duration=6).output_of([boundary, iou])
    drawn = iter(draws)
    parts = bmn_loss(
        output,
        match(proposals, actions),
        proposals,
        boundary_labels(actions, 6),
        draw=lambda _: next(drawn),
    )
    labels = [plain.labels(each, 6) for each in SEGMENTS]
    boundary_label = torch.tensor([each[0] for each in labels])
    torch.testing.assert_close(boundary_labels(actions, 6), boundary_label)
    cells = [(int(duration), int(start)) for start, duration in lattice(6, 6)]
    iou_label = torch.tensor([[each[1][cell] for cell in cells] for each in labels])
    entropies = [plain.weighted_cross_entropy(boundary[:, i], boundary_label[:, i], 0.5) for i in (0, 1)]
    expected = sum(entropies) + 10 * plain.balanced_squared_error(iou[..., 0], iou_label, draws)
    expected = expected + plain.weighted_cross_entropy(iou[..., 1], iou_label, 0.9)
    torch.testing.assert_close(parts["loss"], expected, rtol=1e-6, atol=0)
    wanted = torch.autograd.grad(expected, [boundary, iou])
    for found, each in zip(torch.autograd.grad(parts["loss"], [boundary, iou]), wanted):
        torch.testing.assert_close(found, each, rtol=1e-5, atol=1e-8)


def test_a_batch_without_actions_learns_that_nothing_is_there_and_has_no_iou_to_regress() -> None:
    said, nothing = torch.full((2, 5), 0.3, requires_grad=True), torch.zeros(2, 5)
    assert weighted_cross_entropy(said, nothing > 0.5).isfinite()
    error = balanced_squared_error(said, nothing, draw=torch.rand_like)
    assert error == 0
    error.backward()
