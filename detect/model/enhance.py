"""Feature enhancement: each snippet learns what comes before and after it (Fig. 1, A.1, Table 1)."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import run_in_parts

GROUPS = 4
NORM_GROUPS = 16
WIDTH = 256

Variant = Literal["lstm", "conv", "transformer"]


class MaskedConvNorm(nn.Module):
    """Grouped convolution without bias, GroupNorm and ReLU; padding is masked before and after the norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, padding=kernel // 2, groups=GROUPS, bias=False)
        self.norm = nn.GroupNorm(NORM_GROUPS, out_channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, T) and an optional (B, 1, T) mask of real snippets -> (B, C', T)."""
        x = self.conv(x)
        if mask is None:
            return torch.relu(self.norm(x))
        return torch.relu(self.norm(x * mask) * mask)


class LstmContext(nn.Module):
    """One LSTM that looks back, one that looks ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.past = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.future = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.past_out = MaskedConvNorm(WIDTH, WIDTH // 2, 3)
        self.future_out = MaskedConvNorm(WIDTH, WIDTH // 2, 3)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x.transpose(1, 2)  # [B, T, C]
        past = self.past(x)[0].transpose(1, 2)
        future = self.future(x.flip(1))[0].flip(1).transpose(1, 2)
        return torch.cat([self.past_out(past, mask), self.future_out(future, mask)], dim=1)


class ConvContext(nn.Module):
    """Two more convolutions: context of five snippets (Table 1, "Conv")."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = MaskedConvNorm(WIDTH, WIDTH, 3)
        self.outer = MaskedConvNorm(WIDTH, WIDTH, 3)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.outer(self.inner(x, mask), mask)


class TransformerContext(nn.Module):
    """A vanilla transformer encoder over sinusoidal positions (Table 1, "Transformer").

    The paper names no sizes: two layers of eight heads are our choice, without dropout, which would draw from
    global randomness.
    """

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, nhead=8, dim_feedforward=4 * WIDTH, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        sequence = x.transpose(1, 2) + _positions(x.shape[2], x.shape[1]).to(x)  # [B, T, C]
        padding = None if mask is None else mask[:, 0] == 0
        out = self.layers(sequence, src_key_padding_mask=padding).transpose(1, 2)
        return out if mask is None else out * mask


class Enhancement(nn.Module):
    """Project the features, gather context, keep a direct way beside it, fuse.

    Parameters
    ----------
    in_channels
        Channels C of the snippet features, any number: the grouped convolution sees zeros in those that lack.
    variant
        Where the context comes from (Table 1).
    kernels
        `fast`, or `reference`: plain PyTorch.
    standardise
        Bring each channel to mean 0 and deviation 1, by what `standardise_by` was told; it is kept with the weights.
    """

    def __init__(self, *, in_channels: int, variant: Variant, kernels: str = "fast", standardise: bool = False) -> None:
        super().__init__()
        contexts = {"lstm": LstmContext, "conv": ConvContext, "transformer": TransformerContext}
        self.kernels = kernels
        self.lacking_channels = -in_channels % GROUPS
        self.standardise = standardise
        if standardise:
            self.register_buffer("feature_mean", torch.zeros(in_channels))
            self.register_buffer("feature_deviation", torch.ones(in_channels))
        self.project = MaskedConvNorm(in_channels + self.lacking_channels, WIDTH, 3)
        self.context = contexts[variant]()
        self.direct = MaskedConvNorm(WIDTH, WIDTH, 3)
        self.fuse = MaskedConvNorm(2 * WIDTH, WIDTH, 1)

    def standardise_by(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the channels' means and deviations, (C,) each."""
        assert self.standardise
        with torch.no_grad():
            self.get_buffer("feature_mean").copy_(mean)
            self.get_buffer("feature_deviation").copy_(deviation)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Enhance features.

        Parameters
        ----------
        features
            (B, C, T).
        mask
            (B, 1, T), 1 for real snippets and 0 for padding; none: all are real.

        Returns
        -------
        Tensor
            (B, 256, T).
        """
        is_recurrent = isinstance(self.context, LstmContext)
        return run_in_parts(self._enhance, self, features, mask, is_recurrent=is_recurrent, kernels=self.kernels)

    def _enhance(self, features: Tensor, mask: Tensor | None) -> Tensor:
        x = self.project(self._prepared(features, mask), mask)
        past, future = self.context(x, mask).chunk(2, dim=1)
        # The fusing convolution is grouped, so the order of its inputs is part of the model.
        return self.fuse(torch.cat([past, self.direct(x, mask), future], dim=1), mask)

    def _prepared(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Standardise, and fill up with channels of zeros to a number that the groups can share."""
        if self.standardise:
            x = (x - self.get_buffer("feature_mean")[:, None]) / self.get_buffer("feature_deviation")[:, None]
            # What is no snippet stays 0, as it is where nothing is standardised.
            x = x if mask is None else x * mask
        if self.lacking_channels:
            x = F.pad(x, (0, 0, 0, self.lacking_channels))  # [B, C', T]
        return x


def _positions(length: int, channels: int) -> Tensor:
    """Sinusoidal positions, (T, C)."""
    rate = torch.exp(torch.arange(0, channels, 2) * (-math.log(10_000.0) / channels))
    angle = torch.arange(length)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
