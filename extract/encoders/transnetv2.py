"""TransNet V2 (Souček and Lokoč 2020): a small network of convolutions dilated in time, trained to find cuts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .convnorm import per_frame

DILATIONS = (1, 2, 4, 8)
NORM_EPS = 1e-3
# Rows and columns of the last map of a picture of 48x27, which the network was trained on.
PLACES = (3, 6)


class SeparableConv(nn.Module):
    """The two kernels of a convolution that goes through space first and through time then.

    Parameters
    ----------
    in_channels, channels
        Of the map, and of what the convolution gives; between the two kernels, twice as many.
    dilation
        How many frames the second kernel's neighbours are away.
    """

    def __init__(self, in_channels: int, channels: int, *, dilation: int) -> None:
        super().__init__()
        self.space = nn.Conv2d(in_channels, 2 * channels, 3, padding=1, bias=False)
        self.time = nn.Conv2d(2 * channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1), bias=False)


class DilatedBlock(nn.Module):
    """Four separable convolutions side by side that look 1, 2, 4 and 8 frames away, and one batch norm (DDCNN V2).

    Maps are (N, C, L, H, W); the block gives four times `channels`.

    Parameters
    ----------
    in_channels, channels
        Of the map, and of each of the four convolutions.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(SeparableConv(in_channels, channels, dilation=dilation) for dilation in DILATIONS)
        self.norm = nn.BatchNorm2d(len(DILATIONS) * channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        n, _, l, h, w = x.shape
        # One convolution does the four's part in space: the map is read once.
        kernels = torch.cat([conv.space.weight for conv in self._separable()])
        x = per_frame(lambda frames: F.conv2d(frames, kernels, padding=1), x)
        lines = x.permute(0, 2, 3, 4, 1).reshape(n, l, h * w, -1).permute(0, 3, 1, 2)  # (N, 8 C', L, H W)
        parts = lines.chunk(len(DILATIONS), dim=1)
        lines = torch.cat([conv.time(part) for conv, part in zip(self._separable(), parts, strict=True)], dim=1)
        lines = self.norm(lines).permute(0, 2, 3, 1)  # (N, L, H W, 4 C')
        return lines.reshape(n, l, h, w, -1).permute(0, 4, 1, 2, 3)  # (N, 4 C', L, H, W)

    def _separable(self) -> list[SeparableConv]:
        return [conv for conv in self.convs if isinstance(conv, SeparableConv)]


class FirstBlock(nn.Module):
    """The first pair's first block: the stem."""

    def __init__(self, block: DilatedBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.block(x))


class ResidualStage(nn.Module):
    """A pair's second block with its input around it, a halving of the map, and the next pair's first block.

    Parameters
    ----------
    residual
        The second block.
    block
        The next pair's first one; none after the last pair.
    """

    def __init__(self, residual: DilatedBlock, block: DilatedBlock | None) -> None:
        super().__init__()
        self.residual, self.block = residual, block

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.residual(x)) + x
        x = per_frame(lambda frames: F.avg_pool2d(frames, 2), x)
        return x if self.block is None else F.relu(self.block(x))


class PlacesAsChannels(nn.Module):
    """Keep apart what is seen where: every place of the last map becomes channels of its own.

    Channels follow each other as the published classifier reads them: rows, columns, channels. Maps of pictures of
    other sizes are first brought to the same places.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = per_frame(lambda frames: F.adaptive_avg_pool2d(frames, PLACES), x)
        return x.permute(0, 2, 3, 4, 1).flatten(2).permute(0, 2, 1)[..., None, None]  # (N, H W C, L, 1, 1)


def transnetv2_stages(*, channels: int = 16) -> list[nn.Module]:
    """Build stem, one stage for each of three pairs of blocks, and a last one that makes channels of the places.

    Parameters
    ----------
    channels
        Of each convolution of the first pair; each further pair has twice as many.
    """
    firsts, seconds = [], []
    in_channels = 3
    for pair in range(3):
        firsts.append(DilatedBlock(in_channels, channels * 2**pair))
        in_channels = len(DILATIONS) * channels * 2**pair
        seconds.append(DilatedBlock(in_channels, channels * 2**pair))
    following: list[DilatedBlock | None] = [*firsts[1:], None]
    pairs = [ResidualStage(second, block) for second, block in zip(seconds, following, strict=True)]
    return [FirstBlock(firsts[0]), *pairs, PlacesAsChannels()]
