"""The detector's loss (A.3, method, section 3). All counts pool over the whole batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.cascade import StageOutput
from ..model.detector import DetectorOutput
from ..model.proposals import snippet_of
from ..preset import LossRules
from .targets import Matches, aligned_iou, offset_targets

# Given the mask of positives, uniform numbers of its shape. Negatives are sampled with them.
UniformSource = Callable[[Tensor], Tensor]

EPSILON = 1e-6
REGRESSION_WEIGHT = 5.0
OFFSET_WEIGHT = 10.0
POSITIVE_IOU = (0.7, 0.8, 0.9, 0.9)
CLASS_IOU = 0.5


def detection_loss(
    output: DetectorOutput, matches: Matches, boundary_target: Tensor, *, rules: LossRules, draw: UniformSource
) -> dict[str, Tensor]:
    """Sum the loss of a batch.

    Parameters
    ----------
    output
        The detector's output.
    matches
        The action of each proposal.
    boundary_target
        (B, 2, T).
    draw
        Uniform numbers, called in order: stage by stage, IoU classification, IoU regression (middle, low), start, end.

    Returns
    -------
    dict
        Scalars: `loss`, `boundary`, `stage1` .. and `class` where there is a class branch.
    """
    start, end = (balanced_cross_entropy(output.boundary[:, i], boundary_target[:, i]) for i in (0, 1))
    parts = {"boundary": start + end}
    for number, stage in enumerate(output.stages):
        parts[f"stage{number + 1}"] = _stage_loss(
            stage, matches, boundary_target, positive_iou=POSITIVE_IOU[number], rules=rules, draw=draw
        )
    logits = output.stages[-1].class_logits
    if logits is not None:
        parts["class"] = class_loss(logits, output.stages[-1].proposals, matches)
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


def balanced_cross_entropy(prediction: Tensor, target: Tensor, threshold: float = 0.5) -> Tensor:
    """Cross entropy in which positives and negatives weigh the same in total (BMN)."""
    positive = (target > threshold).to(prediction.dtype)
    negative = 1 - positive
    total, num_positive = positive.numel(), positive.sum()
    num_negative = total - num_positive
    both = (num_positive > 0) & (num_negative > 0)
    # With one class alone the weights fall back to 1, which is the plain mean over it.
    weight_positive = torch.where(both, 0.5 * total / num_positive.clamp(min=1), 1.0)
    weight_negative = torch.where(both, 0.5 * total / num_negative.clamp(min=1), 1.0)
    terms = weight_positive * positive * torch.log(prediction + EPSILON)
    terms = terms + weight_negative * negative * torch.log(1 - prediction + EPSILON)
    return -terms.mean()


def sampled_cross_entropy(
    prediction: Tensor, target: Tensor, threshold: float, *, draw: UniformSource, released_ratio: bool
) -> Tensor:
    """Cross entropy over the positives and about as many sampled negatives (`release`)."""
    positive = target > threshold
    kept = _sample(~positive, positive, draw=draw, released_ratio=released_ratio)
    in_positive, in_kept = positive.to(prediction.dtype), kept.to(prediction.dtype)
    negative_term = torch.log(1 - prediction + EPSILON)
    terms = in_positive * torch.log(prediction + EPSILON) + in_kept * negative_term
    sampled = -terms.sum() / (in_positive.sum() + in_kept.sum()).clamp(min=1)
    return torch.where(positive.any(), sampled, -negative_term.mean())


def sampled_squared_error(
    prediction: Tensor,
    target: Tensor,
    *,
    draw: UniformSource,
    released_ratio: bool,
    high: float = 0.7,
    low: float = 0.3,
) -> Tensor:
    """Squared error over IoU > 0.7 and about as many sampled from the middle and from the low ones."""
    positive = target > high
    middle, lowest = ~positive & (target > low), target <= low
    counted = positive.to(prediction.dtype)
    for part in (middle, lowest):
        counted = counted + _sample(part, positive, draw=draw, released_ratio=released_ratio)
    error = (prediction - target) ** 2
    return torch.where(positive.any(), (error * counted).sum() / counted.sum().clamp(min=1), error.mean())


def _sample(part: Tensor, positive: Tensor, *, draw: UniformSource, released_ratio: bool) -> Tensor:
    """Keep each entry of `part` with probability n_pos / n_part (method, section 3)."""
    share = positive.sum() / part.sum()
    kept = draw(positive) * part > 1 - share
    # Where positives outnumber the part, the release's formula lets every entry through, the part's or not.
    return kept if released_ratio else kept & part


def _stage_loss(
    stage: StageOutput,
    matches: Matches,
    boundary_target: Tensor,
    *,
    positive_iou: float,
    rules: LossRules,
    draw: UniformSource,
) -> Tensor:
    iou = aligned_iou(stage.proposals, matches.segments).flatten()
    predicted = stage.iou.flatten(0, 1)

    def classify(prediction: Tensor, target: Tensor, threshold: float) -> Tensor:
        if rules.sampled_negatives:
            return sampled_cross_entropy(prediction, target, threshold, draw=draw, released_ratio=rules.released_ratio)
        return balanced_cross_entropy(prediction, target, threshold)

    # 1. IoU, classified and regressed.
    iou_loss = classify(predicted[:, 0], iou, 0.9) + REGRESSION_WEIGHT * sampled_squared_error(
        predicted[:, 1], iou, draw=draw, released_ratio=rules.released_ratio
    )

    # 2. Offsets of the positives.
    positive = (iou > positive_iou).to(predicted.dtype)
    wanted = offset_targets(stage.proposals, matches.segments).flatten(0, 1)
    terms = F.smooth_l1_loss(stage.offsets.flatten(0, 1), wanted, reduction="none").sum(dim=1)
    offset_loss = (terms * positive).sum() / positive.sum().clamp(min=1)

    # 3. Startness and endness, read at the boundaries of the stage's input.
    snippet = snippet_of(stage.proposals, boundary_target.shape[2])  # [B, K, 2]
    boundary_loss = sum(
        classify(stage.boundary[..., i].flatten(), boundary_target[:, i].gather(1, snippet[..., i]).flatten(), 0.5)
        for i in (0, 1)
    )
    return iou_loss + OFFSET_WEIGHT * offset_loss + rules.proposal_boundary_weight * boundary_loss


def class_loss(logits: Tensor, proposals: Tensor, matches: Matches) -> Tensor:
    """Cross entropy of the class branch over proposals that overlap their action well (our choice)."""
    iou = aligned_iou(proposals, matches.segments)
    counted = (iou > CLASS_IOU) & (matches.labels >= 0)
    entropy = F.cross_entropy(logits.flatten(0, 1), matches.labels.flatten().clamp(min=0), reduction="none")
    return (entropy * counted.flatten()).sum() / counted.sum().clamp(min=1)
