"""EfficientNet-lite: a small image network (Tan and Le 2019, without squeeze-and-excitation) for every frame."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .convnorm import ConvNorm

NORM_EPS = 1e-3
EXPANSION = 6


@dataclass(frozen=True)
class Row:
    """Equal blocks in a row: how many, their kernel, the first one's stride, and the channels they give out."""

    repeats: int
    kernel: int
    stride: int
    channels: int


# The seven rows of EfficientNet-B0; four stages of ours, one per halving of the map, as a residual network has.
LITE0_ROWS: tuple[tuple[Row, ...], ...] = (
    (Row(1, 3, 1, 16), Row(2, 3, 2, 24)),
    (Row(2, 5, 2, 40),),
    (Row(3, 3, 2, 80), Row(3, 5, 1, 112)),
    (Row(4, 5, 2, 192), Row(1, 3, 1, 320)),
)


class InvertedResidual(nn.Module):
    """Inverted residual block (MBConv): widen, filter each channel alone, narrow; around it where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.expand: ConvNorm | None = None
        if expansion != 1:
            self.expand = ConvNorm(in_channels, wide, kernel=1, activation="relu6", eps=NORM_EPS)
        self.depthwise = ConvNorm(
            wide,
            wide,
            kernel=kernel,
            stride=stride,
            groups=wide,
            padding="same",
            activation="relu6",
            eps=NORM_EPS,
        )
        self.project = ConvNorm(wide, out_channels, kernel=1, activation="none", eps=NORM_EPS)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


def efficientnet_stages(
    *,
    rows: tuple[tuple[Row, ...], ...] = LITE0_ROWS,
    stem_channels: int = 32,
    head_channels: int = 1280,
) -> list[nn.Module]:
    """Build stem and four stages; the last one ends with the widening that classification reads.

    Parameters
    ----------
    rows
        Rows of blocks of each stage; the very first row does not widen.
    stem_channels, head_channels
        Channels at the beginning and at the end.
    """
    stem = ConvNorm(3, stem_channels, kernel=3, stride=2, padding="same", activation="relu6", eps=NORM_EPS)
    stages: list[nn.Module] = [stem]
    in_channels = stem_channels
    for stage in rows:
        layers: list[nn.Module] = []
        for row in stage:
            expansion = 1 if row is rows[0][0] else EXPANSION
            for index in range(row.repeats):
                stride = row.stride if index == 0 else 1
                layers.append(
                    InvertedResidual(in_channels, row.channels, kernel=row.kernel, stride=stride, expansion=expansion)
                )
                in_channels = row.channels
        stages.append(nn.Sequential(*layers))
    head = ConvNorm(in_channels, head_channels, kernel=1, activation="relu6", eps=NORM_EPS)
    stages[-1] = nn.Sequential(*stages[-1].children(), head)
    return stages
