"""RoI-align and the heads on it, by the fast kernels or by plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from . import reference, roi
from .blocks import blocks_of
from .heads import HeadWeights, LayerChains, run_heads

# The table of projected snippets costs the same for any number of proposals, and is made video by video. As many as
# there are snippets, and this many more over the number of bins, are evaluated sooner without it, all videos at once:
# with 8 bins on a CPU with bfloat16 units in two thirds of the time; in float32 it makes little difference there.
FEW = 320

_ROI = {"fast": roi, "reference": reference}


def roi_align(features: Tensor, proposals: Tensor, *, bins: int, kernels: str) -> Tensor:
    """Gather the features of every bin of every proposal.

    Parameters
    ----------
    features
        (B, T, C).
    proposals
        (K, 2) start and end in snippets, which all videos share, or (B, K, 2); may leave [0, T] and may be reversed.
    bins
        R.
    kernels
        `fast`, or `reference`: plain PyTorch.

    Returns
    -------
    Tensor
        (B, K, R, C).
    """
    return _ROI[kernels].roi_align(features, _in_dtype_of(features, proposals), bins=bins)


def roi_mean(features: Tensor, proposals: Tensor, *, bins: int, kernels: str) -> Tensor:
    """Average `roi_align` over the bins, for samplers: (B, T, C) features and shared (K, 2) proposals -> (B, K, C)."""
    return _ROI[kernels].roi_mean(features, _in_dtype_of(features, proposals), bins=bins)


def evaluate_heads(
    z: Tensor,
    proposals: Tensor,
    *,
    shared: LayerChains,
    heads: LayerChains,
    ends: LayerChains,
    bins: int,
    wants_hidden: bool,
    dtype: torch.dtype,
    kernels: str,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Evaluate every proposal: RoI-align, then the fully connected layers.

    Parameters
    ----------
    z
        (B, T, C) reduced features.
    proposals
        (K, 2) what they look at, in snippets, which all videos share, or (B, K, 2).
    shared
        One chain of one layer, (C R) -> H: what the next three begin with.
    heads
        Three chains: centre and width, IoU, startness and endness.
    ends
        Two chains on the first and the last quarter of the bins: start offset, end offset.
    bins
        R.
    wants_hidden
        Return the shared hidden layer too, for whoever builds on it.
    dtype
        Of the products, but those of the chains' last layers.
    kernels
        `fast`, or `reference`: plain PyTorch.

    Returns
    -------
    chains, hidden
        What the five chains give, (B K, 2) each before any activation, of the last two the first column alone; and the
        shared hidden layer, (B K, H) after its ReLU, or empty.
    """
    if kernels == "reference" or proposals.shape[-2] <= z.shape[1] + FEW // bins:
        return _by_roi(z, proposals, shared=shared, heads=heads, ends=ends, bins=bins, dtype=dtype, kernels=kernels)
    proposals = _in_dtype_of(z, proposals)
    weights = HeadWeights.of(shared, heads, ends, channels=z.shape[2])
    blocks = blocks_of(proposals, len(z))
    chains, hidden = run_heads(z, weights, blocks, wants_shared=wants_hidden, dtype=dtype)
    return tuple(chains), hidden


def _by_roi(
    z: Tensor,
    proposals: Tensor,
    *,
    shared: LayerChains,
    heads: LayerChains,
    ends: LayerChains,
    bins: int,
    dtype: torch.dtype,
    kernels: str,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Build RoI features and send them through every layer, the last of each chain in the features' dtype."""
    quarter = bins // 4
    aligned = roi_align(z, proposals, bins=bins, kernels=kernels).to(dtype)
    aligned = aligned.flatten(0, 1).transpose(1, 2)  # [B K, C, R]
    hidden = shared(aligned.flatten(1)[None]).relu()
    by_ends = ends(
        torch.stack([aligned[:, :, :quarter].flatten(1), aligned[:, :, -quarter:].flatten(1)]), last_dtype=z.dtype
    )
    return (*heads(hidden.expand(3, -1, -1), last_dtype=z.dtype), *by_ends), hidden[0].to(z.dtype)


def _in_dtype_of(features: Tensor, proposals: Tensor) -> Tensor:
    """Proposals as precise as the features, so that samples are placed in float64 where all else is."""
    return proposals.to(torch.promote_types(proposals.dtype, features.dtype))
