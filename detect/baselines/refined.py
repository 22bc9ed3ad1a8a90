"""BMN whose proposals TCANet refines: two networks on the same features, trained side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from ..model.network import DetectionNetwork, Predicted
from .bmn import Bmn
from .picks import pick
from .tcanet import Tcanet


class RefinedBmn(DetectionNetwork):
    """BMN and TCANet.

    Parameters
    ----------
    num_proposals
        Proposals of a window that are refined and reported at inference, if BMN proposes as many.
    """

    def __init__(self, bmn: Bmn, tcanet: Tcanet, *, num_proposals: int) -> None:
        super().__init__()
        self.bmn, self.tcanet, self.num_proposals = bmn, tcanet, num_proposals

    def standardise_by(self, mean: Tensor, deviation: Tensor) -> None:
        self.bmn.standardise_by(mean, deviation)
        self.tcanet.inputs.standardise_by(mean, deviation)

    def compute_with(self, *, precision: str, kernels: str) -> None:
        self.bmn.compute_with(precision=precision, kernels=kernels)
        self.tcanet.compute_with(precision=precision)

    def predict(self, features: Tensor, proposals: Tensor, mask: Tensor | None = None) -> Predicted:
        """Refine the best of the proposals; their scores are BMN's times the IoU that the last step says."""
        found = self.bmn.predict(features, proposals, mask)
        rows, scores = pick(found, self.num_proposals)
        last = self.tcanet(features, picked_of(found.segments, rows), mask)[-1]
        # What BMN does not propose is of no length, which is no detection.
        refined = last.refined(training=False) * (scores > 0)[..., None]
        # Startness and endness are in the scores already, read where BMN's proposals begin and end.
        return Predicted(
            refined,
            torch.stack([scores, last.iou], dim=2),
            torch.ones_like(found.boundary),
            picked_of(found.class_scores, rows),
        )


def picked_of(values: Tensor, rows: Tensor) -> Tensor:
    """(B, K, F) and (B, k) numbers of rows -> (B, k, F)."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[2]))
