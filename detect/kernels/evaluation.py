"""From reduced features and proposals to what the heads say, by whichever route is cheaper."""

from __future__ import annotations

import torch
from torch import Tensor

from .blocks import blocks_of
from .heads import HeadWeights, LayerChains, run_heads
from .roi import roi_align


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
        Of the products.

    Returns
    -------
    chains, hidden
        What the five chains give, (B K, 2) each before any activation, of the last two the first column alone; and the
        shared hidden layer, (B K, H) after its ReLU, or empty.
    """
    # The table of projected snippets costs the same for any number of proposals: few are cheaper without it.
    if proposals.shape[-2] <= z.shape[1]:
        return _by_roi(z, proposals, shared=shared, heads=heads, ends=ends, bins=bins)
    weights = HeadWeights.of(shared, heads, ends, channels=z.shape[2])
    blocks = blocks_of(proposals, len(z))
    chains, hidden = run_heads(z, weights, blocks, wants_shared=wants_hidden, dtype=dtype)
    return tuple(chains), hidden


def _by_roi(
    z: Tensor, proposals: Tensor, *, shared: LayerChains, heads: LayerChains, ends: LayerChains, bins: int
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Build RoI features and send them through every layer."""
    quarter = bins // 4
    roi = roi_align(z, proposals, bins=bins).flatten(0, 1).transpose(1, 2)  # [B K, C, R]
    hidden = shared(roi.flatten(1)[None]).relu()
    by_ends = ends(torch.stack([roi[:, :, :quarter].flatten(1), roi[:, :, -quarter:].flatten(1)]))
    return (*heads(hidden.expand(3, -1, -1)), *by_ends), hidden[0]
