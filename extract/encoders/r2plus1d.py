"""R(2+1)D: each 3-D convolution as one over space and one over time (Tran et al. 2018), in the shape TSP trained."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .convnorm import ConvNorm

NORM_EPS = 1e-3  # The weights come from Caffe2, whose default this is.


def mid_channels(in_channels: int, out_channels: int) -> int:
    """Channels between space and time that cost as many weights as a full 3 x 3 x 3 kernel.

    Computed from each convolution's own channels. (A widespread variant uses the first convolution's for both of a
    block; the weights that TSP starts from do not fit it.)

    Examples
    --------
    >>> mid_channels(64, 64), mid_channels(64, 128), mid_channels(128, 128)
    (144, 230, 288)
    """
    return (in_channels * out_channels * 27) // (in_channels * 9 + 3 * out_channels)


class Conv2Plus1D(nn.Module):
    """Convolution over space, then over time, each with its norm; both take the stride."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, last: bool = False) -> None:
        super().__init__()
        mid = mid_channels(in_channels, out_channels)
        self.space = ConvNorm(in_channels, mid, kernel=3, stride=stride, eps=NORM_EPS)
        self.time = ConvNorm(
            mid,
            out_channels,
            kernel=3,
            stride=stride,
            axis="time",
            activation="none" if last else "relu",
            eps=NORM_EPS,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.time(self.space(x))


class Stem2Plus1D(nn.Module):
    """7 x 7 over space at half the height and width, then 3 over time."""

    def __init__(self, channels: int, mid: int) -> None:
        super().__init__()
        self.space = ConvNorm(3, mid, kernel=7, stride=2, eps=NORM_EPS)
        self.time = ConvNorm(mid, channels, kernel=3, axis="time", eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.time(self.space(x))


class Shortcut(nn.Module):
    """1 x 1 x 1 with a stride in time and space."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = ConvNorm(in_channels, out_channels, kernel=1, stride=stride, activation="none", eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        # A kernel of one frame: the frames that the stride skips need not be looked at.
        return self.conv(x[:, :, :: self.stride])


class ResidualBlock2Plus1D(nn.Module):
    """Residual block of two (2+1)-D convolutions; the first takes the stride."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv2Plus1D(in_channels, out_channels, stride=stride)
        self.conv2 = Conv2Plus1D(out_channels, out_channels, last=True)
        self.shortcut: Shortcut | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = Shortcut(in_channels, out_channels, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.shortcut is None else self.shortcut(x)
        return F.relu_(self.conv2(self.conv1(x)) + around)


def r2plus1d_stages(*, num_blocks: tuple[int, int, int, int], width: int = 64) -> list[nn.Module]:
    """Build stem and four stages; stages 2 to 4 halve time, height and width.

    Parameters
    ----------
    num_blocks
        Blocks of each stage; (3, 4, 6, 3) for 34 layers.
    width
        Channels of the stem and the first stage; each further stage doubles them.
    """
    stages: list[nn.Module] = [Stem2Plus1D(width, mid=width * 45 // 64)]
    in_channels = width
    for stage, blocks in enumerate(num_blocks, start=1):
        out_channels = width * 2 ** (stage - 1)
        layers = []
        for index in range(blocks):
            stride = 2 if stage > 1 and index == 0 else 1
            layers.append(ResidualBlock2Plus1D(in_channels, out_channels, stride=stride))
            in_channels = out_channels
        stages.append(nn.Sequential(*layers))
    return stages
