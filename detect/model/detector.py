"""ETAD: enhance the features, score boundaries, evaluate and refine proposals in a cascade (method, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .cascade import CascadeStage, StageOutput
from .enhance import GROUPS, WIDTH, Enhancement, Variant
from .network import DetectionNetwork, Predicted, class_scores, masked


class BoundaryEvaluation(nn.Module):
    """How likely an action starts or ends at each snippet."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=GROUPS)
        self.out = nn.Conv1d(WIDTH, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 256, T) enhanced features -> (B, 2, T) startness and endness, 0..1."""
        return self.out(self.hidden(x).relu()).sigmoid()


# What a stage says of each proposal, and in how many numbers.
_FIELDS = (("proposals", 2), ("offsets", 4), ("iou", 2), ("boundary", 2), ("refined", 2))


@dataclass(frozen=True)
class DetectorOutput:
    """What the detector says of a batch.

    Parameters
    ----------
    boundary
        (B, 2, T) startness and endness of each snippet.
    stages
        One output a cascade stage.
    """

    boundary: Tensor
    stages: list[StageOutput]

    def averaged_boundaries(self) -> Tensor:
        """(B, K, 2) refined boundaries, averaged over the stages; never clipped (method, section 5)."""
        return torch.stack([stage.refined for stage in self.stages]).mean(dim=0)

    def averaged_iou(self) -> Tensor:
        """(B, K, 2) classified and regressed IoU, each averaged over the stages."""
        return torch.stack([stage.iou for stage in self.stages]).mean(dim=0)

    def rows(self) -> Tensor:
        """Everything in one row a video, (B, F); `Detector.output_of` reads it back."""
        fields = [getattr(stage, name) for stage in self.stages for name, _ in _FIELDS]
        logits = self.stages[-1].class_logits
        parts = [self.boundary, *fields, *([] if logits is None else [logits])]
        return torch.cat([part.flatten(1) for part in parts], dim=1)


class Detector(DetectionNetwork):
    """The detector on snippet features.

    Parameters
    ----------
    in_channels
        Channels C of the snippet features.
    standardise
        Bring channels to mean 0 and deviation 1 first; see `Enhancement`.
    enhancement
        Feature enhancement variant (Table 1).
    num_stages
        Cascade stages, 1..4 (Table 1).
    bins
        RoI bins R.
    num_classes
        Classes of the last stage's class branch; 0 for none.
    precision
        dtype of the products of proposal evaluation; see `CascadeStage`.
    kernels
        `fast`, or `reference`: plain PyTorch in their place, for debugging.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        enhancement: Variant,
        num_stages: int,
        bins: int,
        num_classes: int = 0,
        precision: str = "float32",
        kernels: str = "fast",
        standardise: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.enhance = Enhancement(
            in_channels=in_channels, variant=enhancement, kernels=kernels, standardise=standardise
        )
        self.boundary = BoundaryEvaluation()
        last = num_stages - 1
        self.stages = nn.ModuleList(
            CascadeStage(
                bins=bins, num_classes=num_classes if number == last else 0, precision=precision, kernels=kernels
            )
            for number in range(num_stages)
        )
        _initialise(self)

    def standardise_by(self, mean: Tensor, deviation: Tensor) -> None:
        self.enhance.standardise_by(mean, deviation)

    def compute_with(self, *, precision: str, kernels: str) -> None:
        """Change the dtype of proposal evaluation's products, see `CascadeStage`, and the kernels."""
        self.enhance.kernels = kernels
        for stage in self.stages:
            assert isinstance(stage, CascadeStage)
            stage.precision, stage.kernels = precision, kernels

    def forward(self, features: Tensor, proposals: Tensor, mask: Tensor | None = None) -> DetectorOutput:
        """Detect.

        Parameters
        ----------
        features
            (B, C, T) snippet features.
        proposals
            (B, K, 2) proposals to evaluate, fractions of the window, or (K, 2) where all videos share them.
        mask
            (B, 1, T), 1 for real snippets, 0 for padding.
        """
        x = self.enhance(features, mask)
        return self.evaluate(x, proposals)

    def predict(self, features: Tensor, proposals: Tensor, mask: Tensor | None = None) -> Predicted:
        output = self(features, proposals, mask)
        iou = output.averaged_iou()
        logits = output.stages[-1].class_logits
        boundary = masked(output.boundary, mask)
        return Predicted(output.averaged_boundaries(), iou, boundary, class_scores(logits, iou))

    def evaluate(self, x: Tensor, proposals: Tensor) -> DetectorOutput:
        """The same on features that are enhanced already, (B, 256, T)."""
        boundary = self.boundary(x)
        stages = []
        for stage in self.stages:
            output = stage(x, proposals)
            stages.append(output)
            proposals = output.refined.detach()
        return DetectorOutput(boundary, stages)

    def output_of(self, rows: Tensor, *, num_snippets: int) -> DetectorOutput:
        """Read outputs back from rows, (B, F), for windows of T snippets and any number of proposals."""
        sizes = [size for _ in self.stages for _, size in _FIELDS] + [self.num_classes]
        num_boundary = 2 * num_snippets
        num_proposals, left = divmod(rows.shape[1] - num_boundary, sum(sizes))
        assert not left, (rows.shape, sizes)
        boundary, *fields = rows.split([num_boundary, *(size * num_proposals for size in sizes)], dim=1)
        shaped = [field.view(len(rows), num_proposals, size) for field, size in zip(fields, sizes)]
        stages = []
        for number in range(len(self.stages)):
            named = {name: shaped[number * len(_FIELDS) + place] for place, (name, _) in enumerate(_FIELDS)}
            is_last = number == len(self.stages) - 1
            stages.append(StageOutput(**named, class_logits=shaped[-1] if is_last and self.num_classes else None))
        return DetectorOutput(boundary.view(len(rows), 2, -1), stages)


def _initialise(detector: nn.Module) -> None:
    """Convolutions and linear layers: Xavier-uniform, zero biases; LSTMs keep PyTorch's (method, section 2)."""
    for module in detector.modules():
        if isinstance(module, nn.Conv1d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
