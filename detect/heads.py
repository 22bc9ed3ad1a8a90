"""The fully connected layers of proposal evaluation, a block of proposals at a time, with a backward pass by hand.

A whole batch's activations are hundreds of MB: written, read again for every bias, ReLU and copy, and given back to the
system. Block by block they stay in the processor's cache, and the weights' gradients add up in place.

Products may be of a shorter number format. Then everything between the float32 features and the float32 last layer is
short, and the weights' gradients still add up in float32 from video to video.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .blocks import Block, shares, starts_of
from .projection import PART, Gather, gather_of
from .threads import side_by_side


class HeadWeights(NamedTuple):
    """Weights (in, out) and biases of all layers, H being the first layers' width.

    The five chains are centre and width, IoU, startness and endness, start offset, end offset; the first three share
    their first layer, and every chain gives two numbers.

    Parameters
    ----------
    extended, start, end
        (C, R H), (C, R/4 H), (C, R/4 H) first layers, for each bin.
    hidden_bias
        (3, 1, H).
    shared
        (H, 3 N) second layer of the chains that share their first.
    ends
        (2, H, N) second layer of the others.
    second_bias
        (5, 1, N).
    third, third_bias, fourth, fourth_bias, last, last_bias
        (5, N, N), (5, 1, N), the same again, (5, N, 2), (5, 1, 2).
    """

    extended: Tensor
    start: Tensor
    end: Tensor
    hidden_bias: Tensor
    shared: Tensor
    ends: Tensor
    second_bias: Tensor
    third: Tensor
    third_bias: Tensor
    fourth: Tensor
    fourth_bias: Tensor
    last: Tensor
    last_bias: Tensor


class _Kept(NamedTuple):
    """What the backward pass needs of a block: (3, k, H), then three times (5, k, N), all after their ReLU."""

    hidden: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor


class _Layout:
    """The table of a video's projected snippets, (parts, rows, `PART`), and its layers; see `Gather`."""

    def __init__(self, z: Tensor, weights: HeadWeights) -> None:
        self.width, self.num_snippets = weights.shared.shape[0], z.shape[1]
        assert self.width % PART == 0, self.width
        self.bins = weights.extended.shape[1] // self.width
        self.layers_bins = [layer.shape[1] // self.width for layer in weights[:3]]
        self.shape = (self.width // PART, self.num_snippets * sum(self.layers_bins), PART)

    def gather(self, block: Block) -> Gather:
        return gather_of(block.proposals, bins=self.bins, num_snippets=self.num_snippets)

    def tables(self, table: Iterable[Tensor]) -> Iterator[Tensor]:
        """(bins, T, `PART`) of each layer, part by part."""
        for part in table:
            yield from part.view(-1, self.num_snippets, PART).split(self.layers_bins)

    def weights(self, weights: HeadWeights) -> Iterator[Tensor]:
        """(bins, C, `PART`) views of each layer's weights, part by part."""
        layers = [layer.unflatten(1, (-1, self.width)).transpose(0, 1) for layer in weights[:3]]
        for start in range(0, self.width, PART):
            for layer in layers:
                yield layer[:, :, start : start + PART]


def run_heads(
    z: Tensor, weights: HeadWeights, blocks: Sequence[Block], *, wants_shared: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Evaluate every proposal.

    Parameters
    ----------
    z
        (B, T, C) reduced features.
    blocks
        Of all videos, in order.
    wants_shared
        Return the shared hidden layer too, for whoever builds on it.
    dtype
        Number format of the products.

    Returns
    -------
    chains, shared
        (5, proposals, 2) before any activation, and (proposals, H) after its ReLU, or empty.
    """
    # Asked out here: inside, parameters look as if they wanted a gradient even where none is recorded.
    keeps = torch.is_grad_enabled() and any(each.requires_grad for each in (z, *weights))
    return _Heads.apply(blocks, wants_shared, keeps, dtype, z, *weights)


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        blocks: Sequence[Block],
        wants_shared: bool,
        keeps: bool,
        dtype: torch.dtype,
        z: Tensor,
        *tensors: Tensor,
    ) -> Any:
        last, last_bias = tensors[-2:]
        z, weights = z.to(dtype), HeadWeights(*(each.to(dtype) for each in tensors))
        layout, starts = _Layout(z, weights), starts_of(blocks)
        chains = last.new_empty(5, starts[-1], 2)
        shared = last.new_empty(starts[-1] if wants_shared else 0, layout.width)

        parts = shares(blocks, z.device)

        def run(numbers: range) -> list[tuple[Gather, _Kept]]:
            table, of_video = z.new_empty(layout.shape), None
            kept: list[tuple[Gather, _Kept]] = []
            # Inference evaluates the same proposals of every video: a thread needs to place them but once.
            placed: dict[int, Gather] = {}
            repeat = len({blocks[number].proposals.data_ptr() for number in numbers}) < len(numbers)
            for number in numbers:
                block, rows = blocks[number], slice(*starts[number : number + 2])
                if block.video != of_video:
                    for layer, out in zip(layout.weights(weights), layout.tables(table)):
                        torch.bmm(z[block.video].expand(len(layer), -1, -1), layer, out=out)
                    of_video = block.video
                key = block.proposals.data_ptr()
                gather = placed.get(key) or layout.gather(block)
                if repeat:
                    placed[key] = gather
                part = _forward(gather.sums(table.unbind()), weights)
                torch.baddbmm(last_bias, part.fourth.to(last.dtype), last, out=chains[:, rows])
                if wants_shared:
                    shared[rows] = part.hidden[0]
                if keeps:
                    kept.append((gather, part))
            return kept

        kept = [each for part in side_by_side(run, parts) for each in part]
        ctx.save_for_backward(z, *weights, *(each for _, part in kept for each in part))
        ctx.gathers, ctx.blocks, ctx.parts = [gather for gather, _ in kept], blocks, parts
        ctx.wants_shared, ctx.dtype = wants_shared, last.dtype
        return chains, shared

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        z, *saved = ctx.saved_tensors
        tensors, activations = saved[: len(HeadWeights._fields)], iter(saved[len(HeadWeights._fields) :])
        weights = HeadWeights(*tensors)
        order = itertools.chain(*ctx.parts)
        kept = dict(zip(order, zip(ctx.gathers, map(_Kept._make, zip(*[activations] * len(_Kept._fields))))))
        blocks, layout, starts = ctx.blocks, _Layout(z, weights), starts_of(ctx.blocks)

        def run(numbers: range) -> tuple[HeadWeights, dict[int, Tensor]]:
            sums = HeadWeights(*(torch.zeros_like(each, dtype=ctx.dtype) for each in tensors))
            grads_z: dict[int, Tensor] = {}
            for video, of_video in itertools.groupby(numbers, key=lambda number: blocks[number].video):
                grad_table: list[Tensor] | None = None
                for number in of_video:
                    gather, part = kept[number]
                    rows = slice(*starts[number : number + 2])
                    grad_shared = grads[1][rows].to(z.dtype) if ctx.wants_shared else None
                    grad_hidden = _backward(grads[0][:, rows].to(z.dtype), grad_shared, part, weights, sums)
                    spread = gather.spread(grad_hidden, layout.shape[1])
                    grad_table = spread if grad_table is None else [a.add_(b) for a, b in zip(grad_table, spread)]
                assert grad_table is not None
                columns = z[video].t()
                grad_columns = torch.zeros_like(columns, dtype=ctx.dtype)
                layers = zip(layout.weights(weights), layout.weights(sums), layout.tables(grad_table))
                for layer, total, grad in layers:
                    _add_products(grad_columns, layer, grad.transpose(1, 2))
                    _add_product(total, columns.expand(len(grad), -1, -1), grad)
                grads_z[video] = grad_columns.t()
            return sums, grads_z

        grad_z = torch.zeros_like(z, dtype=ctx.dtype)
        totals: HeadWeights | None = None
        # Added up in the order of the parts, so that a run repeats bit for bit.
        for sums, grads_z in side_by_side(run, ctx.parts):
            totals = sums if totals is None else HeadWeights(*(a.add_(b) for a, b in zip(totals, sums)))
            for video, grad in grads_z.items():
                grad_z[video] += grad
        assert totals is not None
        return None, None, None, None, grad_z, *totals


def _forward(hidden: Tensor, weights: HeadWeights) -> _Kept:
    """From the gathered sums to the last hidden layer; `hidden` is overwritten."""
    hidden.add_(weights.hidden_bias).relu_()
    narrow = weights.ends.shape[2]
    second = hidden.new_empty(5, hidden.shape[1], narrow)
    second[:3] = torch.mm(hidden[0], weights.shared).view(-1, 3, narrow).transpose(0, 1)
    torch.bmm(hidden[1:], weights.ends, out=second[3:])
    second.add_(weights.second_bias).relu_()
    third = torch.baddbmm(weights.third_bias, second, weights.third).relu_()
    fourth = torch.baddbmm(weights.fourth_bias, third, weights.fourth).relu_()
    return _Kept(hidden, second, third, fourth)


def _backward(grad: Tensor, grad_shared: Tensor | None, kept: _Kept, weights: HeadWeights, sums: HeadWeights) -> Tensor:
    """From the chains' gradient (5, k, 2) to that of the gathered sums (3, k, H); adds up the weights' gradients."""

    def through(grad: Tensor, below: Tensor, weight: Tensor, grad_weight: Tensor, grad_bias: Tensor) -> Tensor:
        _add_product(grad_weight, below.transpose(1, 2), grad)
        grad_bias.add_(grad.sum(1, keepdim=True))
        return _before_relu(torch.bmm(grad, weight.transpose(1, 2)), below)

    grad = through(grad, kept.fourth, weights.last, sums.last, sums.last_bias)
    grad = through(grad, kept.third, weights.fourth, sums.fourth, sums.fourth_bias)
    grad = through(grad, kept.second, weights.third, sums.third, sums.third_bias)
    sums.second_bias.add_(grad.sum(1, keepdim=True))
    by_proposal = grad[:3].transpose(0, 1).flatten(1)  # [k, 3 N]
    _add_product(sums.shared, kept.hidden[0].t(), by_proposal)
    _add_product(sums.ends, kept.hidden[1:].transpose(1, 2), grad[3:])
    grad_hidden = torch.empty_like(kept.hidden)
    torch.mm(by_proposal, weights.shared.t(), out=grad_hidden[0])
    torch.bmm(grad[3:], weights.ends.transpose(1, 2), out=grad_hidden[1:])
    if grad_shared is not None:
        grad_hidden[0] += grad_shared
    grad_hidden = _before_relu(grad_hidden, kept.hidden)
    sums.hidden_bias.add_(grad_hidden.sum(1, keepdim=True))
    return grad_hidden


def _before_relu(grad: Tensor, after: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward.grad_input(grad, after, 0, grad_input=grad)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a b to a sum, of matrices or of as many matrices each."""
    if total.dtype != a.dtype:
        total.add_(a @ b)
    elif a.dim() == 2:
        total.addmm_(a, b)
    else:
        total.baddbmm_(a, b)


def _add_products(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add all products of as many matrices each to one."""
    if total.dtype != a.dtype:
        total.add_(torch.bmm(a, b).sum(0, dtype=total.dtype))
    else:
        total.addbmm_(a, b)
