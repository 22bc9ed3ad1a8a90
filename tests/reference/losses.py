"""Targets and losses, entry by entry (method, section 3)."""

import math

import torch
from torch import Tensor


def boundary_targets(segments: list[tuple[float, float]], num_snippets: int) -> list[list[float]]:
    rows = []
    for side in (0, 1):
        row = []
        for t in range(num_snippets):
            best = 0.0
            for segment in segments:
                low, high = segment[side] - 1.5 / num_snippets, segment[side] + 1.5 / num_snippets
                best = max(best, min(high, (t + 1) / num_snippets) - max(low, t / num_snippets))
            row.append(best / (1 / num_snippets + 1e-6))
        rows.append(row)
    return rows


def iou(a: tuple[float, float], b: tuple[float, float], epsilon: float = 0.0) -> float:
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return inter / ((a[1] - a[0]) + (b[1] - b[0]) - inter + epsilon)


def balanced_cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    entries = list(zip(prediction.flatten(), target.flatten()))
    positives = [p for p, t in entries if t > 0.5]
    negatives = [p for p, t in entries if t <= 0.5]
    of_positives = -sum((torch.log(p + 1e-6) for p in positives), torch.zeros(()))
    of_negatives = -sum((torch.log(1 - p + 1e-6) for p in negatives), torch.zeros(()))
    if not positives or not negatives:
        return (of_positives + of_negatives) / len(entries)
    return 0.5 * (of_positives / len(positives) + of_negatives / len(negatives))


def sampled_squared_error(prediction: Tensor, target: Tensor, draws: list[Tensor]) -> Tensor:
    """The `paper` reading: where positives outnumber a part, all of it is kept."""
    num_positive = int((target > 0.7).sum())
    if num_positive == 0:
        return ((prediction - target) ** 2).mean()
    kept = [i for i in range(len(target)) if target[i] > 0.7]
    for draw, (low, high) in zip(draws, ((0.3, 0.7), (-math.inf, 0.3))):
        part = [i for i in range(len(target)) if low < target[i] <= high]
        kept += [i for i in part if draw[i] > 1 - num_positive / len(part)]
    return ((prediction[kept] - target[kept]) ** 2).mean()
