"""BMN's labels and loss (BMN, section 4; the public code where the paper leaves open)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..loss.losses import UniformSource, class_loss
from ..loss.targets import Actions, Matches, aligned_iou
from .bmn import BmnOutput

EPSILON = 1e-5
# Half of a boundary's region, and how far a snippet reaches on each side of its centre, in snippets.
REGION_SNIPPETS, REACH_SNIPPETS = 1.5, 1.0
BOUNDARY_POSITIVE, IOU_POSITIVE = 0.5, 0.9
HIGH_IOU, LOW_IOU = 0.7, 0.3
REGRESSION_WEIGHT = 10.0
# Entries to each positive one, between which the weights are kept.
LEAST_RATIO, MOST_RATIO = 1.05, 21.0


def boundary_labels(actions: Actions, num_snippets: int) -> Tensor:
    """Share of each snippet, two snippets long around its centre, in the region around any start or end.

    Returns
    -------
    Tensor
        (B, 2, T) float32.
    """
    centers = torch.arange(num_snippets, dtype=torch.float64, device=actions.segments.device)[:, None] + 0.5
    boundary = actions.segments.transpose(1, 2)[:, :, None, :] * num_snippets  # [B, 2, 1, N]
    distance = (centers - boundary).abs()
    # Of two stretches of these halves; the snippet's is the shorter one.
    overlap = (REGION_SNIPPETS + REACH_SNIPPETS - distance).clamp(min=0, max=2 * REACH_SNIPPETS)
    overlap = overlap * actions.real[:, None, None, :]
    return (overlap.amax(dim=3) / (2 * REACH_SNIPPETS)).float()


def bmn_loss(
    output: BmnOutput, matches: Matches, proposals: Tensor, boundary_label: Tensor, *, draw: UniformSource
) -> dict[str, Tensor]:
    """Sum the loss of a batch; all counts pool over it.

    Parameters
    ----------
    output
        What the network says.
    matches
        The action of each proposal.
    proposals
        (K, 2) the lattice, fractions of the window.
    boundary_label
        (B, 2, T), see `boundary_labels`.
    draw
        Uniform numbers, called twice: middle IoU, low IoU.

    Returns
    -------
    dict
        Scalars: `loss`, `boundary`, `regression`, `classification`, and `class` where there is a class branch.
    """
    proposals = proposals.expand(len(output.iou), -1, -1)
    iou = aligned_iou(proposals, matches.segments)  # [B, K]
    start, end = (
        weighted_cross_entropy(output.boundary[:, i], boundary_label[:, i] > BOUNDARY_POSITIVE) for i in (0, 1)
    )
    parts = {
        "boundary": start + end,
        "regression": REGRESSION_WEIGHT * balanced_squared_error(output.iou[..., 0], iou, draw=draw),
        "classification": weighted_cross_entropy(output.iou[..., 1], iou > IOU_POSITIVE),
    }
    if output.class_logits is not None:
        parts["class"] = class_loss(output.class_logits, proposals, matches)
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


def weighted_cross_entropy(prediction: Tensor, is_positive: Tensor) -> Tensor:
    """Cross entropy in which positives and negatives weigh the same, as far as their ratio is within its bounds."""
    positive = is_positive.to(prediction.dtype)
    ratio = (positive.numel() / positive.sum().clamp(min=1)).clamp(LEAST_RATIO, MOST_RATIO)
    of_positives = 0.5 * ratio * positive * torch.log(prediction + EPSILON)
    of_negatives = 0.5 * ratio / (ratio - 1) * (1 - positive) * torch.log(1 - prediction + EPSILON)
    return -(of_positives + of_negatives).mean()


def balanced_squared_error(prediction: Tensor, target: Tensor, *, draw: UniformSource) -> Tensor:
    """Half the squared error over all high IoU, and about as many of the middle and of the low ones above 0."""
    high = target > HIGH_IOU
    counted = high
    for part in ((target > LOW_IOU) & ~high, (target > 0) & (target <= LOW_IOU)):
        share = high.sum() / part.sum().clamp(min=1)
        counted = counted | (part & (draw(target) > 1 - share))
    weights = counted.to(prediction.dtype)
    return 0.5 * ((prediction - target) ** 2 * weights).sum() / weights.sum().clamp(min=1)
