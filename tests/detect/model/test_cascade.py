import weakref
from typing import Any

import pytest
import torch

from etad.detect.kernels import heads
from etad.detect.kernels.projection import PART, packed, unpacked
from etad.detect.kernels.threads import one_thread
from etad.detect.kernels.workspace import Workspace
from etad.detect.model.cascade import CascadeStage
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


def test_short_products_give_nearly_the_same_and_their_gradients_point_the_same_way() -> None:
    torch.manual_seed(0)
    detector = Detector(in_channels=16, enhancement="conv", num_stages=1, bins=8, num_classes=3)
    stage = detector.stages[0]
    x = torch.randn(2, 256, 16)
    start = torch.rand(2, 40, 1) * 0.8
    proposals = torch.cat([start, start + torch.rand(2, 40, 1) * 0.4], dim=2)
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
        assert 0 < (short - whole).norm() <= 0.02 * whole.norm(), name
    for short, whole in zip(ours_grads, grads):
        if whole is not None and whole.any():
            assert torch.nn.functional.cosine_similarity(short.flatten(), whole.flatten(), dim=0) > 0.995
            assert short.norm() / whole.norm() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("trains", "most"), [(True, 4), (False, 1)])
def test_activations_are_kept_only_where_gradients_are_wanted(
    trains: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, forward = CascadeStage(bins=8), heads._forward
    made: list[weakref.ref[Any]] = []
    alive: list[int] = []
    places: list[int] = []

    def watched(*arguments: Any) -> Any:
        alive.append(sum(each() is not None for each in made))
        part = forward(*arguments)
        made.append(weakref.ref(part.hidden))
        places.append(part.hidden.data_ptr())
        return part

    monkeypatch.setattr("etad.detect.kernels.blocks.BLOCK", 10)
    monkeypatch.setattr(heads, "_forward", watched)
    proposals = torch.rand(1, 50, 2).sort(dim=2).values
    with one_thread(), torch.set_grad_enabled(trains):
        stage(torch.randn(1, 256, 16), proposals)
    assert len(alive) == 5 and max(alive) == most
    assert len(set(places)) == (5 if trains else 1), "what is not kept is written to one place"


def test_a_room_grows_and_is_used_again() -> None:
    room = Workspace(torch.zeros(1))
    small, large = room("a", 2, 3), room("a", 4, 5)
    assert small.shape == (2, 3) and large.shape == (4, 5)
    assert room("a", 3).data_ptr() == large.data_ptr()
    assert room("b", 3).data_ptr() != large.data_ptr()


def test_without_a_gradient_several_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    stage, x = CascadeStage(bins=8, num_classes=3), torch.randn(2, 256, 16)
    proposals = torch.rand(2, 50, 2).sort(dim=2).values
    monkeypatch.setattr("etad.detect.kernels.blocks.BLOCK", 20)
    trained = stage(x, proposals)
    with torch.inference_mode():
        inferred = stage(x, proposals)
    for mine, other in zip(vars(trained).values(), vars(inferred).values()):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_videos", [1, 2, 3])
def test_threads_that_share_videos_give_what_one_thread_gives(num_videos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    stage, x = CascadeStage(bins=8), torch.randn(num_videos, 256, 16, requires_grad=True)
    proposals = torch.rand(num_videos, 50, 2).sort(dim=2).values
    monkeypatch.setattr("etad.detect.kernels.blocks.BLOCK", 20)
    inputs = [x, *stage.parameters()]

    def evaluate() -> list[torch.Tensor]:
        output = stage(x, proposals)
        outputs = [output.offsets, output.iou, output.boundary]
        total = torch.stack([each.square().sum() for each in outputs]).sum()
        return [*outputs, *torch.autograd.grad(total, inputs)]

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        by_two, again = evaluate(), evaluate()
        with torch.inference_mode():
            output = stage(x, proposals)
    finally:
        torch.set_num_threads(before)
    with one_thread():
        by_one = evaluate()
    for two, same, one in zip(by_two, again, by_one, strict=True):
        assert torch.equal(two, same)
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    for mine, one in zip((output.offsets, output.iou, output.boundary), by_one):
        torch.testing.assert_close(mine, one, rtol=1e-4, atol=1e-5)


def test_packed_layers_come_back_as_they_were() -> None:
    layers = [torch.randn(5, bins * 2 * PART) for bins in (8, 2, 2)]
    whole = packed(layers, 2 * PART, torch.float32)
    assert whole.shape == (2, 5, 12 * PART)
    # The start layer's second bin, whose columns 128.. are the second part's.
    assert torch.equal(whole[1, :, 9 * PART : 10 * PART], layers[1][:, 3 * PART : 4 * PART])
    assert all(torch.equal(mine, layer) for mine, layer in zip(unpacked(whole, (8, 2, 2)), layers))


def test_short_products_end_in_long_ones_and_their_gradients_add_up_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    stage = CascadeStage(bins=8, precision="bfloat16")
    x, proposals = torch.randn(1, 256, 16), torch.rand(1, 1200, 2).sort(dim=2).values
    grads: list[torch.Tensor] = []
    for block in (1200, 5):
        monkeypatch.setattr("etad.detect.kernels.blocks.BLOCK", block)
        stage.zero_grad()
        with one_thread():
            offsets = stage(x, proposals).offsets
            offsets.sum().backward()
        assert not torch.equal(offsets, offsets.bfloat16().float()), "the last layer is rounded"
        grads.append(stage.ends.biases[3].grad.clone())  # type: ignore[union-attr]
    # Hundreds of blocks summed in bfloat16 would be off by more than a bfloat16's own rounding.
    torch.testing.assert_close(grads[1], grads[0], rtol=2e-3, atol=2e-3 * float(grads[0].abs().max()))


def test_proposals_that_videos_share_are_placed_once_and_evaluated_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, x = CascadeStage(bins=8), torch.randn(3, 256, 16, generator=torch.Generator().manual_seed(0))
    proposals = torch.rand(50, 2, generator=torch.Generator().manual_seed(1)).sort(dim=1).values
    placed: list[int] = []
    place = heads.gather_of

    def counted(own: torch.Tensor, **how: Any) -> Any:
        placed.append(len(own))
        return place(own, **how)

    monkeypatch.setattr(heads, "gather_of", counted)
    monkeypatch.setattr("etad.detect.kernels.blocks.BLOCK", 20)
    with one_thread(), torch.no_grad():
        shared = stage(x, proposals)
        assert placed == [17, 17, 16]
        apart = stage(x, proposals.expand(3, -1, -1))
        assert len(placed) == 3 + 9
    for mine, other in zip(vars(shared).values(), vars(apart).values()):
        assert mine is other is None or torch.equal(mine, other)


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


def test_placements_of_one_video_are_not_kept_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, made, alive = CascadeStage(bins=8), [], []
    place = heads.gather_of

    def watched(own: torch.Tensor, **how: Any) -> Any:
        alive.append(sum(each() is not None for each in made))
        gather = place(own, **how)
        made.append(weakref.ref(gather))
        return gather

    monkeypatch.setattr(heads, "gather_of", watched)
    with one_thread(), torch.no_grad():
        stage(torch.randn(4, 256, 16), torch.rand(4, 50, 2).sort(dim=2).values)
    assert len(alive) == 4 and max(alive) == 1
