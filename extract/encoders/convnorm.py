"""A convolution with its batch norm, over the space or over the time of clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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
        weight = torch.empty(out_channels, in_channels // groups, *shape)
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        # In the maps' order of memory: else every convolution would reorder its kernel, there and back.
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.norm = nn.BatchNorm2d(out_channels, eps=eps)
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
        norm = self.norm
        if norm.training or (torch.is_grad_enabled() and norm.weight.requires_grad):
            x = norm(F.conv2d(x, self.weight, None, stride, padding, groups=self.groups))
        elif torch.is_grad_enabled() and self.weight.requires_grad:
            x = _FoldedConv.apply(x, self.weight, *self._scale_and_shift(), stride, padding, self.groups)
        else:
            x = F.conv2d(x, *self._folded(x.device.type), stride, padding, groups=self.groups)
        return _ACTIVATIONS[self.activation](x)

    def _folded(self, device_type: str) -> tuple[Tensor, Tensor]:
        """Kernel and bias that do the norm's work as well; kept where training cannot change them."""
        if self.weight.requires_grad:  # Kept, it would be stale after the next step, and cost memory until then.
            scale, shift = self._scale_and_shift()
            return self.weight * scale[:, None, None, None], shift
        autocast = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else None
        versions = tuple(part._version for part in (*self.parameters(), *self.buffers()))
        key = (versions, autocast, torch.is_inference_mode_enabled())
        if self._kept is None or key != self._kept_key:
            scale, shift = self._scale_and_shift()
            weight = self.weight * scale[:, None, None, None]
            self._kept = (weight.to(autocast or weight.dtype), shift.to(autocast or shift.dtype))
            self._kept_key = key
        return self._kept

    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What the norm multiplies each channel with, and what it adds then."""
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)
        return scale, norm.bias.detach() - norm.running_mean * scale

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ConvNorm:
        # Moving or casting a module swaps the data under its parameters without counting a version.
        self._kept = None
        super()._apply(fn, recurse)
        return self


class _FoldedConv(torch.autograd.Function):
    """Convolution with weight * scale, plus shift, that keeps neither the product nor its result for the backward pass.

    What plain automatic differentiation would keep of the product is a second copy of the weights; of a norm after
    the convolution, a second copy of the map.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        shift: Tensor,
        stride: int | tuple[int, int],
        padding: int | tuple[int, int],
        groups: int,
    ) -> Tensor:
        ctx.dtype = x.dtype
        ctx.convolution = (_pair(stride), _pair(padding), groups)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        x = x.to(dtype)
        ctx.save_for_backward(x, weight, scale)
        folded = (weight * scale[:, None, None, None]).to(dtype)
        return F.conv2d(x, folded, shift.to(dtype), stride, padding, groups=groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        stride, padding, groups = ctx.convolution
        wanted = [*ctx.needs_input_grad[:2], False]
        scale = scale[:, None, None, None]
        folded = (weight * scale).to(x.dtype)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grads[0], x, folded, None, stride, padding, (1, 1), False, (0, 0), groups, wanted
        )
        if grad_x is not None:
            grad_x = grad_x.to(ctx.dtype)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype).mul_(scale)
        return grad_x, grad_weight, None, None, None, None, None


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


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
