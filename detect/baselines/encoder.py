"""TCANet's local-global temporal encoder (Qing et al., CVPR 2021, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

# Sets a share of a tensor (B, ...) to 0 in training, and scales the rest; returns it as it is at inference.
Dropout = Callable[[Tensor], Tensor]


class LocalGlobalEncoder(nn.Module):
    """Self-attention of which half the heads see a window around each snippet alone, and a feed-forward network.

    Parameters
    ----------
    width
        Channels, a multiple of `heads`.
    heads
        An even number.
    window
        Snippets that the first half of the heads see, the middle one included.
    hidden
        Channels within the feed-forward network.
    """

    def __init__(self, *, width: int, heads: int, window: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, window // 2
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.xavier_uniform_(self.project.weight)
        for bias in (self.project.bias, self.out.bias):
            nn.init.zeros_(bias)

    def forward(self, x: Tensor, mask: Tensor | None, dropout: Dropout) -> Tensor:
        """(B, T, C) features and an optional (B, 1, T) mask of real snippets -> (B, T, C)."""
        x = self.norm1(x + dropout(self._attend(x, mask, dropout)))
        return self.norm2(x + dropout(self.narrow(dropout(self.widen(x).relu()))))

    def _attend(self, x: Tensor, mask: Tensor | None, dropout: Dropout) -> Tensor:
        query, key, value = (
            each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in self.project(x).chunk(3, dim=2)
        )  # [B, heads, T, C / heads]
        weights = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        place = torch.arange(x.shape[1], device=x.device)
        local = (place[:, None] - place).abs() > self.reach
        hidden = torch.stack([local] * (self.heads // 2) + [torch.zeros_like(local)] * (self.heads // 2))[None]
        if mask is not None:
            # Padding sees itself, so that none of its rows is without anything to see.
            padding = (mask == 0)[:, None] & ~torch.eye(len(place), dtype=torch.bool, device=x.device)
            hidden = hidden | padding
        weights = dropout(weights.masked_fill(hidden, -math.inf).softmax(dim=3))
        return self.out((weights @ value).transpose(1, 2).flatten(2))
