"""BMN point by point, proposal by proposal (docs/baselines.md)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def read(features: Tensor, point: float) -> Tensor:
    """(C, T) features between two snippets: linearly, as 0 beyond them, but just before the first one as that."""
    if -1 < point < 0:
        point = 0.0
    value = torch.zeros_like(features[:, 0])
    for snippet in (math.floor(point), math.floor(point) + 1):
        if 0 <= snippet < features.shape[1]:
            value = value + (1 - abs(point - snippet)) * features[:, snippet]
    return value


def samples(features: Tensor, max_duration: int, *, num_samples: int, samples_per_bin: int, extension: float) -> Tensor:
    """(C, T) features -> (C, N, D, T), by duration and start; 0 where a proposal would end after the window."""
    length, rows = features.shape[1], []
    for duration in range(1, max_duration + 1):
        for start in range(length):
            low = start - extension * duration
            high = start + duration - 1 + extension * duration
            step = (high - low) / (num_samples * samples_per_bin - 1)
            for n in range(num_samples):
                points = [low + step * (n * samples_per_bin + p) for p in range(samples_per_bin)]
                value = torch.stack([read(features, point) for point in points]).mean(dim=0)
                rows.append(value * (start + duration <= length))
    return torch.stack(rows, dim=1).view(-1, max_duration, length, num_samples).permute(0, 3, 1, 2)


def network(weights: dict[str, Tensor], features: Tensor, max_duration: int, **sampling: float) -> tuple[Tensor, ...]:
    """(C, T) features of one window -> startness (T,), endness (T,), and the map (2, D, T)."""

    def conv(name: str, x: Tensor, *, groups: int = 1, padding: int = 1) -> Tensor:
        kind = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[weights[f"{name}.weight"].ndim]
        return kind(x[None], weights[f"{name}.weight"], weights[f"{name}.bias"], groups=groups, padding=padding)[0]

    base = conv("x_1d_b.0", features, groups=4).relu()
    base = conv("x_1d_b.2", base, groups=4).relu()
    ends = []
    for name in ("x_1d_s", "x_1d_e"):
        hidden = conv(f"{name}.0", base, groups=4).relu()
        ends.append(conv(f"{name}.2", hidden, padding=0).sigmoid()[0])
    matched = samples(conv("x_1d_p.0", base).relu(), max_duration, **sampling)  # type: ignore[arg-type]
    x = conv("x_3d_p.0", matched, padding=0).relu()[:, 0]
    x = conv("x_2d_p.0", x, padding=0).relu()
    x = conv("x_2d_p.2", x).relu()
    x = conv("x_2d_p.4", x).relu()
    return (*ends, conv("x_2d_p.6", x, padding=0).sigmoid())


def labels(segments: list[tuple[float, float]], length: int) -> tuple[list[list[float]], dict[tuple[int, int], float]]:
    """Startness and endness of each snippet, and the IoU of each proposal by duration and start."""
    rows = []
    for side in (0, 1):
        row = []
        for t in range(length):
            low, high = (t - 0.5) / length, (t + 1.5) / length
            shares = [0.0]
            for segment in segments:
                inside = min(high, segment[side] + 1.5 / length) - max(low, segment[side] - 1.5 / length)
                shares.append(max(0.0, inside) / (high - low))
            row.append(max(shares))
        rows.append(row)
    ious = {}
    for duration in range(1, length + 1):
        for start in range(length - duration + 1):
            own = (start / length, (start + duration) / length)
            found = [0.0]
            for segment in segments:
                inter = max(0.0, min(own[1], segment[1]) - max(own[0], segment[0]))
                found.append(inter / (own[1] - own[0] + segment[1] - segment[0] - inter))
            ious[duration, start] = max(found)
    return rows, ious


def weighted_cross_entropy(prediction: Tensor, target: Tensor, threshold: float) -> Tensor:
    entries = list(zip(prediction.flatten(), target.flatten()))
    num_positive = sum(bool(wanted > threshold) for _, wanted in entries)
    ratio = min(max(len(entries) / max(num_positive, 1), 1.05), 21)
    total = torch.zeros((), dtype=prediction.dtype)
    for said, wanted in entries:
        if wanted > threshold:
            total = total + 0.5 * ratio * torch.log(said + 1e-5)
        else:
            total = total + 0.5 * ratio / (ratio - 1) * torch.log(1 - said + 1e-5)
    return -total / len(entries)


def balanced_squared_error(prediction: Tensor, target: Tensor, draws: list[Tensor]) -> Tensor:
    said, wanted = prediction.flatten(), target.flatten()
    kept = [i for i in range(len(wanted)) if wanted[i] > 0.7]
    num_high = len(kept)
    for draw, (low, high) in zip(draws, ((0.3, 0.7), (0.0, 0.3))):
        part = [i for i in range(len(wanted)) if low < wanted[i] <= high]
        kept += [i for i in part if draw.flatten()[i] > 1 - num_high / len(part)]
    return 0.5 * ((said[kept] - wanted[kept]) ** 2).mean() if kept else 0 * said.sum()
