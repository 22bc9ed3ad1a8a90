"""A module on parts of its batch at the same time, one thread each.

Long chains of small steps, such as an LSTM's, lose by threads that share every step: these have to find together each
time. Parts of the batch need each other only for the sum of their gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .threads import even_parts, map_parallel


def run_in_parts(
    function: Callable[[Tensor, Tensor | None], Tensor],
    module: nn.Module,
    x: Tensor,
    mask: Tensor | None,
    *,
    is_recurrent: bool,
    kernels: str,
) -> Tensor:
    """Call a function that looks at each item of a batch alone: the same as `function(x, mask)`.

    On the CPU, each of PyTorch's threads gets a part of the batch, for the backward pass too, of which there may be one
    alone. A hook on a parameter sees each part's gradient, then their sum.

    Parameters
    ----------
    module
        Holds the parameters that the function uses.
    x, mask
        (B, ...) and, or none, (B, ...).
    is_recurrent
        The function is a long chain of small steps. Where it is not, threads may share its steps, and a batch that
        they cannot have equal parts of stays whole.
    kernels
        `fast`, or `reference`: the whole batch at once.
    """
    uneven = len(x) % torch.get_num_threads() != 0
    if kernels == "reference" or x.device.type != "cpu" or (uneven and not is_recurrent):
        return function(x, mask)
    parts = even_parts(len(x), x.device)
    if torch.is_grad_enabled():
        parameters = (each for each in module.parameters() if each.requires_grad)
        return _InParts.apply(function, parts, mask, x, *parameters)
    return torch.cat(map_parallel(lambda part: function(*_rows(part, x, mask)), parts))


class _InParts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[[Tensor, Tensor | None], Tensor],
        parts: list[range],
        mask: Tensor | None,
        *inputs: Tensor,
    ) -> Tensor:
        x, *parameters = inputs

        def run(part: range) -> tuple[Tensor, Tensor]:
            own, own_mask = _rows(part, x, mask)
            own = own.detach().requires_grad_(x.requires_grad)
            with torch.enable_grad():
                return own, function(own, own_mask)

        # Each part keeps a graph of its own, from its rows and the shared parameters to its output.
        ctx.graphs, ctx.parts = map_parallel(run, parts), parts
        ctx.parameters, ctx.wants_x = parameters, x.requires_grad
        return torch.cat([out.detach() for _, out in ctx.graphs])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        def run(graph: tuple[range, tuple[Tensor, Tensor]]) -> tuple[Any, ...]:
            part, (own, out) = graph
            wanted = [*([own] if ctx.wants_x else []), *ctx.parameters]
            return torch.autograd.grad(out, wanted, grads[0][part.start : part.stop], allow_unused=True)

        assert ctx.graphs is not None, "a second backward pass through parts of a batch"
        found = map_parallel(run, list(zip(ctx.parts, ctx.graphs)))
        ctx.graphs = None  # their memory is wanted again
        grad_x = torch.cat([part[0] for part in found]) if ctx.wants_x else None
        # Added up in the order of the parts, so that a run repeats bit for bit.
        of_parameters = [_sum(each) for each in zip(*(part[ctx.wants_x :] for part in found))]
        return None, None, None, grad_x, *of_parameters


def _rows(part: range, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    rows = slice(part.start, part.stop)
    return x[rows], None if mask is None else mask[rows]


def _sum(grads: tuple[Tensor | None, ...]) -> Tensor | None:
    total: Tensor | None = None
    for grad in grads:
        if grad is not None:
            total = grad if total is None else total + grad
    return total
