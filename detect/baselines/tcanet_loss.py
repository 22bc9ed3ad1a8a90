"""TCANet's loss (TCANet, section 3.4; the public code where the paper leaves open)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ..loss.losses import UniformSource
from ..loss.targets import Matches, aligned_iou, offset_targets
from .regressor import RefinementStep

POSITIVE_IOU = (0.5, 0.6, 0.7)
LOW_IOU = 0.3


def tcanet_loss(steps: Sequence[RefinementStep], matches: Matches, *, draw: UniformSource) -> dict[str, Tensor]:
    """Sum each step's loss over a batch; all counts pool over it.

    Parameters
    ----------
    matches
        The action of each proposal, which it keeps through the steps.
    draw
        Uniform numbers, called step by step: middle IoU, low IoU.

    Returns
    -------
    dict
        Scalars `step1` .. `step3`.
    """
    parts = {}
    for number, (step, positive_iou) in enumerate(zip(steps, POSITIVE_IOU), start=1):
        iou = aligned_iou(step.proposals, matches.segments)
        wanted = offset_targets(step.proposals, matches.segments)
        positive = (iou >= positive_iou).to(step.offsets.dtype)
        error = F.smooth_l1_loss(step.offsets, wanted.to(step.offsets.dtype), reduction="none").sum(dim=2)
        regression = (error * positive).sum() / positive.sum().clamp(min=1)
        parts[f"step{number}"] = regression + _iou_loss(step.iou, iou, positive_iou, draw=draw)
    return parts


def _iou_loss(prediction: Tensor, target: Tensor, high_iou: float, *, draw: UniformSource) -> Tensor:
    """Smooth L1 over all high IoU, and about as many of the middle and of the low ones."""
    high = target > high_iou
    counted = high
    for part in ((target > LOW_IOU) & ~high, target <= LOW_IOU):
        share = high.sum() / part.sum().clamp(min=1)
        counted = counted | (part & (draw(target) > 1 - share))
    weights = counted.to(prediction.dtype)
    error = F.smooth_l1_loss(prediction, target.to(prediction.dtype), reduction="none")
    return (error * weights).sum() / weights.sum().clamp(min=1)
