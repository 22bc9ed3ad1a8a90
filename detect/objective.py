"""From a batch's features to its loss: enhance, draw proposals, evaluate them, compare with the annotations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from .loss.losses import detection_loss
from .loss.targets import Actions, boundary_targets, match
from .model.detector import Detector
from .sampling.proposals import ProposalSampler
from .settings import DetectSettings
from .windows import Window


class Objective:
    """The training objective; what is drawn on the way comes from the generator alone."""

    def __init__(self, settings: DetectSettings) -> None:
        self.num_snippets = settings.num_snippets
        self.draw = ProposalSampler(settings)
        self.rules = settings.rules.loss

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
        proposals = self.draw(x.detach(), generator) if training else self.draw.for_validation()
        proposals = proposals.to(device)
        actions = actions.to(device)
        return detection_loss(
            detector.evaluate(x, proposals),
            match(proposals, actions),
            boundary_targets(actions, self.num_snippets),
            rules=self.rules,
            draw=lambda positive: torch.rand(positive.shape, generator=generator).to(device),
        )


@torch.no_grad()
def mean_loss(
    objective: Objective,
    detector: Detector,
    windows: Sequence[Window],
    batches: Callable[[Sequence[Sequence[int]]], Iterable[tuple[Tensor, Tensor | None]]],
    *,
    batch: int,
    device: torch.device,
    generator_of: Callable[[int], torch.Generator],
) -> float | None:
    """Mean loss over windows, on the grid's proposals (method, section 4); none where there are no windows.

    Parameters
    ----------
    batches
        From lists of window numbers to their features and masks.
    generator_of
        From the number of a batch to its generator.
    """
    if not windows:
        return None
    detector.eval()
    order = [list(range(i, min(i + batch, len(windows)))) for i in range(0, len(windows), batch)]
    total = 0.0
    for number, (features, mask) in enumerate(batches(order)):
        parts = objective(
            detector,
            [windows[i] for i in order[number]],
            features.to(device),
            None if mask is None else mask.to(device),
            generator=generator_of(number),
            training=False,
        )
        total += parts["loss"].item() * len(order[number])
    return total / len(windows)
