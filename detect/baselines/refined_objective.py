"""The objective of BMN and TCANet: BMN's, and TCANet's on the proposals that BMN has at the time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...data.ranks import ALONE, Ranks
from ..loss.targets import match
from ..model.network import DetectionNetwork, Predicted, masked
from ..settings import DetectSettings
from ..windows import Window
from .bmn import BmnOutput
from .objective import BmnObjective, actions_of, join_windows
from .picks import pick
from .refined import RefinedBmn, picked_of
from .regressor import RefinementStep
from .tcanet import NUM_STEPS, Dropout, no_dropout
from .tcanet_loss import tcanet_loss


class RefinedObjective:
    """Both losses; no gradient of the second reaches BMN.

    Parameters
    ----------
    ranks
        See `detect.objective.Objective`.
    """

    def __init__(self, settings: DetectSettings, ranks: Ranks = ALONE) -> None:
        self.ranks, self.of_bmn = ranks, BmnObjective(settings, ranks)
        self.rate, self.num_proposals = settings.tcanet.dropout, settings.tcanet.training_proposals

    def __call__(
        self,
        detector: DetectionNetwork,
        windows: Sequence[Window],
        features: Tensor | None,
        mask: Tensor | None,
        *,
        generator: torch.Generator,
        training: bool,
        counts: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss and its parts; the parameters are those of `detect.objective.Objective`."""
        assert isinstance(detector, RefinedBmn)
        counts = self.ranks.counts(len(windows)) if counts is None else counts
        # One draw of all ranks: those that have no window do not draw what is dropped of the others'.
        seed = int(torch.randint(2**62, (), generator=generator))
        said = None if features is None else detector.bmn(features, mask)
        parts = self.of_bmn.of_output(detector.bmn, said, windows, counts, generator=generator)
        own: list[Tensor] | None = None
        if features is not None and said is not None:
            dropout: Dropout = no_dropout
            if training and self.rate > 0:
                dropout = drop_of_batch(self.rate, seed, own=self.ranks.own(counts), total=len(windows))
            steps = detector.tcanet(features, self._picked(said, mask), mask, dropout, training=training)
            own = [tensor for step in steps for tensor in (step.proposals, step.offsets, step.iou)]
        count = min(self.num_proposals, len(self.of_bmn.proposals))
        like = next(detector.parameters()).detach()
        shapes = [(count, 2), (count, 4), (count,)] * NUM_STEPS
        joined = join_windows(self.ranks, counts, own, shapes, like=like)
        steps = [RefinementStep(*joined[first : first + 3]) for first in range(0, len(joined), 3)]
        found = tcanet_loss(
            steps,
            match(steps[0].proposals, actions_of(windows).to(steps[0].proposals.device)),
            draw=lambda of: torch.rand(of.shape, generator=generator).to(of.device),
        )
        loss = torch.stack([parts.pop("loss"), *found.values()]).sum()
        return {"loss": loss, **parts, **found}

    def _picked(self, said: BmnOutput, mask: Tensor | None) -> Tensor:
        """(B, k, 2) proposals to refine, fractions of the window."""
        with torch.no_grad():
            all_proposals = self.of_bmn.proposals.to(said.iou).expand(len(said.iou), -1, -1)
            none = said.iou.new_zeros(*said.iou.shape[:2], 0)
            rows, _ = pick(Predicted(all_proposals, said.iou, masked(said.boundary, mask), none), self.num_proposals)
            return picked_of(all_proposals, rows)


def drop_of_batch(rate: float, seed: int, *, own: range, total: int) -> Dropout:
    """Dropout that gives a window the same whichever rank has it.

    Parameters
    ----------
    own, total
        The windows that the tensors hold, of so many in the batch.
    """
    generator = torch.Generator().manual_seed(seed)

    def dropout(x: Tensor) -> Tensor:
        kept = torch.rand(total, *x.shape[1:], generator=generator)[own.start : own.stop] >= rate
        return x * (kept.to(x) / (1 - rate))

    return dropout
