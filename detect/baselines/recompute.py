"""Compute once more in the backward pass what takes too much memory to keep until then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def recomputed(function: Callable[[Tensor], Tensor], x: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Call a function of one tensor and some parameters, which draws nothing, and keep no more than these.

    `torch.utils.checkpoint` does it, too, but loads PyTorch's compiler at its first call, which takes seconds.

    Parameters
    ----------
    parameters
        All that the function uses, and that may have gradients.
    """
    if not torch.is_grad_enabled():
        return function(x)
    result: Tensor = _Recomputed.apply(function, x, *parameters)
    return result


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor], Tensor], x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(x, *parameters)
        return function(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        wants = ctx.needs_input_grad[1:]
        with torch.enable_grad():
            x = x.detach().requires_grad_(wants[0])
            inputs = [each for each, wanted in zip((x, *parameters), wants) if wanted]
            found = iter(torch.autograd.grad(ctx.function(x), inputs, gradient))
        return (None, *(next(found) if wanted else None for wanted in wants))
