"""RoI-align, sample by sample (method, section 2.2)."""

import math

import torch
from torch import Tensor


def roi_align(features: Tensor, proposals: Tensor, bins: int) -> Tensor:
    """(T, C) features and (K, 2) proposals in snippets -> (K, R, C)."""
    num_snippets = features.shape[0]
    rows = []
    for low, high in proposals:
        width = torch.clamp(high - low, min=1)
        count = math.ceil(float(width / bins))
        for r in range(bins):
            total = torch.zeros_like(features[0])
            for j in range(count):
                x = float(low + r * (width / bins) + (j + 0.5) * (width / bins) / count)
                if x < -1 or x > num_snippets:
                    continue
                x = min(max(x, 0.0), num_snippets - 1)
                left = int(x)
                right = min(left + 1, num_snippets - 1)
                total = total + (1 - (x - left)) * features[left] + (x - left) * features[right]
            rows.append(total / count)
    return torch.stack(rows).view(len(proposals), bins, -1)
