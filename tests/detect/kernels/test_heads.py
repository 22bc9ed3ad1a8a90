import weakref
from typing import Any

import pytest
import torch

from etad.detect.kernels import heads, one_thread
from etad.detect.kernels.projection import COLUMN_BLOCK, packed, unpacked
from etad.detect.kernels.workspace import Workspace
from etad.detect.model.cascade import CascadeStage


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


def test_a_workspace_grows_and_is_used_again() -> None:
    workspace = Workspace(torch.zeros(1))
    small, large = workspace("a", 2, 3), workspace("a", 4, 5)
    assert small.shape == (2, 3) and large.shape == (4, 5)
    assert workspace("a", 3).data_ptr() == large.data_ptr()
    assert workspace("b", 3).data_ptr() != large.data_ptr()


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
    layers = [torch.randn(5, bins * 2 * COLUMN_BLOCK) for bins in (8, 2, 2)]
    whole = packed(layers, 2 * COLUMN_BLOCK, torch.float32)
    assert whole.shape == (2, 5, 12 * COLUMN_BLOCK)
    # The start layer's second bin, whose columns 128.. are the second part's.
    assert torch.equal(
        whole[1, :, 9 * COLUMN_BLOCK : 10 * COLUMN_BLOCK], layers[1][:, 3 * COLUMN_BLOCK : 4 * COLUMN_BLOCK]
    )
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


@pytest.mark.parametrize(("block", "threads"), [(1024, 2), (7, 1), (7, 2), (7, 3)])
def test_the_projected_and_the_direct_route_agree_forward_and_backward(
    block: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etad.detect.kernels.blocks.BLOCK", block)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check_both_routes_agree(num_videos=3 if threads == 2 else 2)
    finally:
        torch.set_num_threads(before)


def check_both_routes_agree(num_videos: int) -> None:
    generator = torch.Generator().manual_seed(3)
    stage = CascadeStage(bins=8, num_classes=3).double()
    x = torch.randn(num_videos, 256, 16, generator=generator, dtype=torch.float64, requires_grad=True)
    start = torch.rand(num_videos, 40, 1, generator=generator, dtype=torch.float64) * 0.9
    proposals = torch.cat([start, start + 0.2], dim=2)
    few = proposals[:, :16]
    by_table, by_roi = stage(x, proposals), stage(x, few)  # more proposals than snippets take the table
    for name in ("offsets", "iou", "boundary", "class_logits"):
        ours, expected = getattr(by_table, name)[:, :16], getattr(by_roi, name)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
        weight = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
        wanted = [x, *stage.parameters()]
        for a, b in zip(
            *(
                torch.autograd.grad((each * weight).sum(), wanted, retain_graph=True, allow_unused=True)
                for each in (ours, expected)
            )
        ):
            a, b = (torch.zeros(()) if each is None or not each.any() else each for each in (a, b))
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11, check_dtype=False)


def test_the_table_is_made_from_so_many_proposals_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etad.detect.kernels.evaluation.FEW", 320)  # as it is outside of tests
    stage, called = CascadeStage(bins=8), []
    run = heads.run_heads

    def watched(*arguments: Any, **how: Any) -> Any:
        called.append(True)
        return run(*arguments, **how)

    monkeypatch.setattr("etad.detect.kernels.evaluation.run_heads", watched)
    for count, is_table in ((16 + 320 // 8, False), (16 + 320 // 8 + 1, True)):
        with torch.no_grad():
            stage(torch.randn(1, 256, 16), torch.rand(1, count, 2).sort(dim=2).values)
        assert bool(called) == is_table
