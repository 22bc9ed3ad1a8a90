import numpy as np
import torch

from etad.detect.baselines.bmn import Bmn
from etad.detect.baselines.picks import pick
from etad.detect.baselines.refined import RefinedBmn
from etad.detect.baselines.refined_objective import drop_of_batch
from etad.detect.baselines.regressor import RefinementStep
from etad.detect.baselines.tcanet import Tcanet
from etad.detect.baselines.tcanet_loss import tcanet_loss
from etad.detect.loss.targets import Matches
from etad.detect.model.network import Predicted
from etad.detect.model.proposals import boundaries, lattice
from reference import tcanet as plain

SEGMENTS = [[(0.1, 0.45), (0.3, 0.95)], [(0.0, 0.2), (0.62, 1.0)]]


def network(**changes: object) -> Tcanet:
    torch.manual_seed(0)
    sizes = {"in_channels": 8, "width": 8, "encoders": 1, "heads": 4, "window": 3}
    return Tcanet(**sizes | {"boundary_samples": 4, "action_samples": 8} | changes).double()  # type: ignore[arg-type]


def test_the_network_equals_the_plain_one_forward_and_backward() -> None:
    features = torch.randn(2, 8, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tcanet = network()
    steps = tcanet(features, torch.tensor(SEGMENTS, dtype=torch.float64))
    weights = {name: each.detach().clone().requires_grad_() for name, each in tcanet.named_parameters()}
    said = torch.stack(
        [
            torch.stack([plain.network(weights, x, each, heads=4, window=3, samples=4) for each in own])
            for x, own in zip(features, SEGMENTS)
        ]
    ).permute(2, 0, 1, 3)
    ours = torch.stack([torch.cat([step.offsets, step.iou[..., None]], dim=2) for step in steps])
    expected = torch.cat([said[..., :4], said[..., 4:].sigmoid()], dim=3)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
    wanted = torch.autograd.grad((expected**2).sum(), list(weights.values()))
    for found, each in zip(torch.autograd.grad((ours**2).sum(), list(tcanet.parameters())), wanted):
        torch.testing.assert_close(found, each, rtol=0, atol=1e-10)
    for training, share in ((True, 1.0), (False, 0.2)):
        moved = plain.refined(SEGMENTS[1][0], said[0, 1, 0, :4], share=share)
        assert torch.allclose(steps[0].refined(training=training)[1, 0], torch.tensor(moved, dtype=torch.float64))


def test_bfloat16_rounds_what_is_said_and_its_gradients_but_not_the_scores() -> None:
    features = torch.randn(2, 8, 7, generator=torch.Generator().manual_seed(1))
    found = {}
    for precision in ("float32", "bfloat16"):
        tcanet = network().float()
        tcanet.compute_with(precision=precision)
        steps = tcanet(features, torch.tensor(SEGMENTS))
        said = torch.stack([torch.cat([step.offsets, step.iou[..., None]], dim=2) for step in steps])
        found[precision] = [said, *torch.autograd.grad((said**2).sum(), list(tcanet.parameters()))]
    assert not torch.equal(found["float32"][0], found["bfloat16"][0])
    for exact, rounded in zip(found["float32"], found["bfloat16"]):
        assert rounded.dtype == torch.float32
        assert (exact - rounded).norm() < 0.06 * exact.norm()  # some nearly cancel
    whole = {name: torch.cat([each.flatten() for each in tensors]) for name, tensors in found.items()}
    assert (whole["float32"] - whole["bfloat16"]).norm() < 0.02 * whole["float32"].norm()
    assert (found["bfloat16"][0] != found["bfloat16"][0].bfloat16()).any()


def test_the_loss_equals_the_plain_one_forward_and_backward() -> None:
    generator = torch.Generator().manual_seed(2)
    starts = torch.rand(3, 12, generator=generator, dtype=torch.float64) * 0.5
    proposals = torch.stack([starts, starts + 0.4], dim=2).float()
    actions = torch.stack([starts.flip(1), starts.flip(1) + 0.35], dim=2).float()
    actions[0] = proposals[0] + 0.02
    given, draws, expected = [], [], torch.zeros((), dtype=torch.float64)
    for number in range(3):
        offsets = torch.randn(3, 12, 4, generator=generator, dtype=torch.float64).requires_grad_()
        iou = torch.rand(3, 12, generator=generator, dtype=torch.float64).requires_grad_()
        given.append(RefinementStep(proposals, offsets, iou))
        draws += [torch.rand(3, 12, generator=generator) for _ in range(2)]
        expected = expected + plain.step_loss(
            offsets.flatten(0, 1),
            iou.flatten(),
            [tuple(each) for each in proposals.flatten(0, 1).tolist()],
            [tuple(each) for each in actions.flatten(0, 1).tolist()],
            positive_iou=(0.5, 0.6, 0.7)[number],
            draws=[each.flatten() for each in draws[-2:]],
        )
    drawn = iter(draws)
    parts = tcanet_loss(given, Matches(actions, torch.zeros(3, 12)), draw=lambda _: next(drawn))
    loss = torch.stack(list(parts.values())).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    inputs = [each for step in given for each in (step.offsets, step.iou)]
    for found, each in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs)):
        torch.testing.assert_close(found, each, rtol=1e-4, atol=1e-7)


def test_padding_changes_nothing_of_what_is_said_of_real_snippets() -> None:
    tcanet = network(standardise=True)
    features = torch.randn(1, 8, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mask = (torch.arange(9) < 6).double()[None, None]
    proposals = torch.tensor([[[0.1, 0.2]]], dtype=torch.float64)
    said = [tcanet(features * mask + (1 - mask) * noise, proposals, mask) for noise in (0.0, 50.0)]
    assert said[0][-1].offsets.isfinite().all()
    torch.testing.assert_close(said[0][-1].offsets, said[1][-1].offsets)
    # Nor is it another window than one that ends with them.
    alone = tcanet(features[:, :, :6], proposals * 9 / 6)[0].offsets
    torch.testing.assert_close(said[0][0].offsets, alone)


def test_nothing_begins_before_the_window() -> None:
    offsets = torch.tensor([[[-3.0, -3.0, -3.0, 0.0]]])
    step = RefinementStep(torch.tensor([[[0.0, 0.2]]]), offsets, torch.ones(1, 1))
    for training in (True, False):
        assert step.refined(training=training).min() == 0


def test_what_soft_nms_keeps_is_picked_first_and_the_best_of_the_rest_make_up_the_number() -> None:
    proposals = boundaries(lattice(4, 4), 4)
    boundary = torch.tensor([[[0.9, 0.1, 0.8, 0.1], [0.1, 0.1, 0.7, 0.9]]])
    iou = torch.rand(1, 10, 2, generator=torch.Generator().manual_seed(4))
    found = Predicted(proposals[None], iou, boundary, iou.new_zeros(1, 10, 0))
    every, scores = pick(found, 99)
    assert sorted(every[0].tolist()) == list(range(10))
    some, _ = pick(found, 3)
    assert torch.equal(some[0], every[0, :3])
    start, end = ((proposals * 4).long().T).clamp(max=3)
    product = iou[0].prod(dim=1) * boundary[0, 0][start] * boundary[0, 1][end]
    may = {row for row in range(10) if start[row] in (0, 2) and end[row] in (2, 3)}
    assert set(every[0, : len(may)].tolist()) == may and every[0, 0] == product.argmax()
    # The rest is not proposed.
    torch.testing.assert_close(scores[0, : len(may)], product[every[0, : len(may)]])
    assert (scores[0, len(may) :] == 0).all()


def test_a_refined_score_is_bmns_times_the_last_steps_iou() -> None:
    bmn = Bmn(
        in_channels=8, num_snippets=6, max_duration=6, num_samples=2, samples_per_bin=2, extension=0.5,
        width_1d=8, width_2d=4, width_3d=4, num_classes=3,
    ).double()  # fmt: skip
    for chain in (bmn.x_1d_s, bmn.x_1d_e):  # sure of its boundaries, so that not all is proposed
        chain[2].weight.data.mul_(300)
    refined = RefinedBmn(bmn, network(), num_proposals=21)
    features, proposals = torch.randn(2, 8, 6, dtype=torch.float64), boundaries(lattice(6, 6), 6).double()
    with torch.no_grad():
        predicted, of_bmn = refined.predict(features, proposals), bmn.predict(features, proposals)
        rows, scores = pick(of_bmn, 21)
        last = refined.tcanet(features, proposals[rows])[-1]
    proposed = scores > 0
    assert proposed.any(dim=1).all() and not proposed.all()
    assert torch.equal(predicted.segments[proposed], last.refined(training=False)[proposed])
    assert (predicted.segments[~proposed] == 0).all(), "of no length, and so no detections"
    assert torch.equal(predicted.iou.prod(dim=2), scores * last.iou) and (predicted.boundary == 1).all()
    assert torch.equal(predicted.class_scores[1], of_bmn.class_scores[1, rows[1]])


def test_a_window_drops_the_same_whichever_rank_has_it() -> None:
    x = torch.ones(5, 200, 8)
    whole = drop_of_batch(0.25, 11, own=range(5), total=5)
    parts = [drop_of_batch(0.25, 11, own=own, total=5) for own in (range(2), range(2, 5))]
    for _ in range(2):
        assert torch.equal(whole(x), torch.cat([parts[0](x[:2]), parts[1](x[2:])]))
    dropped = whole(x)
    np.testing.assert_allclose([(dropped == 0).double().mean(), dropped.mean()], [0.25, 1.0], atol=0.03)
