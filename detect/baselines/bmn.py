"""BMN: boundaries of snippets, and the IoU of every proposal of a map (Lin et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...data.precision import short_products
from ..model.network import DetectionNetwork, Predicted, class_scores, masked
from ..model.proposals import lattice
from .boundary_matching import BoundaryMatching
from .inputs import GROUPS, InputChannels
from .recompute import recomputed


@dataclass(frozen=True)
class BmnOutput:
    """What BMN says of a batch.

    Parameters
    ----------
    boundary
        (B, 2, T) startness and endness of each snippet.
    iou
        (B, K, 2) regressed and classified IoU of each proposal of the lattice, in its order.
    class_logits
        (B, K, classes), or none.
    """

    boundary: Tensor
    iou: Tensor
    class_logits: Tensor | None

    def tensors(self) -> list[Tensor]:
        """All of it; `Bmn.output_of` reads it back."""
        return [self.boundary, self.iou, *([] if self.class_logits is None else [self.class_logits])]


class Bmn(DetectionNetwork):
    """The network; its layers are called as those of mmaction2, whose weights fit.

    Parameters
    ----------
    in_channels, standardise
        See `InputChannels`.
    num_snippets, max_duration
        T and D.
    num_samples, samples_per_bin, extension
        See `BoundaryMatching`.
    width_1d, width_2d, width_3d
        Channels of the convolutions over snippets, over the map, and over the samples.
    num_classes
        Classes of a class branch on the map, which is no part of BMN; 0 for none.
    precision
        dtype of the products over proposals: `float32` (or the features'), `bfloat16`, or `auto`; see
        `choose_products_dtype`. What comes out is in the features' own.
    kernels
        `fast`, or `reference`: the layer as published, for debugging.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_snippets: int,
        max_duration: int,
        num_samples: int,
        samples_per_bin: int,
        extension: float,
        width_1d: int,
        width_2d: int,
        width_3d: int,
        num_classes: int = 0,
        standardise: bool = False,
        precision: str = "float32",
        kernels: str = "fast",
    ) -> None:
        super().__init__()
        self.precision, self.kernels, self.num_classes = precision, kernels, num_classes
        self.shape = (max_duration, num_snippets)
        start, duration = lattice(num_snippets, max_duration).unbind(1)
        # Where each proposal of the lattice lies on the map of durations and starts.
        self.register_buffer("places", (duration - 1) * num_snippets + start, persistent=False)
        self.inputs = InputChannels(in_channels, standardise=standardise)
        self.x_1d_b = nn.Sequential(
            _conv(in_channels + self.inputs.lacking, width_1d, GROUPS),
            nn.ReLU(),
            _conv(width_1d, width_1d, GROUPS),
            nn.ReLU(),
        )
        self.x_1d_s, self.x_1d_e = (
            nn.Sequential(_conv(width_1d, width_1d, GROUPS), nn.ReLU(), nn.Conv1d(width_1d, 1, 1), nn.Sigmoid())
            for _ in range(2)
        )
        self.x_1d_p = nn.Sequential(_conv(width_1d, width_1d), nn.ReLU())
        self.matching = BoundaryMatching(
            num_snippets=num_snippets,
            max_duration=max_duration,
            num_samples=num_samples,
            samples_per_bin=samples_per_bin,
            extension=extension,
        )
        self.x_3d_p = nn.Sequential(nn.Conv3d(width_1d, width_3d, (num_samples, 1, 1)), nn.ReLU())
        self.x_2d_p = nn.Sequential(
            nn.Conv2d(width_3d, width_2d, 1),
            nn.ReLU(),
            nn.Conv2d(width_2d, width_2d, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width_2d, width_2d, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width_2d, 2, 1),
            nn.Sigmoid(),
        )
        self.classes = nn.Conv2d(width_2d, num_classes, 1) if num_classes else None

    def standardise_by(self, mean: Tensor, deviation: Tensor) -> None:
        self.inputs.standardise_by(mean, deviation)

    def compute_with(self, *, precision: str, kernels: str) -> None:
        self.precision, self.kernels = precision, kernels

    def forward(self, features: Tensor, mask: Tensor | None = None) -> BmnOutput:
        """(B, C, T) snippet features and an optional (B, 1, T) mask of real ones -> what is said of them."""
        # Padding reads as 0 in every layer over time, as what lies beyond the window does.
        real = 1.0 if mask is None else mask
        base = self.x_1d_b[:2](self.inputs(features, mask)) * real
        base = self.x_1d_b[2:](base) * real
        boundary = torch.cat([chain[2:](chain[:2](base) * real) for chain in (self.x_1d_s, self.x_1d_e)], dim=1)
        x = self.x_1d_p(base) * real
        with short_products(self.precision, x):
            x = self.x_2d_p[2:6](self._proposal_map(x))  # [B, width_2d, D, T]
        # What is said is not rounded: scores that differ are not to become ties.
        x = x.to(base)
        iou = self._at_proposals(self.x_2d_p[6:](x))
        return BmnOutput(boundary, iou, None if self.classes is None else self._at_proposals(self.classes(x)))

    def predict(self, features: Tensor, proposals: Tensor, mask: Tensor | None = None) -> Predicted:
        output = self(features, mask)
        rows = self.rows_of(proposals)
        logits = None if output.class_logits is None else output.class_logits[:, rows]
        iou = output.iou[:, rows]
        segments = proposals.expand(len(iou), -1, -1)
        return Predicted(segments, iou.flip(2), masked(output.boundary, mask), class_scores(logits, iou))

    def rows_of(self, proposals: Tensor) -> Tensor:
        """Numbers in the lattice of some of its proposals, (K, 2) fractions of the window."""
        start, end = (proposals * self.shape[1]).round().long().unbind(1)
        places = self.get_buffer("places")
        return torch.searchsorted(places, (end - start - 1) * self.shape[1] + start)

    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of `BmnOutput.tensors` of one window."""
        count = len(self.get_buffer("places"))
        return [(2, self.shape[1]), (count, 2), *([(count, self.num_classes)] if self.num_classes else [])]

    def output_of(self, tensors: Sequence[Tensor]) -> BmnOutput:
        """What `BmnOutput.tensors` gave."""
        boundary, iou, *logits = tensors
        return BmnOutput(boundary, iou, logits[0] if logits else None)

    def _proposal_map(self, x: Tensor) -> Tensor:
        """(B, width_1d, T) -> (B, width_2d, D, T): the matched features, convolved over their samples and narrowed."""
        if self.kernels == "reference":
            sampled = self.matching.sample(x)  # [B, width_1d, N, K]
            matched = sampled.new_zeros(*sampled.shape[:3], self.shape[0] * self.shape[1])
            matched[..., self.get_buffer("places")] = sampled
            narrowed: Tensor = self.x_2d_p[:2](self.x_3d_p(matched.unflatten(3, self.shape)).squeeze(2))
            return narrowed
        # One window after the other, and once more in the backward pass: all of a batch takes gigabytes.
        used = [*self._samples.parameters(), *self._narrow.parameters()]
        windows = [recomputed(self._proposal_features, window, used) for window in x]
        # A proposal that would end after the window has no samples: what is said of it is said of a bias.
        elsewhere = self._narrowed(_bias(self._samples).relu()[None]).expand(self.shape[0] * self.shape[1], -1)
        places = self.get_buffer("places")
        elsewhere = elsewhere.to(windows[0])
        maps = torch.stack([elsewhere.index_copy(0, places, window) for window in windows])  # [B, D T, width_2d]
        return maps.transpose(1, 2).unflatten(2, self.shape).contiguous()

    @property
    def _samples(self) -> nn.Conv3d:
        """The convolution over a proposal's samples."""
        conv = self.x_3d_p[0]
        assert isinstance(conv, nn.Conv3d)
        return conv

    @property
    def _narrow(self) -> nn.Conv2d:
        """The map's first convolution."""
        conv = self.x_2d_p[0]
        assert isinstance(conv, nn.Conv2d)
        return conv

    def _proposal_features(self, x: Tensor) -> Tensor:
        """(width_1d, T) of one window -> (K, width_2d)."""
        conv = self._samples
        with short_products(self.precision, x):
            return self._narrowed(self.matching.convolve(x, conv.weight[..., 0, 0], _bias(conv)).relu())

    def _narrowed(self, x: Tensor) -> Tensor:
        """The map's first convolution and its ReLU, on rows: (K, width_3d) -> (K, width_2d)."""
        return nn.functional.linear(x, self._narrow.weight[..., 0, 0], self._narrow.bias).relu()

    def _at_proposals(self, maps: Tensor) -> Tensor:
        """(B, C, D, T) -> (B, K, C)."""
        return maps.flatten(2).index_select(2, self.get_buffer("places")).transpose(1, 2)


def _conv(in_channels: int, out_channels: int, groups: int = 1) -> nn.Conv1d:
    return nn.Conv1d(in_channels, out_channels, 3, padding=1, groups=groups)


def _bias(conv: nn.Conv3d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
