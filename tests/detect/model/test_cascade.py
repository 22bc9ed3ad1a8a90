import pytest
import torch

from etad.detect.model.detector import Detector
from reference import detector as plain


@pytest.mark.parametrize("num_proposals", [10, 40])  # built RoI features, and the table of projected snippets
def test_the_detector_equals_the_plain_one_forward_and_backward(num_proposals: int) -> None:
    torch.manual_seed(0)
    detector = Detector(in_channels=16, enhancement="lstm", num_stages=2, bins=8)
    features = torch.randn(2, 16, 16)
    start = torch.rand(2, num_proposals, 1) * 0.8
    proposals = torch.cat([start, start + torch.rand(2, num_proposals, 1) * 0.4], dim=2)
    target = torch.rand(2, num_proposals, 2)
    found = {}
    for name, forward in (("ours", detector), ("plain", lambda *a: plain.detect(detector, *a))):
        detector.zero_grad()
        output = forward(features, proposals)
        loss = (output.averaged_boundaries() - target).square().mean() + (
            output.averaged_iou() - target
        ).square().mean()
        loss = loss + output.stages[-1].boundary.mean()
        loss.backward()
        found[name] = (output, {key: p.grad for key, p in detector.named_parameters() if p.grad is not None})
    ours, expected = found["ours"], found["plain"]
    torch.testing.assert_close(ours[0].averaged_boundaries(), expected[0].averaged_boundaries(), rtol=0, atol=1e-5)
    torch.testing.assert_close(ours[0].averaged_iou(), expected[0].averaged_iou(), rtol=0, atol=1e-5)
    assert ours[1].keys() == expected[1].keys()
    for key, gradient in expected[1].items():
        assert (ours[1][key] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, key


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("num_proposals", [10, 40])  # built RoI features, and the table of projected snippets
def test_short_products_give_nearly_the_same_and_their_gradients_point_the_same_way(
    num_proposals: int, kernels: str
) -> None:
    torch.manual_seed(0)
    detector = Detector(in_channels=16, enhancement="conv", num_stages=1, bins=8, num_classes=3, kernels=kernels)
    stage = detector.stages[0]
    x = torch.randn(2, 256, 16)
    start = torch.rand(2, num_proposals, 1) * 0.8
    proposals = torch.cat([start, start + torch.rand(2, num_proposals, 1) * 0.4], dim=2)
    found = {}
    for precision in ("float32", "bfloat16"):
        stage.precision = precision
        output = stage(x, proposals)
        loss = output.offsets.square().mean() + output.iou.mean() + output.class_logits.square().mean()
        found[precision] = (output, torch.autograd.grad(loss, list(stage.parameters()), allow_unused=True))
    (ours, ours_grads), (expected, grads) = found["bfloat16"], found["float32"]
    for name in ("offsets", "iou", "boundary", "class_logits"):
        short, whole = getattr(ours, name), getattr(expected, name)
        assert short.dtype == torch.float32
        assert not torch.equal(short, short.bfloat16().float()), f"the last layer of {name} is rounded"
        assert 0 < (short - whole).norm() <= 0.02 * whole.norm(), name
    for short, whole in zip(ours_grads, grads):
        if whole is not None and whole.any():
            assert torch.nn.functional.cosine_similarity(short.flatten(), whole.flatten(), dim=0) > 0.995
            assert short.norm() / whole.norm() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("num_proposals", [10, 40])  # built RoI features, and the table of projected snippets
def test_shared_proposals_train_as_copies_of_them_do(num_proposals: int) -> None:
    torch.manual_seed(0)
    detector, features = Detector(in_channels=16, enhancement="conv", num_stages=2, bins=8), torch.randn(3, 16, 16)
    proposals = torch.rand(num_proposals, 2).sort(dim=1).values
    found = []
    for given in (proposals, proposals.expand(3, -1, -1), proposals.repeat(3, 1, 1)):
        output = detector(features, given)
        loss = output.averaged_boundaries().square().mean() + output.averaged_iou().mean()
        grads = torch.autograd.grad(loss, list(detector.parameters()), allow_unused=True)
        found.append([output.stages[0].proposals, loss, *(each for each in grads if each is not None)])
    assert found[0][0].shape == (3, num_proposals, 2)
    for others in found[1:]:
        assert all(torch.equal(mine, other) for mine, other in zip(found[0], others, strict=True))
