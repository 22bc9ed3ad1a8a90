"""What grouped convolutions take of features of any number of channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Groups of the first convolutions.
GROUPS = 4


class InputChannels(nn.Module):
    """Standardise the channels, where that is asked for, and fill up with zeros to a number that the groups share.

    Parameters
    ----------
    in_channels
        Channels C of the snippet features.
    standardise
        Bring each channel to mean 0 and deviation 1, by what `standardise_by` was told; it is kept with the weights.
    """

    def __init__(self, in_channels: int, *, standardise: bool) -> None:
        super().__init__()
        self.lacking = -in_channels % GROUPS
        self.standardise = standardise
        if standardise:
            self.register_buffer("feature_mean", torch.zeros(in_channels))
            self.register_buffer("feature_deviation", torch.ones(in_channels))

    def standardise_by(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the channels' means and deviations, (C,) each."""
        assert self.standardise
        with torch.no_grad():
            self.get_buffer("feature_mean").copy_(mean)
            self.get_buffer("feature_deviation").copy_(deviation)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, T) and an optional (B, 1, T) mask of real snippets -> (B, C', T), 0 in padding."""
        if self.standardise:
            x = (x - self.get_buffer("feature_mean")[:, None]) / self.get_buffer("feature_deviation")[:, None]
            x = x if mask is None else x * mask
        return F.pad(x, (0, 0, 0, self.lacking)) if self.lacking else x
