"""A convolution with its batch norm, over the space or over the time of clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Axis = Literal["space", "time"]
Activation = Literal["relu", "relu6", "none"]

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "relu": F.relu_,
    "relu6": F.relu6,
    "none": lambda x: x,
}


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation: maps (N, C, L, H, W) to (N, C', L', H', W').

    Both axes run as two-dimensional convolutions on channels-last memory: over `space` the frames are folded into the
    batch, over `time` the pixels of a frame are one line. PyTorch's three-dimensional kernels take two to four times as
    long for the same sums.

    While the norm's statistics are fixed, it is folded into the kernel: no pass over the map, and no second copy of the
    map kept for the backward pass.

    Parameters
    ----------
    in_channels, out_channels, kernel, stride, groups
        Of the convolution; kernel and stride along its axis.
    axis
        `space`: a square kernel within each frame; `time`: a line of one pixel through the frames.
    padding
        Zeros on both sides, or `same`: as many as make a map of ceil(size / stride), the odd one at the end.
    activation
        What follows the norm.
    eps
        Of the norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        axis: Axis = "space",
        padding: int | Literal["same"] | None = None,
        activation: Activation = "relu",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.axis, self.stride, self.groups, self.activation = axis, stride, groups, activation
        self.padding = kernel // 2 if padding is None else padding
        shape = (kernel, kernel) if axis == "space" else (kernel, 1)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *shape))
        self.norm = nn.BatchNorm2d(out_channels, eps=eps)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self._kept_key: object = None
        self._kept: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.axis == "space":
            return per_frame(self._convolve, x)
        n, _, l, h, w = x.shape
        lines = x.permute(0, 2, 3, 4, 1).reshape(n, l, h * w, -1).permute(0, 3, 1, 2)  # (N, C, L, H W)
        lines = self._convolve(lines).permute(0, 2, 3, 1)  # (N, L', H W, C')
        return lines.reshape(n, -1, h, w, lines.shape[-1]).permute(0, 4, 1, 2, 3)  # (N, C', L', H, W)

    def _convolve(self, x: Tensor) -> Tensor:
        stride = self.stride if self.axis == "space" else (self.stride, 1)
        padding: int | tuple[int, int]
        if self.padding == "same":
            x, padding = _pad_same(x, self.weight.shape[-1], self.stride), 0
        else:
            padding = self.padding if self.axis == "space" else (self.padding, 0)
        if self.norm.training:
            x = self.norm(F.conv2d(x, self.weight, None, stride, padding, groups=self.groups))
        else:
            weight, bias = self._folded(x.device.type)
            x = F.conv2d(x, weight, bias, stride, padding, groups=self.groups)
        return _ACTIVATIONS[self.activation](x)

    def _folded(self, device_type: str) -> tuple[Tensor, Tensor]:
        """Kernel and bias that do the norm's work as well; kept where nothing about them can change."""
        norm = self.norm
        parts = (self.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        if torch.is_grad_enabled() and any(part.requires_grad for part in parts if part is not None):
            return self._fold()
        if self.weight.requires_grad:  # A kept copy would be stale after the next step, and costs memory until then.
            return self._fold()
        autocast = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else None
        versions = tuple(part._version for part in parts if part is not None)
        key = (versions, autocast, torch.is_inference_mode_enabled())
        if self._kept is None or key != self._kept_key:
            weight, bias = self._fold()
            self._kept = (weight.to(autocast or weight.dtype), bias.to(autocast or bias.dtype))
            self._kept_key = key
        return self._kept

    def _fold(self) -> tuple[Tensor, Tensor]:
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = self.weight * scale[:, None, None, None]
        return weight, norm.bias - norm.running_mean * scale

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ConvNorm:
        # Moving or casting a module swaps the data under its parameters without counting a version.
        self._kept = None
        super()._apply(fn, recurse)
        return self


def per_frame(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply an operation on (N, C, H, W) to every frame of clips (N, C, L, H, W).

    The reshaping goes through channels-last order, where it moves no memory; strides of dimensions of size 1 stay
    proper there, without which convolutions would take the map for channels-first and copy it.
    """
    n, c, l, h, w = x.shape
    frames = x.permute(0, 2, 3, 4, 1).reshape(n * l, h, w, c).permute(0, 3, 1, 2)  # (N L, C, H, W)
    frames = run(frames).permute(0, 2, 3, 1)  # (N L, H', W', C')
    return frames.reshape(n, l, *frames.shape[1:]).permute(0, 4, 1, 2, 3)  # (N, C', L, H', W')


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad (..., H, W) with zeros, so that a convolution without padding leaves ceil(size / stride)."""
    h, w = x.shape[-2:]
    rows, columns = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in (h, w))
    if rows == columns == 0:
        return x
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
