"""One stage of proposal evaluation: look at each proposal, refine and score it (A.2, Table 2)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.precision import choose_training_dtype
from ..kernels.blocks import blocks_of
from ..kernels.heads import HeadWeights, run_heads
from ..kernels.roi import extend, roi_align
from .enhance import GROUPS, WIDTH
from .proposals import refine

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

    def forward(self, x: Tensor) -> Tensor:
        """(chains, N, in) -> (chains, N, out)."""
        last = len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.baddbmm(bias, x, weight)
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
        Number format of the products over many proposals: `float32` (or the features'), `bfloat16`, or `auto`, which
        takes the shorter one where the device gains by it.
    """

    def __init__(self, *, bins: int, num_classes: int = 0, precision: str = "float32") -> None:
        super().__init__()
        assert bins % 4 == 0, bins
        self.bins, self.precision = bins, precision
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
        num_snippets = z.shape[1]
        in_snippets = extend(proposals.detach() * num_snippets)
        # The table of projected snippets costs the same for any number of proposals: few are cheaper without it.
        evaluate = self._by_table if num_proposals > num_snippets else self._by_roi
        (by_center, iou, boundary, start, end), shared = evaluate(z, in_snippets)
        offsets = torch.cat([start[:, :1], end[:, :1], by_center / 2], dim=1).view(batch, num_proposals, 4)
        logits = None
        if self.classes is not None:
            logits = self.classes(shared[None])[0].view(batch, num_proposals, -1)
        return StageOutput(
            proposals=proposals.expand(batch, -1, -1),
            offsets=offsets,
            iou=iou.sigmoid().view(batch, num_proposals, 2),
            boundary=boundary.sigmoid().view(batch, num_proposals, 2),
            refined=refine(proposals, offsets),
            class_logits=logits,
        )

    def _by_roi(self, z: Tensor, in_snippets: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Build RoI features (B K, 128, R) and send them through every layer.

        Returns
        -------
        chains, shared
            What five chains give, (B K, 1 or 2), as `run_heads` orders them, and the shared hidden layer (B K, 512).
        """
        quarter = self.bins // 4
        roi = roi_align(z, in_snippets, bins=self.bins).flatten(0, 1).transpose(1, 2)
        shared = self.shared(roi.flatten(1)[None]).relu()
        ends = self.ends(torch.stack([roi[:, :, :quarter].flatten(1), roi[:, :, -quarter:].flatten(1)]))
        return (*self.heads(shared.expand(3, -1, -1)), *ends), shared[0]

    def _by_table(self, z: Tensor, in_snippets: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The same without building RoI features."""
        short = choose_training_dtype(self.precision, z.device)
        dtype = z.dtype if short == torch.float32 else short
        chains, shared = run_heads(
            z,
            self._head_weights(),
            blocks_of(in_snippets, len(z)),
            wants_shared=self.classes is not None,
            dtype=dtype,
        )
        return tuple(chains), shared

    def _head_weights(self) -> HeadWeights:
        """Lay the layers' weights out as `run_heads` takes them."""
        heads, ends = self.heads, self.ends
        # `unbind` and not an index: that one's gradient would fill the other half with zeros first.
        start, end = ends.weights[0].unbind()
        return HeadWeights(
            extended=self.shared.weights[0].view(ROI_CHANNELS, -1),
            start=start.view(ROI_CHANNELS, -1),
            end=end.view(ROI_CHANNELS, -1),
            hidden_bias=torch.cat([self.shared.biases[0], ends.biases[0]]),
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
