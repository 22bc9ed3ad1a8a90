"""Adapters: small networks beside a transformer's blocks, trained in place of these (AdaTAD, Liu et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..settings import AdapterKind

# Channels of an adapter's bottleneck, as a share of the block's.
_BOTTLENECK = 0.25
_KERNEL = 3


class TemporalAdapter(nn.Module):
    """Temporal-informative adapter: narrow, look at the neighbouring moments of each place, widen again.

    Of maps (N, C, L, H, W) it gives what is to be added, of the same shape: nothing at first, so that training starts
    at the pretrained features. AdaTAD convolves over a whole window of clips laid end to end; here each clip is
    convolved alone, since gradient sampling encodes snippets one by one.

    Parameters
    ----------
    channels
        Of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = int(channels * _BOTTLENECK)
        self.down = nn.Linear(channels, hidden)
        self.depthwise = nn.Conv1d(hidden, hidden, _KERNEL, groups=hidden)
        self.pointwise = nn.Conv1d(hidden, hidden, 1)
        self.up = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.ones(1))
        nn.init.normal_(self.down.weight, std=0.02)
        nn.init.normal_(self.depthwise.weight, std=(2 / _KERNEL) ** 0.5)
        nn.init.normal_(self.pointwise.weight, std=(2 / hidden) ** 0.5)
        nn.init.zeros_(self.up.weight)
        for layer in (self.down, self.depthwise, self.pointwise, self.up):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        self._kept_key: object = None
        self._kept = False

    def forward(self, x: Tensor) -> Tensor:
        n, _, l, h, w = x.shape
        hidden = F.gelu(self.down(x.permute(0, 2, 3, 4, 1)))  # (N, L, H, W, C')
        # In two dimensions, where channels may stay last in memory: places are one line of pixels, moments its rows.
        lines = hidden.reshape(n, l, h * w, -1).permute(0, 3, 1, 2)  # (N, C', L, H W)
        kernel, bias = self.depthwise.weight[..., None], self.depthwise.bias
        lines = F.conv2d(lines, kernel, bias, padding=(_KERNEL // 2, 0), groups=len(kernel))
        moved = F.linear(lines.permute(0, 2, 3, 1), self.pointwise.weight[..., 0], self.pointwise.bias)
        added = self.up(hidden + moved.reshape(hidden.shape)) * self.scale  # (N, L, H, W, C)
        return added.permute(0, 4, 1, 2, 3)  # (N, C, L, H, W)

    @property
    def adds_nothing(self) -> bool:
        """Whether it is as it began and stays so; looked up again when its weights change."""
        last = (self.up.weight, self.up.bias)
        if last[0].requires_grad:
            return False
        key = tuple(part._version for part in last)
        if key != self._kept_key:
            self._kept = not any(bool(part.any()) for part in last)
            self._kept_key = key
        return self._kept

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TemporalAdapter:
        # Moving or casting a module swaps the data under its parameters without counting a version.
        self._kept_key = None
        super()._apply(fn, recurse)
        return self


class AdaptedBlock(nn.Module):
    """A block of a transformer with its adapter, if it has one.

    In `series`, the adapter's sum goes on into the next block. At the `side`, the block's own maps go on as they are
    and no backward pass goes through any block: what the adapters add travels beside the maps, as further channels,
    until `SideSum` joins both.

    Parameters
    ----------
    block
        From maps to maps, (N, C, L, H, W).
    channels
        Of the maps.
    adapter
        Which kind.
    """

    def __init__(self, block: nn.Module, *, channels: int, adapter: AdapterKind) -> None:
        super().__init__()
        self.channels, self.kind = channels, adapter
        self.block = block
        self.adapter = None if adapter == "none" else TemporalAdapter(channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.adapter is None:
            return self.block(x)
        if self.kind == "series":
            x = self.block(x)
            return x if self.adapter.adds_nothing else x + self.adapter(x)
        added = x[:, self.channels :] if x.shape[1] > self.channels else None
        with torch.no_grad():
            x = self.block(x[:, : self.channels])
        if not self.adapter.adds_nothing:
            more = self.adapter(x)
            added = more if added is None else added + more
        return x if added is None else _beside(x, added)


class SideSum(nn.Module):
    """Join a transformer's last maps and what the adapters at its side add: (N, 2 C, L, H, W) to (N, C, L, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[1] == self.channels else x[:, : self.channels] + x[:, self.channels :]


def _beside(x: Tensor, added: Tensor) -> Tensor:
    """Both in one map, whose channels stay last in memory."""
    last = torch.cat([x.permute(0, 2, 3, 4, 1), added.permute(0, 2, 3, 4, 1)], dim=-1)
    return last.permute(0, 4, 1, 2, 3)
