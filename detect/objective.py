"""From a batch's features to its loss: enhance, draw proposals, evaluate them, compare with the annotations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..data.ranks import ALONE, Ranks
from .loss.losses import detection_loss
from .loss.targets import Actions, boundary_targets, match
from .model.detector import Detector
from .model.network import DetectionNetwork
from .sampling.proposals import ProposalSampler
from .settings import DetectSettings
from .windows import Window


class BatchLoss(Protocol):
    """A training objective, whichever the detector; see `Objective`, which is ETAD's."""

    ranks: Ranks

    def __call__(
        self,
        detector: Any,
        windows: Sequence[Window],
        features: Tensor | None,
        mask: Tensor | None,
        *,
        generator: torch.Generator,
        training: bool,
        counts: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss and its parts."""


def build_objective(settings: DetectSettings, ranks: Ranks = ALONE) -> BatchLoss:
    """Build the objective of the detector that the settings name."""
    if settings.model == "etad":
        return Objective(settings, ranks)
    from .baselines.build import build_baseline_objective  # nobody else waits for what it loads

    return build_baseline_objective(settings, ranks)


class Objective:
    """The training objective; what is drawn on the way comes from the generator alone.

    Parameters
    ----------
    ranks
        Processes that share each batch: all know its windows, each has the features of its share alone, and all get the
        loss of the whole batch, whose gradient each has its part of.
    """

    def __init__(self, settings: DetectSettings, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.num_snippets = settings.num_snippets
        self.draw = ProposalSampler(settings)
        self.rules = settings.rules.loss

    def __call__(
        self,
        detector: Detector,
        windows: Sequence[Window],
        features: Tensor | None,
        mask: Tensor | None,
        *,
        generator: torch.Generator,
        training: bool,
        counts: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss and its parts.

        Parameters
        ----------
        windows
            Of the whole batch.
        features
            (B, C, T) on the detector's device, of this rank's share of the windows; none where that is empty.
        mask
            (B, 1, T), 1 for real snippets; none where nothing is padded.
        training
            Draw proposals anew, or take the validation grid's.
        counts
            Windows of each rank, in order; none: the same of each, as far as it goes.
        """
        actions = Actions.of(
            [torch.from_numpy(window.segments) for window in windows],
            [torch.from_numpy(window.labels) for window in windows],
        )
        counts = self.ranks.counts(len(windows)) if counts is None else counts
        own = self.ranks.own(counts)
        x = None if features is None else detector.enhance(features, mask)
        if training:
            proposals = self.draw(None if x is None else x.detach(), generator, num_videos=len(windows), own=own)
        else:
            proposals = self.draw.for_validation()
        output = None if x is None else detector.evaluate(x, proposals.to(x.device))
        if self.ranks.size > 1:
            # Counts pool over the batch, so the loss needs all of it; gradients reach this rank's rows alone.
            rows = next(detector.parameters()).detach().new_empty(0, 0) if output is None else output.rows()
            output = detector.output_of(self.ranks.join_rows(rows, counts), num_snippets=self.num_snippets)
        assert output is not None
        actions = actions.to(output.boundary.device)
        return detection_loss(
            output,
            match(output.stages[0].proposals, actions),
            boundary_targets(actions, self.num_snippets),
            rules=self.rules,
            draw=lambda positive: torch.rand(positive.shape, generator=generator).to(positive.device),
        )


@torch.no_grad()
def mean_loss(
    objective: BatchLoss,
    detector: DetectionNetwork,
    windows: Sequence[Window],
    batches: Callable[[Sequence[Sequence[int]]], Iterable[tuple[Tensor | None, Tensor | None]]],
    *,
    batch: int,
    device: torch.device,
    generator_of: Callable[[int], torch.Generator],
) -> float | None:
    """Mean loss over windows, on the grid's proposals (method, section 4); none where there are no windows.

    Parameters
    ----------
    batches
        From lists of window numbers to their features and masks; it is given this rank's share of each.
    generator_of
        From the number of a batch to its generator.
    """
    if not windows:
        return None
    detector.eval()
    order = [list(range(i, min(i + batch, len(windows)))) for i in range(0, len(windows), batch)]
    total = 0.0
    own = [objective.ranks.share(numbers) for numbers in order]
    for number, (features, mask) in enumerate(batches(own)):
        parts = objective(
            detector,
            [windows[i] for i in order[number]],
            None if features is None else features.to(device),
            None if mask is None else mask.to(device),
            generator=generator_of(number),
            training=False,
        )
        total += parts["loss"].item() * len(order[number])
    return total / len(windows)
