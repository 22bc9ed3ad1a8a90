"""I3D as a residual network (Carreira and Zisserman 2017; Wang et al. 2018): ResNet-50 with kernels through time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .resnet import ResidualBlock, Stem

STEM_FRAMES = 5


class HalveTime(nn.Module):
    """Keep the larger of two consecutive frames: (N, C, L, H, W) to (N, C, L / 2, H, W); an odd last one is left."""

    def forward(self, x: Tensor) -> Tensor:
        pairs = x.shape[2] // 2
        return torch.maximum(x[:, :, 0 : 2 * pairs : 2], x[:, :, 1 : 2 * pairs : 2])


def i3d_stages(*, num_blocks: tuple[int, int, int, int] = (3, 4, 6, 3), width: int = 64) -> list[nn.Module]:
    """Build stem and four stages of bottlenecks; time is halved behind the first stage.

    Of the first stage, every block looks along time; of the second and third every other one from the first on, of the
    fourth every other one from the second on.

    Parameters
    ----------
    num_blocks
        Blocks of each stage.
    width
        Channels of the stem; the stages' inner width starts there and doubles.
    """
    stages: list[nn.Module] = [Stem(width, pooled=True, frames=STEM_FRAMES)]
    in_channels = width
    for stage, count in enumerate(num_blocks, start=1):
        inner = width * 2 ** (stage - 1)
        layers: list[nn.Module] = []
        for index in range(count):
            layers.append(
                ResidualBlock(
                    in_channels,
                    inner,
                    stride=2 if stage > 1 and index == 0 else 1,
                    bottleneck=True,
                    shifted_part=0,
                    temporal=stage == 1 or index % 2 == (1 if stage == 4 else 0),
                )
            )
            in_channels = 4 * inner
        stages.append(nn.Sequential(*layers, HalveTime()) if stage == 1 else nn.Sequential(*layers))
    return stages
