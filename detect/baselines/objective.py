"""BMN's training objective: its loss of a batch, whoever has the batch's windows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...data.ranks import ALONE, Ranks
from ..loss.targets import Actions, match
from ..model.network import DetectionNetwork
from ..model.proposals import boundaries, lattice
from ..settings import DetectSettings
from ..windows import Window
from .bmn import Bmn, BmnOutput
from .bmn_loss import bmn_loss, boundary_labels


class BmnObjective:
    """The loss over all proposals of the lattice; what is drawn on the way comes from the generator alone.

    Parameters
    ----------
    ranks
        See `detect.objective.Objective`.
    """

    def __init__(self, settings: DetectSettings, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.num_snippets = settings.num_snippets
        self.proposals = boundaries(lattice(settings.num_snippets, settings.max_duration), settings.num_snippets)

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
        assert isinstance(detector, Bmn)
        counts = self.ranks.counts(len(windows)) if counts is None else counts
        output = None if features is None else detector(features, mask)
        return self.of_output(detector, output, windows, counts, generator=generator)

    def of_output(
        self,
        bmn: Bmn,
        output: BmnOutput | None,
        windows: Sequence[Window],
        counts: Sequence[int],
        *,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """The loss of what BMN has said of this rank's windows, none where it has no window."""
        own = None if output is None else output.tensors()
        like = next(bmn.parameters()).detach()
        output = bmn.output_of(join_windows(self.ranks, counts, own, bmn.shapes(), like=like))
        device = output.boundary.device
        actions, proposals = actions_of(windows).to(device), self.proposals.to(device)
        return bmn_loss(
            output,
            match(proposals, actions),
            proposals,
            boundary_labels(actions, self.num_snippets),
            draw=lambda of: torch.rand(of.shape, generator=generator).to(of.device),
        )


def actions_of(windows: Sequence[Window]) -> Actions:
    """The annotated actions of a batch."""
    return Actions.of(
        [torch.from_numpy(window.segments) for window in windows],
        [torch.from_numpy(window.labels) for window in windows],
    )


def join_windows(
    ranks: Ranks, counts: Sequence[int], own: Sequence[Tensor] | None, shapes: Sequence[Sequence[int]], *, like: Tensor
) -> list[Tensor]:
    """What all ranks' windows give, since counts pool over the batch; gradients reach one's own windows alone.

    Parameters
    ----------
    counts
        Windows of each rank.
    own
        Tensors (B, ...) of this rank's; none where it has no window.
    shapes
        Shapes of one window's tensors.
    like
        A tensor of their dtype and device.
    """
    if ranks.size == 1:
        assert own is not None
        return list(own)
    rows = like.new_empty(0, 0) if own is None else torch.cat([each.flatten(1) for each in own], dim=1)
    parts = ranks.join_rows(rows, counts).split([math.prod(shape) for shape in shapes], dim=1)
    return [part.reshape(len(part), *shape) for part, shape in zip(parts, shapes)]
