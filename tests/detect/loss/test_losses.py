import torch

from etad.detect.loss.losses import (
    balanced_cross_entropy,
    detection_loss,
    sampled_cross_entropy,
    sampled_squared_error,
)
from etad.detect.loss.targets import Actions, Matches, aligned_iou, boundary_targets, match, offset_targets
from etad.detect.model.cascade import StageOutput
from etad.detect.model.detector import Detector, DetectorOutput
from etad.detect.preset import PRESETS
from reference import losses as plain


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_boundary_targets_equal_the_plain_ones() -> None:
    segments = [(0.1, 0.42), (0.4, 0.97), (0.0, 1.0)]
    actions = Actions.of([torch.tensor(segments), torch.zeros(0, 2)], [torch.zeros(3), torch.zeros(0)])
    ours = boundary_targets(actions, 16)
    expected = torch.tensor([plain.boundary_targets(segments, 16), plain.boundary_targets([], 16)])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_matching_takes_the_first_of_equals_and_nothing_where_there_is_nothing() -> None:
    segments = torch.tensor([[0.2, 0.4], [0.2, 0.4], [0.6, 0.9]])
    actions = Actions.of([segments, torch.zeros(0, 2)], [torch.tensor([5, 6, 7]), torch.zeros(0)])
    matches = match(torch.tensor([[[0.2, 0.5], [0.7, 0.9], [0.0, 0.1]]] * 2), actions)
    assert matches.labels.tolist() == [[5, 7, 5], [-1, -1, -1]]
    assert matches.segments[1].abs().sum() == 0


def test_matching_equals_the_plain_one() -> None:
    start = rand(1, 50, 1)
    proposals = torch.cat([start, start + rand(1, 50, 1, seed=1)], dim=2)
    segments = torch.sort(rand(6, 2, seed=2).double(), dim=1).values
    matches = match(proposals, Actions.of([segments], [torch.arange(6)]))
    for number, proposal in enumerate(proposals[0].double().tolist()):
        ious = [plain.iou(tuple(proposal), tuple(segment), 1e-6) for segment in segments.tolist()]
        assert matches.labels[0, number] == ious.index(max(ious))


def test_a_reversed_proposal_has_no_overlap_and_finite_targets() -> None:
    proposals, segments = torch.tensor([[0.6, 0.4], [0.5, 0.3]]), torch.tensor([[0.4, 0.6], [0.3, 0.5]])
    assert aligned_iou(proposals, segments).tolist() == [0, 0]
    assert offset_targets(proposals, segments).isfinite().all()


def test_balanced_cross_entropy_equals_the_plain_one_forward_and_backward() -> None:
    for high in (1.0, 0.4):  # with positives and without
        prediction = rand(3, 7).requires_grad_()
        target = rand(3, 7, seed=1) * high
        ours, expected = balanced_cross_entropy(prediction, target), plain.balanced_cross_entropy(prediction, target)
        torch.testing.assert_close(ours, expected)
        (a,), (b,) = (torch.autograd.grad(loss, prediction) for loss in (ours, expected))
        torch.testing.assert_close(a, b)
    ones = torch.ones(4)
    torch.testing.assert_close(balanced_cross_entropy(rand(4), ones), plain.balanced_cross_entropy(rand(4), ones))


def test_sampled_squared_error_equals_the_plain_one() -> None:
    prediction = rand(200).requires_grad_()
    for target in (rand(200, seed=4), rand(200, seed=4) * 0.6, 0.4 + 0.6 * rand(200, seed=4)):
        draws = [rand(200, seed=5), rand(200, seed=6)]
        rest = iter(draws)
        ours = sampled_squared_error(prediction, target, draw=lambda _: next(rest), released_ratio=False)  # noqa: B023
        torch.testing.assert_close(ours, plain.sampled_squared_error(prediction, target, draws))


def test_where_positives_outnumber_the_rest_the_release_lets_everything_through() -> None:
    target = torch.tensor([0.95, 0.95, 0.95, 0.1])
    prediction = torch.full((4,), 0.5)
    released, paper = (
        sampled_cross_entropy(prediction, target, 0.9, draw=lambda p: torch.zeros(p.shape), released_ratio=released)
        for released in (True, False)
    )
    # Every entry says log 0.5; the release counts the positives among the negatives too: 7 terms over 7 entries.
    torch.testing.assert_close(released, paper)
    skewed = torch.tensor([0.9, 0.9, 0.9, 0.5])
    released, paper = (
        sampled_cross_entropy(skewed, target, 0.9, draw=lambda p: torch.zeros(p.shape), released_ratio=released)
        for released in (True, False)
    )
    assert released > paper


def example_output(batch: int = 2) -> tuple[DetectorOutput, Matches, torch.Tensor]:
    detector = Detector(in_channels=16, enhancement="conv", num_stages=2, bins=8, num_classes=3)
    start = rand(batch, 20, 1) * 0.5
    proposals = torch.cat([start, start + 0.3], dim=2)
    actions = Actions.of([torch.tensor([[0.2, 0.5]])] * batch, [torch.tensor([1])] * batch)
    output = detector(rand(batch, 16, 16), proposals)
    return output, match(proposals, actions), boundary_targets(actions, 16)


def test_videos_without_actions_give_a_finite_loss() -> None:
    output, _, _ = example_output()
    nothing = Actions.of([torch.zeros(0, 2)] * 2, [torch.zeros(0)] * 2)
    for rules in (PRESETS["paper"].loss, PRESETS["release"].loss):
        parts = detection_loss(
            output,
            match(output.stages[0].proposals, nothing),
            boundary_targets(nothing, 16),
            rules=rules,
            draw=lambda positive: rand(*positive.shape),
        )
        assert parts["loss"].isfinite()
        assert parts["class"] == 0


def test_the_parts_sum_to_the_loss_and_the_class_branch_learns() -> None:
    output, matches, target = example_output()
    parts = detection_loss(output, matches, target, rules=PRESETS["paper"].loss, draw=lambda p: rand(*p.shape))
    total = sum(value for name, value in parts.items() if name != "loss")
    torch.testing.assert_close(parts["loss"], total)
    logits = output.stages[-1].class_logits
    (grad,) = torch.autograd.grad(parts["class"], logits)
    # Positives pull towards class 1 alone.
    assert (grad.sum(dim=(0, 1)) < 0).tolist() == [False, True, False]
    assert isinstance(output.stages[0], StageOutput)
    assert output.stages[0].class_logits is None
