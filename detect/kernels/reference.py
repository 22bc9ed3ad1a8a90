"""RoI-align in plain PyTorch, for debugging: one dense matrix of weights, and autograd makes the backward pass.

Takes several times the time and memory. Where a bin's samples lie is computed in the same order of operations as by
the fast kernels, as RoI-align jumps where the number of samples changes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .roi import FAR


def roi_align(features: Tensor, proposals: Tensor, *, bins: int) -> Tensor:
    """(B, T, C) features and proposals in snippets, (K, 2) or (B, K, 2) -> (B, K, R, C)."""
    weights = roi_weights(proposals, bins=bins, num_snippets=features.shape[1]).to(features.dtype)
    return (weights.flatten(-3, -2) @ features).unflatten(1, (proposals.shape[-2], bins))


def roi_mean(features: Tensor, proposals: Tensor, *, bins: int) -> Tensor:
    """Average `roi_align` over the bins: (B, T, C) features and shared (K, 2) proposals -> (B, K, C)."""
    return roi_weights(proposals, bins=bins, num_snippets=features.shape[1]).mean(dim=-2).to(features.dtype) @ features


def roi_weights(proposals: Tensor, *, bins: int, num_snippets: int) -> Tensor:
    """Write down the share of each snippet in each bin (method, section 2.2), (..., K, 2) -> (..., K, R, T)."""
    proposals = proposals.detach().to(torch.promote_types(proposals.dtype, torch.float32))
    reach = FAR * num_snippets
    low, high = proposals.nan_to_num(0.0).clamp(-reach, reach).unbind(-1)
    bin_width = (high - low).clamp(min=1) / bins
    num_samples = torch.ceil(bin_width)
    first = low[..., None] + torch.arange(bins, device=low.device, dtype=low.dtype) * bin_width[..., None]
    snippets = torch.arange(num_snippets, device=low.device, dtype=low.dtype)
    weights = low.new_zeros(*low.shape, bins, num_snippets)
    for number in range(int(num_samples.max()) if low.numel() else 0):
        x = first + ((number + 0.5) * bin_width / num_samples)[..., None]  # [..., K, R]
        counts = (number < num_samples)[..., None] & (x >= -1) & (x <= num_snippets)
        x = x.clamp(0, num_snippets - 1)
        # Linear interpolation: a snippet's share falls from 1 to 0 over the distance of one snippet.
        share = (1 - (x[..., None] - snippets).abs()).clamp(min=0)
        weights += share * (counts / num_samples[..., None])[..., None]
    return weights
