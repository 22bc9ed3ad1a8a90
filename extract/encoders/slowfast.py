"""SlowFast (Feichtenhofer et al. 2019): a pathway of few frames beside a thin one of all frames, which feeds it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .convnorm import ConvNorm
from .resnet import ResidualBlock, Stem

# The fast pathway sees so many frames for each one of the slow pathway (alpha), and has 1/BETA of its channels.
ALPHA = 4
BETA = 8
# What the fast pathway gives the slow one has so many times its own channels.
FUSED = 2
FAST_STEM_FRAMES = 5


class Lateral(nn.Module):
    """Join the pathways' maps into one tensor, with what the slow pathway gets from the fast one (time-strided).

    The interface of a stage is one map. The joint map is (N, C, L / alpha, H, W): channels of the slow pathway, those
    that it gets, and the fast pathway's channels of alpha consecutive frames, one frame after the other.

    Parameters
    ----------
    fast_channels
        Of the fast pathway's map.
    kernel
        Frames of the fast pathway that each frame of the slow one sees.
    alpha
        As ALPHA.
    """

    def __init__(self, fast_channels: int, *, kernel: int, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha
        self.conv = ConvNorm(fast_channels, FUSED * fast_channels, kernel=kernel, stride=alpha, axis="time")

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        in_groups = fast.permute(0, 2, 3, 4, 1).unflatten(1, (-1, self.alpha))  # (N, L', alpha, H, W, C)
        frames = in_groups.permute(0, 1, 3, 4, 2, 5).flatten(4)  # (N, L', H, W, alpha C)
        parts = [each.permute(0, 2, 3, 4, 1) for each in (slow, self.conv(fast))]
        return torch.cat([*parts, frames], dim=-1).permute(0, 4, 1, 2, 3)


class PathwayAverage(nn.Module):
    """Join the last maps as features need them: the fast pathway's channels are averaged over alpha frames each."""

    def __init__(self, *, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        in_groups = fast.unflatten(2, (-1, self.alpha))  # (N, C, L', alpha, H, W)
        average = in_groups.mean(3, dtype=torch.promote_types(fast.dtype, torch.float32))
        parts = [each.permute(0, 2, 3, 4, 1) for each in (slow, average)]
        return torch.cat([each.to(average.dtype) for each in parts], dim=-1).permute(0, 4, 1, 2, 3)


class SlowFastStem(nn.Module):
    """The stems of both pathways; the slow one sees frames spread evenly from the clip's first to its last."""

    def __init__(self, slow: Stem, fast: Stem, join: Lateral, *, alpha: int) -> None:
        super().__init__()
        self.slow, self.fast, self.join, self.alpha = slow, fast, join, alpha

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[2]
        count = length // self.alpha
        assert length % self.alpha == 0, f"clips of {length} frames do not divide by {self.alpha}"
        # As PySlowFast spreads them: a grid that includes both ends, rounded down.
        spread = [frame * (length - 1) // max(count - 1, 1) for frame in range(count)]
        return self.join(self.slow(x[:, :, spread]), self.fast(x))


class SlowFastStage(nn.Module):
    """A residual stage of both pathways.

    Parameters
    ----------
    slow, fast
        The pathways' blocks.
    join
        What makes one map of both.
    slow_channels
        Of the joint map, those that go into the slow pathway.
    alpha
        As ALPHA.
    """

    def __init__(
        self, slow: nn.Sequential, fast: nn.Sequential, join: nn.Module, *, slow_channels: int, alpha: int
    ) -> None:
        super().__init__()
        self.slow, self.fast, self.join = slow, fast, join
        self.slow_channels, self.alpha = slow_channels, alpha

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 4, 1)
        slow, frames = x[..., : self.slow_channels].contiguous(), x[..., self.slow_channels :]
        in_groups = frames.unflatten(4, (self.alpha, -1))  # (N, L', H, W, alpha, C)
        fast = in_groups.permute(0, 1, 4, 2, 3, 5).flatten(1, 2).contiguous()  # (N, L, H, W, C)
        return self.join(self.slow(slow.permute(0, 4, 1, 2, 3)), self.fast(fast.permute(0, 4, 1, 2, 3)))


def slowfast_stages(
    *,
    num_blocks: tuple[int, int, int, int],
    fusion_kernel: int,
    width: int = 64,
    alpha: int = ALPHA,
    beta: int = BETA,
) -> list[nn.Module]:
    """Build stem and four stages of bottlenecks; time keeps its length, height and width halve.

    Parameters
    ----------
    num_blocks
        Blocks of each stage, in either pathway; (3, 4, 6, 3) for 50 layers, (3, 4, 23, 3) for 101.
    fusion_kernel
        As for `Lateral`: 7 in the published R50 of 8x8, 5 in R101.
    width
        Channels of the slow pathway's stem; the stages' inner width starts there and doubles.
    alpha, beta
        As ALPHA and BETA.
    """
    thin = width // beta
    stem = SlowFastStem(
        Stem(width, pooled=True),
        Stem(thin, pooled=True, frames=FAST_STEM_FRAMES),
        Lateral(thin, kernel=fusion_kernel, alpha=alpha),
        alpha=alpha,
    )
    stages: list[nn.Module] = [stem]
    slow_channels, fast_channels = width + FUSED * thin, thin
    for stage, blocks in enumerate(num_blocks, start=1):
        inner, thin_inner = width * 2 ** (stage - 1), thin * 2 ** (stage - 1)
        last = stage == len(num_blocks)
        join = PathwayAverage(alpha=alpha) if last else Lateral(4 * thin_inner, kernel=fusion_kernel, alpha=alpha)
        stages.append(
            SlowFastStage(
                # The slow pathway looks along time in its last two stages, the fast one in all.
                _blocks(blocks, slow_channels, inner, stage=stage, temporal=stage >= 3),
                _blocks(blocks, fast_channels, thin_inner, stage=stage, temporal=True),
                join,
                slow_channels=slow_channels,
                alpha=alpha,
            )
        )
        slow_channels, fast_channels = 4 * inner + FUSED * 4 * thin_inner, 4 * thin_inner
    return stages


def _blocks(count: int, in_channels: int, width: int, *, stage: int, temporal: bool) -> nn.Sequential:
    return nn.Sequential(
        *(
            ResidualBlock(
                in_channels if index == 0 else 4 * width,
                width,
                stride=2 if stage > 1 and index == 0 else 1,
                bottleneck=True,
                shifted_part=0,
                temporal=temporal,
            )
            for index in range(count)
        )
    )
