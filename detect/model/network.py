"""What training, inference and checkpoints know of a detector, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Predicted(NamedTuple):
    """What a detector says of a batch of windows, as raw predictions hold it.

    Parameters
    ----------
    segments
        (B, K, 2) fractions of the window; not clipped to it (but TCANet's, which do not begin before it). Those of
        no length are no proposals, and only make up the number.
    iou
        (B, K, 2) two scores of each, whose product counts.
    boundary
        (B, 2, T) startness and endness of each snippet.
    class_scores
        (B, K, classes) probabilities of the class branch; (B, K, 0) without one.
    """

    segments: Tensor
    iou: Tensor
    boundary: Tensor
    class_scores: Tensor


class DetectionNetwork(nn.Module, ABC):
    """A detector on snippet features."""

    @abstractmethod
    def predict(self, features: Tensor, proposals: Tensor, mask: Tensor | None = None) -> Predicted:
        """Evaluate proposals.

        Parameters
        ----------
        features
            (B, C, T) snippet features.
        proposals
            (K, 2) proposals of the lattice, fractions of the window.
        mask
            (B, 1, T), 1 for real snippets, 0 for padding.
        """

    @abstractmethod
    def standardise_by(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the channels' means and deviations, (C,) each, where the detector was built to standardise."""

    @abstractmethod
    def compute_with(self, *, precision: str, kernels: str) -> None:
        """Change the dtype of the products over proposals, where there is a choice, and the kernels."""


def class_scores(logits: Tensor | None, iou: Tensor) -> Tensor:
    """Probabilities of the classes, of none where there is no class branch."""
    return iou.new_zeros(*iou.shape[:2], 0) if logits is None else logits.softmax(dim=2)


def masked(boundary: Tensor, mask: Tensor | None) -> Tensor:
    """(B, 2, T) startness and endness, 0 in padding."""
    return boundary if mask is None else boundary * mask
