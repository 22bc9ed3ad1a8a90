"""From a batch's features to its loss: enhance, draw proposals, evaluate them, compare with the annotations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .loss.losses import LossRules, detection_loss
from .loss.targets import Actions, boundary_targets, match
from .model.detector import Detector
from .sampling.proposals import ProposalDraw
from .settings import DetectSettings
from .windows import Window


class Objective:
    """What training makes small; what is drawn on the way comes from the generator alone."""

    def __init__(self, settings: DetectSettings) -> None:
        self.num_snippets = settings.num_snippets
        self.draw = ProposalDraw(settings)
        self.rules = LossRules.paper() if settings.preset == "paper" else LossRules.release()

    def __call__(
        self,
        detector: Detector,
        windows: Sequence[Window],
        features: Tensor,
        mask: Tensor | None,
        *,
        generator: torch.Generator,
        training: bool,
    ) -> dict[str, Tensor]:
        """Compute the loss and its parts.

        Parameters
        ----------
        features
            (B, C, T) on the detector's device.
        mask
            (B, 1, T), 1 for real snippets; none where nothing is padded.
        training
            Draw proposals anew, or take the validation grid's.
        """
        device = features.device
        actions = Actions.of(
            [torch.from_numpy(window.segments) for window in windows],
            [torch.from_numpy(window.labels) for window in windows],
        )
        x = detector.enhance(features, mask)
        proposals = self.draw(x.detach(), generator) if training else self.draw.for_validation(len(windows))
        proposals = proposals.to(device)
        actions = actions.to(device)
        return detection_loss(
            detector.evaluate(x, proposals),
            match(proposals, actions),
            boundary_targets(actions, self.num_snippets),
            rules=self.rules,
            draw=lambda positive: torch.rand(positive.shape, generator=generator).to(device),
        )
