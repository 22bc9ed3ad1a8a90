"""One stage of proposal evaluation: look at each proposal, refine and score it (A.2, Table 2)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .enhance import GROUPS, WIDTH
from .projection import gather_of, project_and_gather
from .proposals import refine
from .roi import Incidence, extend, incidence, roi_align

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

    def forward(self, x: Tensor, *, first: int = 0) -> Tensor:
        """(chains, N, in) through the layers from number `first` on -> (chains, N, out)."""
        last = len(self.weights) - 1
        for number in range(first, last + 1):
            x = torch.baddbmm(self.biases[number], x, self.weights[number])
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
    """

    def __init__(self, *, bins: int, num_classes: int = 0) -> None:
        super().__init__()
        assert bins % 4 == 0, bins
        self.bins = bins
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
            (B, K, 2) fractions of the window; no gradient flows into them.
        """
        batch, num_proposals, _ = proposals.shape
        z = self.reduce(x + self.context(x).relu()).relu().transpose(1, 2)  # [B, T, 128]
        num_snippets = z.shape[1]
        in_snippets = extend(proposals.detach() * num_snippets).flatten(0, 1)
        touching = incidence(in_snippets, bins=self.bins, num_snippets=num_snippets).split(batch)
        # The table of projected snippets costs the same for any number of proposals: few are cheaper without it.
        first = self._first_projected if num_proposals > 2 * num_snippets else self._first_direct
        hidden = first(z, touching)  # [3, B K, 512]
        biases = torch.cat([self.shared.biases[0], self.ends.biases[0]])
        shared, ends = (hidden + biases).relu().split([1, 2])
        by_end = self.ends(ends, first=1).squeeze(2)  # [2, B K]
        by_center, iou, boundary = self.heads(shared.expand(3, -1, -1))
        offsets = torch.cat([by_end.t(), by_center / 2], dim=1).view(batch, num_proposals, 4)
        logits = None
        if self.classes is not None:
            logits = self.classes(shared)[0].view(batch, num_proposals, -1)
        return StageOutput(
            proposals=proposals,
            offsets=offsets,
            iou=iou.sigmoid().view(batch, num_proposals, 2),
            boundary=boundary.sigmoid().view(batch, num_proposals, 2),
            refined=refine(proposals, offsets),
            class_logits=logits,
        )

    def _first_direct(self, z: Tensor, touching: list[Incidence]) -> Tensor:
        """First layers on built RoI features: (B, T, 128) -> (3, B K, 512)."""
        quarter = self.bins // 4
        roi = torch.cat([roi_align(z[video], each) for video, each in enumerate(touching)]).transpose(1, 2)
        shared = torch.mm(roi.flatten(1), self.shared.weights[0][0])
        ends = torch.stack([roi[:, :, :quarter].flatten(1), roi[:, :, -quarter:].flatten(1)])
        return torch.cat([shared[None], torch.bmm(ends, self.ends.weights[0])])

    def _first_projected(self, z: Tensor, touching: list[Incidence]) -> Tensor:
        """First layers without building RoI features: (B, T, 128) -> (3, B K, 512)."""
        weights = [self.shared.weights[0][0], *self.ends.weights[0]]
        weight = torch.cat([part.view(ROI_CHANNELS, -1) for part in weights], dim=1)
        rows = project_and_gather(z, weight, [gather_of(each) for each in touching], HIDDEN)
        return rows.view(len(z), 3, -1, HIDDEN).transpose(0, 1).flatten(1, 2)
