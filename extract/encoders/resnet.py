"""Residual networks over clips: TSM (2-D, with channels shifted in time) and SlowOnly (1-D in time, late)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .convnorm import ConvNorm, per_frame

# A block shifts 1/8 of its channels each way (TSM, Lin et al. 2019).
SHIFTED_PART = 8


class TemporalShift(torch.autograd.Function):
    """Shift the first 1/part of the channels to the previous frame, the second to the next one; zeros fill the ends.

    One copy of the map, and nothing kept for the backward pass: that is the same shift the other way.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, part: int, backwards: bool) -> Tensor:
        ctx.part, ctx.backwards = part, backwards
        fold = x.shape[1] // part
        early, late = slice(0, fold), slice(fold, 2 * fold)
        if backwards:
            early, late = late, early
        out = x.clone()
        out[:, early, :-1] = x[:, early, 1:]
        out[:, early, -1] = 0
        out[:, late, 1:] = x[:, late, :-1]
        out[:, late, 0] = 0
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return TemporalShift.apply(grads[0], ctx.part, not ctx.backwards), None, None


def shift(x: Tensor, part: int = SHIFTED_PART) -> Tensor:
    """Shift 1/part of the channels of clips (N, C, L, H, W) each way in time, within each clip."""
    return TemporalShift.apply(x, part, False)


class Stem(nn.Module):
    """Convolution of 7 x 7 and pooling of 3 x 3 within each frame: a quarter of the height and width.

    Parameters
    ----------
    channels
        Of the map that comes out.
    pooled
        Without the pooling, half of the height and width stay: in frames of 32 pixels a small actor's motion would
        drown in it.
    frames
        The kernel's frames. With more than one, a frame's neighbours are further channels of it: the kernel is
        (channels, 3 * frames, 7, 7), all frames of red first.
    """

    def __init__(self, channels: int, *, pooled: bool, frames: int = 1) -> None:
        super().__init__()
        self.conv = ConvNorm(3 * frames, channels, kernel=7, stride=2)
        self.pooled, self.frames = pooled, frames

    def forward(self, x: Tensor) -> Tensor:
        if self.frames == 1:
            x = self.conv(x)
        else:  # Clip by clip: with its neighbours, a frame takes several times the memory.
            x = torch.cat([self.conv(_with_neighbours(clip, self.frames)) for clip in x.split(1)])
        if not self.pooled:
            return x
        return per_frame(lambda frames: F.max_pool2d(frames, kernel_size=3, stride=2, padding=1), x)


def _with_neighbours(x: Tensor, frames: int) -> Tensor:
    """Put the frames around each frame beside it as channels, zeros outside: (N, C, L, H, W) to (N, C frames, ...)."""
    length = x.shape[2]
    around = F.pad(x.permute(0, 2, 3, 4, 1), (0, 0, 0, 0, 0, 0, frames // 2, frames // 2))
    views = [around[:, first : first + length] for first in range(frames)]
    return torch.stack(views, dim=-1).flatten(4).permute(0, 4, 1, 2, 3)


class ResidualBlock(nn.Module):
    """Residual block: two convolutions of 3 x 3 (`basic`), or 1, 3 x 3, 1 with the stride on the middle one.

    Parameters
    ----------
    in_channels, width
        Channels that come in, and of the inner convolutions.
    stride
        Spatial; never temporal.
    bottleneck
        Which kind; a bottleneck gives out 4 * width channels.
    shifted_part
        Shift 1/part of the incoming channels each way in time; 0: none.
    temporal
        The first convolution of a bottleneck spans three frames (SlowOnly's last two stages).
    """

    def __init__(
        self, in_channels: int, width: int, *, stride: int, bottleneck: bool, shifted_part: int, temporal: bool
    ) -> None:
        super().__init__()
        self.shifted_part = shifted_part
        out_channels = 4 * width if bottleneck else width
        if bottleneck:
            if temporal:
                self.conv1 = ConvNorm(in_channels, width, kernel=3, axis="time")
            else:
                self.conv1 = ConvNorm(in_channels, width, kernel=1)
            self.conv2 = ConvNorm(width, width, kernel=3, stride=stride)
            self.conv3: ConvNorm | None = ConvNorm(width, out_channels, kernel=1, activation="none")
        else:
            assert not temporal, "a basic block has no convolution along time alone"
            self.conv1 = ConvNorm(in_channels, width, kernel=3, stride=stride)
            self.conv2 = ConvNorm(width, out_channels, kernel=3, activation="none")
            self.conv3 = None
        self.shortcut: ConvNorm | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = ConvNorm(in_channels, out_channels, kernel=1, stride=stride, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(shift(x, self.shifted_part) if self.shifted_part else x))
        if self.conv3 is not None:
            y = self.conv3(y)
        return F.relu_(y + (x if self.shortcut is None else self.shortcut(x)))


def resnet_stages(
    *,
    num_blocks: tuple[int, int, int, int],
    width: int = 64,
    bottleneck: bool,
    shifted_part: int = 0,
    temporal_stages: tuple[int, ...] = (),
    pooled_stem: bool = True,
) -> list[nn.Module]:
    """Build stem and four residual stages, as composed by an encoder.

    Parameters
    ----------
    num_blocks
        Blocks of each stage.
    width
        Channels of the stem; the stages' inner width starts there and doubles.
    bottleneck, shifted_part
        As for `ResidualBlock`.
    temporal_stages
        Stages (1..4) whose blocks look along time.
    pooled_stem
        As for `Stem`.
    """
    stages: list[nn.Module] = [Stem(width, pooled=pooled_stem)]
    in_channels = width
    for stage, blocks in enumerate(num_blocks, start=1):
        inner = width * 2 ** (stage - 1)
        layers = []
        for index in range(blocks):
            layers.append(
                ResidualBlock(
                    in_channels,
                    inner,
                    stride=2 if stage > 1 and index == 0 else 1,
                    bottleneck=bottleneck,
                    shifted_part=shifted_part,
                    temporal=stage in temporal_stages,
                )
            )
            in_channels = 4 * inner if bottleneck else inner
        stages.append(nn.Sequential(*layers))
    return stages
