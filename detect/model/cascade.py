"""One stage of proposal evaluation: look at each proposal, refine and score it (A.2, Table 2)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...data.precision import choose_products_dtype
from ..kernels import evaluate_heads
from .enhance import GROUPS, WIDTH
from .proposals import extend, refine

ROI_CHANNELS = 128
HIDDEN = 512
NARROW = 128


@dataclass(frozen=True)
class StageOutput:
    """What one stage says of its K proposals.

    Parameters
    ----------
    proposals
        (B, K, 2) the stage's input, fractions of the window.
    offsets
        (B, K, 4) start and end, centre and width.
    iou
        (B, K, 2) classified and regressed IoU, 0..1.
    boundary
        (B, K, 2) startness and endness of the proposal, 0..1.
    refined
        (B, K, 2) the next stage's input, detached by whoever passes it on.
    class_logits
        (B, K, classes), or none.
    """

    proposals: Tensor
    offsets: Tensor
    iou: Tensor
    boundary: Tensor
    refined: Tensor
    class_logits: Tensor | None


class Chains(nn.Module):
    """Several fully connected chains of equal sizes side by side, ReLU between their layers, one product a layer.

    Weights are (chains, in, out), so that the input rows of a chain's first layer lie together.
    """

    def __init__(self, num_chains: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList(torch.empty(num_chains, *pair) for pair in pairs)
        self.biases = nn.ParameterList(torch.zeros(num_chains, 1, size) for size in sizes[1:])
        for weight in self.weights:
            for chain in weight:
                nn.init.xavier_uniform_(chain)

    def forward(self, x: Tensor, *, last_dtype: torch.dtype | None = None) -> Tensor:
        """(chains, N, in) -> (chains, N, out), in the dtype of x, but the last layer in that one where it is given."""
        last = len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            dtype = last_dtype if number == last and last_dtype is not None else x.dtype
            x = torch.baddbmm(bias.to(dtype), x.to(dtype), weight.to(dtype))
            if number < last:
                x = x.relu()
        return x


class CascadeStage(nn.Module):
    """Proposal evaluation module.

    Parameters
    ----------
    bins
        R, a multiple of 4: the first and last quarter are the start and end feature.
    num_classes
        Classes of the class branch; 0 for none.
    precision
        dtype of the products over proposals: `float32` (or the features'), `bfloat16`, or `auto`, which
        takes the shorter one where the device gains by it and features are no float64.
    kernels
        `fast`, or `reference`: plain PyTorch.
    """

    def __init__(self, *, bins: int, num_classes: int = 0, precision: str = "float32", kernels: str = "fast") -> None:
        super().__init__()
        assert bins % 4 == 0, bins
        self.bins, self.precision, self.kernels = bins, precision, kernels
        self.context = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=GROUPS)
        self.reduce = nn.Conv1d(WIDTH, ROI_CHANNELS, 3, padding=1)
        # Start and end offset, each on its own feature.
        self.ends = Chains(2, (ROI_CHANNELS * bins // 4, HIDDEN, NARROW, NARROW, NARROW, 1))
        # One shared layer on the extended feature, then centre and width, IoU, startness and endness.
        self.shared = Chains(1, (ROI_CHANNELS * bins, HIDDEN))
        self.heads = Chains(3, (HIDDEN, NARROW, NARROW, NARROW, 2))
        self.classes = Chains(1, (HIDDEN, NARROW, num_classes)) if num_classes else None

    def forward(self, x: Tensor, proposals: Tensor) -> StageOutput:
        """Evaluate proposals.

        Parameters
        ----------
        x
            (B, 256, T) enhanced features.
        proposals
            (B, K, 2) fractions of the window, or (K, 2) where all videos share them; no gradient flows into them.
        """
        batch, num_proposals = len(x), proposals.shape[-2]
        z = self.reduce(x + self.context(x).relu()).relu().transpose(1, 2)  # [B, T, 128]
        (by_center, iou, boundary, start, end), hidden = evaluate_heads(
            z,
            extend(proposals.detach() * z.shape[1]),
            shared=self.shared,
            heads=self.heads,
            ends=self.ends,
            bins=self.bins,
            wants_hidden=self.classes is not None,
            dtype=choose_products_dtype(self.precision, z),
            kernels=self.kernels,
        )
        offsets = torch.cat([start[:, :1], end[:, :1], by_center / 2], dim=1).view(batch, num_proposals, 4)
        logits = None
        if self.classes is not None:
            logits = self.classes(hidden[None])[0].view(batch, num_proposals, -1)
        return StageOutput(
            proposals=proposals.expand(batch, -1, -1),
            offsets=offsets,
            iou=iou.sigmoid().view(batch, num_proposals, 2),
            boundary=boundary.sigmoid().view(batch, num_proposals, 2),
            refined=refine(proposals, offsets),
            class_logits=logits,
        )
