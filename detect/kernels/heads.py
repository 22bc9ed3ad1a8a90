"""The fully connected layers of proposal evaluation, a block of proposals at a time, with a backward pass by hand.

A whole batch's activations are hundreds of MB: written, read again for every bias, ReLU and copy, and given back to the
system. Block by block they stay in the processor's cache, and the weights' gradients add up in place.

Products may be of a shorter dtype. Then everything between the float32 features and the float32 last layer is
short, and the weights' gradients still add up in float32 from video to video.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .blocks import ProposalBlock, shares, starts_of
from .projection import COLUMN_BLOCK, Gather, gather_of, layers_bins, packed, unpacked
from .threads import run_parallel
from .workspace import Workspace


class LayerChains(Protocol):
    """Fully connected chains of equal sizes side by side, ReLU between their layers.

    Layer by layer, `weights` holds (chains, in, out) and `biases` (chains, 1, out).
    """

    weights: nn.ParameterList
    biases: nn.ParameterList

    def __call__(self, x: Tensor, *, last_dtype: torch.dtype | None = None) -> Tensor:
        """(chains, N, in) -> (chains, N, out), in the dtype of x, but the last layer in that one where it is given."""


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
    third, third_bias, fourth, fourth_bias
        (5, N, N), (5, 1, N), the same again.
    last, last_bias
        (5, 2, N), out before in: products with a matrix that is two columns wide are several times slower; (5, 1, 2).
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

    @classmethod
    def of(cls, shared: LayerChains, heads: LayerChains, ends: LayerChains, *, channels: int) -> HeadWeights:
        """Lay the layers of `evaluate_heads` out; the first ones read C channels of each bin."""
        # `unbind` and not an index: that one's gradient would fill the other half with zeros first.
        start, end = ends.weights[0].unbind()
        return cls(
            extended=shared.weights[0].view(channels, -1),
            start=start.view(channels, -1),
            end=end.view(channels, -1),
            hidden_bias=torch.cat([shared.biases[0], ends.biases[0]]),
            shared=heads.weights[0].transpose(0, 1).flatten(1),
            ends=ends.weights[1],
            second_bias=torch.cat([heads.biases[0], ends.biases[1]]),
            third=torch.cat([heads.weights[1], ends.weights[2]]),
            third_bias=torch.cat([heads.biases[1], ends.biases[2]]),
            fourth=torch.cat([heads.weights[2], ends.weights[3]]),
            fourth_bias=torch.cat([heads.biases[2], ends.biases[3]]),
            # The chains of the ends give one number: a second one, of zero weights, makes all five alike.
            last=torch.cat([heads.weights[3], F.pad(ends.weights[4], (0, 1))]).transpose(1, 2).contiguous(),
            last_bias=torch.cat([heads.biases[3], F.pad(ends.biases[4], (0, 1))]),
        )


class _Weights(NamedTuple):
    """The same with the first layers packed: (column blocks, C, columns), see `packed`."""

    first: Tensor
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


assert _Weights._fields[1:] == HeadWeights._fields[3:]


class _Activations(NamedTuple):
    """What the backward pass needs of a block: (3, k, H), then three times (5, k, N), all after their ReLU."""

    hidden: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor


class _Layout:
    """Sizes of the table of a video's projected snippets, (column blocks, rows, W); see `Gather`."""

    def __init__(self, z: Tensor, width: int, bins: int) -> None:
        assert width % COLUMN_BLOCK == 0, width
        self.num_snippets, self.bins, self.layers_bins = z.shape[1], bins, layers_bins(bins)
        self.shape = (width // COLUMN_BLOCK, self.num_snippets * sum(self.layers_bins), COLUMN_BLOCK)

    def gather(self, block: ProposalBlock) -> Gather:
        return gather_of(block.proposals, bins=self.bins, num_snippets=self.num_snippets)

    def by_snippet(self, table: Tensor) -> Tensor:
        """A table or a block of it, (..., rows, W) -> (..., T, columns), products of snippets with weights."""
        return table.view(*table.shape[:-2], self.num_snippets, -1)


def run_heads(
    z: Tensor, weights: HeadWeights, blocks: Sequence[ProposalBlock], *, wants_shared: bool, dtype: torch.dtype
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
        Of the products.

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
        blocks: Sequence[ProposalBlock],
        wants_shared: bool,
        keeps: bool,
        dtype: torch.dtype,
        z: Tensor,
        *tensors: Tensor,
    ) -> Any:
        full = HeadWeights(*tensors)
        last, last_bias, width = full.last, full.last_bias, len(full.shared)
        layout, starts = _Layout(z, width, full.extended.shape[1] // width), starts_of(blocks)
        z = z.to(dtype)
        weights = _Weights(packed(full[:3], width, dtype), *(each.to(dtype) for each in full[3:]))
        chains = last.new_empty(5, starts[-1], 2)
        shared = last.new_empty(starts[-1] if wants_shared else 0, width)

        parts, shared_videos = shares(blocks, z.device)

        def project(video: int, table: Tensor) -> Tensor:
            torch.matmul(z[video], weights.first, out=layout.by_snippet(table))
            return table

        # A table that several threads read is made once, by all of them.
        tables = {video: project(video, z.new_empty(layout.shape)) for video in shared_videos}

        def run(numbers: list[int]) -> list[tuple[Gather, _Activations]]:
            own, of_video = z.new_empty(layout.shape), None
            kept: list[tuple[Gather, _Activations]] = []
            # Inference evaluates the same proposals of every video: a thread needs to place them but once.
            placed: dict[int, Gather] = {}
            repeat = len({blocks[number].key for number in numbers}) < len(numbers)
            workspace = Workspace(z)
            for number in numbers:
                block, rows = blocks[number], slice(*starts[number : number + 2])
                table = tables.get(block.video, own)
                if table is own and block.video != of_video:
                    project(block.video, own)
                    of_video = block.video
                gather = placed.get(block.key) or layout.gather(block)
                if repeat:
                    placed[block.key] = gather
                # What is kept needs a place of its own.
                part = _forward(gather, table, weights, Workspace(z) if keeps else workspace)
                torch.baddbmm(last_bias, part.fourth.to(last.dtype), last.transpose(1, 2), out=chains[:, rows])
                if wants_shared:
                    shared[rows] = part.hidden[0]
                if keeps:
                    kept.append((gather, part))
            return kept

        kept = [each for part in run_parallel(run, parts) for each in part]
        ctx.save_for_backward(z, *weights, *(each for _, part in kept for each in part))
        ctx.gathers, ctx.blocks, ctx.parts = [gather for gather, _ in kept], blocks, parts
        ctx.layout, ctx.wants_shared, ctx.dtype = layout, wants_shared, last.dtype
        return chains, shared

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        z, *saved = ctx.saved_tensors
        weights, activations = _Weights(*saved[: len(_Weights._fields)]), iter(saved[len(_Weights._fields) :])
        order = itertools.chain(*ctx.parts)
        by_block = map(_Activations._make, zip(*[activations] * len(_Activations._fields)))
        kept = dict(zip(order, zip(ctx.gathers, by_block)))
        blocks, layout, starts = ctx.blocks, ctx.layout, starts_of(ctx.blocks)

        def run(numbers: list[int]) -> tuple[_Weights, dict[int, Tensor]]:
            sums = _Weights(*(torch.zeros_like(each, dtype=ctx.dtype) for each in weights))
            grads_z: dict[int, Tensor] = {}
            workspace = Workspace(z)
            for video, of_video in itertools.groupby(numbers, key=lambda number: blocks[number].video):
                grad_table: list[Tensor] | None = None
                for number in of_video:
                    gather, part = kept[number]
                    rows = slice(*starts[number : number + 2])
                    grad_shared = grads[1][rows].to(z.dtype) if ctx.wants_shared else None
                    grad_hidden = _backward(grads[0][:, rows].to(z.dtype), grad_shared, part, weights, sums, workspace)
                    spread = gather.spread(grad_hidden, layout.shape[1])
                    grad_table = spread if grad_table is None else [a.add_(b) for a, b in zip(grad_table, spread)]
                assert grad_table is not None
                grads_z[video] = torch.zeros_like(z[video], dtype=ctx.dtype)
                for layer, total, grad in zip(weights.first, sums.first, map(layout.by_snippet, grad_table)):
                    _add_product(grads_z[video], grad, layer.t())
                    _add_product(total, z[video].t(), grad)
            return sums, grads_z

        grad_z = torch.zeros_like(z, dtype=ctx.dtype)
        totals: _Weights | None = None
        # Added up in the order of the parts, so that a run repeats bit for bit.
        for sums, grads_z in run_parallel(run, ctx.parts):
            totals = sums if totals is None else _Weights(*(a.add_(b) for a, b in zip(totals, sums)))
            for video, grad in grads_z.items():
                grad_z[video] += grad
        assert totals is not None
        return None, None, None, None, grad_z, *unpacked(totals.first, layout.layers_bins), *totals[1:]


def _forward(gather: Gather, table: Tensor, weights: _Weights, workspace: Workspace) -> _Activations:
    """From the table of projected snippets to the last hidden layer."""
    count, width, narrow = gather.num_proposals, len(weights.shared), weights.ends.shape[2]
    hidden = gather.sums(table.unbind(), out=workspace("hidden", 3, count, width))
    hidden.add_(weights.hidden_bias).relu_()
    second, third, fourth = (workspace(name, 5, count, narrow) for name in ("second", "third", "fourth"))
    shared = torch.mm(hidden[0], weights.shared, out=workspace("shared", count, 3 * narrow))
    second[:3] = shared.view(-1, 3, narrow).transpose(0, 1)
    torch.bmm(hidden[1:], weights.ends, out=second[3:])
    second.add_(weights.second_bias).relu_()
    torch.baddbmm(weights.third_bias, second, weights.third, out=third).relu_()
    torch.baddbmm(weights.fourth_bias, third, weights.fourth, out=fourth).relu_()
    return _Activations(hidden, second, third, fourth)


def _backward(
    grad: Tensor,
    grad_shared: Tensor | None,
    kept: _Activations,
    weights: _Weights,
    sums: _Weights,
    workspace: Workspace,
) -> Tensor:
    """From the chains' gradient (5, k, 2) to that of the gathered sums (3, k, H); adds up the weights' gradients."""

    def through(grad: Tensor, name: str, below: Tensor) -> Tensor:
        weight, grad_weight, grad_bias = getattr(weights, name), getattr(sums, name), getattr(sums, f"{name}_bias")
        _add_product(grad_weight, below.transpose(1, 2), grad)
        grad_bias.add_(grad.sum(1, keepdim=True))
        return _before_relu(torch.bmm(grad, weight.transpose(1, 2), out=workspace(name, *below.shape)), below)

    _add_product(sums.last, grad.transpose(1, 2), kept.fourth)
    sums.last_bias.add_(grad.sum(1, keepdim=True))
    grad = _before_relu(torch.bmm(grad, weights.last, out=workspace("last", *kept.fourth.shape)), kept.fourth)
    grad = through(grad, "fourth", kept.third)
    grad = through(grad, "third", kept.second)
    sums.second_bias.add_(grad.sum(1, keepdim=True))
    by_proposal = workspace("shared", grad.shape[1], 3 * grad.shape[2])
    by_proposal.view(-1, 3, grad.shape[2]).copy_(grad[:3].transpose(0, 1))
    _add_product(sums.shared, kept.hidden[0].t(), by_proposal)
    _add_product(sums.ends, kept.hidden[1:].transpose(1, 2), grad[3:])
    grad_hidden = workspace("hidden", *kept.hidden.shape)
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
