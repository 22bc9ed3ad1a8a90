"""Which of BMN's proposals TCANet refines."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..model.network import Predicted
from ..results.nms import select_by_boundary, snippets_of, soft_nms

# Of soft-NMS, as the public code has it.
SIGMA = 0.4


def pick(predicted: Predicted, count: int) -> tuple[Tensor, Tensor]:
    """Pick proposals of each window by score: first those that soft-NMS keeps, then, to make up the number, the rest.

    Returns
    -------
    rows
        (B, k) their numbers, where k is `count`, or the number of all proposals.
    scores
        (B, k) products of their startness, endness and IoUs; 0 of those that only make up the number, which BMN does
        not propose.
    """
    segments, iou, boundary = (each.detach().cpu().double().numpy() for each in predicted[:3])
    count = min(count, segments.shape[1])
    scores, candidates = [], []
    for own, own_iou, (startness, endness) in zip(segments, iou, boundary):
        first, last = snippets_of(own, len(startness))
        scores.append(own_iou.prod(axis=1) * startness.take(first) * endness.take(last))
        candidates.append(select_by_boundary(own, startness, endness))
    kept = soft_nms(
        [own[rows] for own, rows in zip(segments, candidates)],
        [own[rows] for own, rows in zip(scores, candidates)],
        sigma=SIGMA,
        most_kept=count,
    )
    picked = [_filled_up(rows[best.index], own, count) for rows, best, own in zip(candidates, kept, scores)]
    rows = np.stack(picked)
    chosen = np.take_along_axis(np.stack(scores), rows, axis=1)
    for own, best in zip(chosen, kept):
        own[len(best.index) :] = 0.0
    device = predicted.segments.device
    return torch.from_numpy(rows).to(device), torch.from_numpy(chosen).to(device, predicted.iou.dtype)


def _filled_up(rows: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """Some rows, and the best of the others up to a number of them."""
    others = np.setdiff1d(np.argsort(-scores, kind="stable")[: 2 * count], rows, assume_unique=True)
    others = others[np.argsort(-scores[others], kind="stable")]
    return np.concatenate([rows, others[: count - len(rows)]])
