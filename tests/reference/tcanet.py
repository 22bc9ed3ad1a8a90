"""TCANet snippet by snippet, head by head, proposal by proposal (docs/baselines.md)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / ((centred**2).mean() + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def encode(weights: Weights, name: str, rows: list[Tensor], *, heads: int, window: int) -> list[Tensor]:
    """T snippets (C,) each; half of the heads see a window around a snippet."""
    width = len(rows[0])
    size = width // heads
    projected = [linear(weights, f"{name}.project", row) for row in rows]
    out = []
    for t, row in enumerate(rows):
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            seen = [s for s in range(len(rows)) if head >= heads // 2 or abs(s - t) <= window // 2]
            query = projected[t][:width][own]
            logits = torch.stack([query @ projected[s][width : 2 * width][own] / math.sqrt(size) for s in seen])
            values = torch.stack([projected[s][2 * width :][own] for s in seen])
            parts.append(logits.softmax(dim=0) @ values)
        x = norm(weights, f"{name}.norm1", row + linear(weights, f"{name}.out", torch.cat(parts)))
        hidden = linear(weights, f"{name}.widen", x).relu()
        out.append(norm(weights, f"{name}.norm2", x + linear(weights, f"{name}.narrow", hidden)))
    return out


def read(rows: list[Tensor], start: float, end: float, count: int) -> Tensor:
    """(C, count) at the middles of equal parts of a stretch, clipped to the window."""
    start, end = min(max(start, 0.0), 1.0), min(max(end, 0.0), 1.0)
    columns = []
    for i in range(count):
        point = (start + (end - start) * (i + 0.5) / count) * len(rows) - 0.5
        value = torch.zeros_like(rows[0])
        for t in (math.floor(point), math.floor(point) + 1):
            if 0 <= t < len(rows):
                value = value + (1 - abs(point - t)) * rows[t]
        columns.append(value)
    return torch.stack(columns, dim=1)


def step(weights: Weights, name: str, rows: list[Tensor], segment: tuple[float, float], samples: int) -> Tensor:
    """What one step says of one proposal: offsets of start, end, centre, width, and the IoU's logit."""

    def conv(layer: str, x: Tensor, **how: int) -> Tensor:
        return F.conv1d(x[None], weights[f"{name}.{layer}.weight"], weights[f"{name}.{layer}.bias"], **how)[0]

    def halved(layer: str, x: Tensor) -> Tensor:
        for number in (0, 2):
            x = conv(f"{layer}.{number}", x, stride=2, padding=1, groups=4).relu()
        return x

    start, end = segment
    context = 0.5 * (end - start)
    before, after = read(rows, start - context, start, samples), read(rows, end, end + context, samples)
    whole = torch.cat([before, read(rows, start, end, 2 * samples), after], dim=1)
    ends = [conv(f"{layer}.4", halved(layer, x))[0] for layer, x in (("start", before), ("end", after))]
    hidden = conv("whole.4", halved("whole", whole), groups=4).relu()
    return torch.cat([*ends, conv("whole.6", hidden)[:, 0]])


def refined(segment: tuple[float, float], offsets: Tensor, *, share: float) -> tuple[float, float]:
    """Moved by its ends and by centre and width, averaged; `share` of the offsets of the ends counts."""
    (start, end), (by_start, by_end, by_center, by_width) = segment, offsets.tolist()
    length = end - start
    center, width = (start + end) / 2 + 0.1 * by_center * length, math.exp(0.2 * by_width) * length
    return (
        max((start + share * by_start * length + center - width / 2) / 2, 0.0),
        max((end + share * by_end * length + center + width / 2) / 2, 0.0),
    )


def network(
    weights: Weights, features: Tensor, segment: tuple[float, float], *, heads: int, window: int, samples: int
) -> Tensor:
    """(C, T) features of one window and one proposal -> what the three steps say of it at inference, (3, 5)."""
    x = features
    for number in (0, 2):
        x = F.conv1d(x[None], weights[f"base.{number}.weight"], weights[f"base.{number}.bias"], padding=1, groups=4)[0]
        x = x.relu()
    rows = encode(weights, "encoders.0", list(x.T), heads=heads, window=window)
    said = []
    for number in range(3):
        said.append(step(weights, f"steps.{number}", rows, segment, samples))
        segment = refined(segment, said[-1][:4], share=0.2)
    return torch.stack(said)


def smooth_l1(difference: Tensor) -> Tensor:
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def step_loss(
    offsets: Tensor,
    iou: Tensor,
    segments: list[tuple[float, float]],
    actions: list[tuple[float, float]],
    *,
    positive_iou: float,
    draws: list[Tensor],
) -> Tensor:
    """Of proposals, (N, 4) and (N,), each with its own action."""
    overlaps, regression, positives = [], torch.zeros((), dtype=offsets.dtype), 0
    for (start, end), (low, high), own in zip(segments, actions, offsets):
        inter = max(0.0, min(end, high) - max(start, low))
        overlaps.append(inter / (end - start + high - low - inter))
        if overlaps[-1] >= positive_iou:
            length = end - start
            by_start, by_end = (low - start) / length, (high - end) / length
            wanted = [by_start, by_end, (by_start + by_end) / 2, math.log((high - low) / length + 1e-6)]
            regression = regression + sum(smooth_l1(said - each) for said, each in zip(own, wanted))
            positives += 1
    kept = [i for i, each in enumerate(overlaps) if each > positive_iou]
    num_high = len(kept)
    for draw, (low, high) in zip(draws, ((0.3, positive_iou), (-1.0, 0.3))):
        part = [i for i, each in enumerate(overlaps) if low < each <= high]
        kept += [i for i in part if draw[i] > 1 - num_high / len(part)]
    errors = [smooth_l1(iou[i] - overlaps[i]) for i in kept]
    return regression / max(positives, 1) + sum(errors) / max(len(errors), 1)
