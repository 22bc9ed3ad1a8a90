"""TCANet: encode features locally and globally, and refine proposals in three steps (Qing et al., CVPR 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from .inputs import GROUPS, InputChannels
from .recompute import recomputed
from .regressor import BoundaryRegressor, RefinementStep

# Sets a share of a tensor (B, ...) to 0 in training, and scales the rest; returns it as it is at inference.
Dropout = Callable[[Tensor], Tensor]

NUM_STEPS = 3
HIDDEN_FORWARD = 256
# Values that are sampled at once: 64 MiB in float32.
MOST_SAMPLED = 2**24


def no_dropout(x: Tensor) -> Tensor:
    """Return the tensor, as at inference."""
    return x


class LocalGlobalEncoder(nn.Module):
    """Self-attention (section 3.2), half of whose heads see a window around each snippet, and a feed-forward network.

    Parameters
    ----------
    width
        Channels, a multiple of `heads`.
    heads
        An even number.
    window
        Snippets that the first half of the heads see, the middle one included.
    hidden
        Channels within the feed-forward network.
    """

    def __init__(self, *, width: int, heads: int, window: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, window // 2
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.xavier_uniform_(self.project.weight)
        for bias in (self.project.bias, self.out.bias):
            nn.init.zeros_(bias)

    def forward(self, x: Tensor, mask: Tensor | None, dropout: Dropout) -> Tensor:
        """(B, T, C) features and an optional (B, 1, T) mask of real snippets -> (B, T, C)."""
        x = self.norm1(x + dropout(self._attend(x, mask, dropout)))
        return self.norm2(x + dropout(self.narrow(dropout(self.widen(x).relu()))))

    def _attend(self, x: Tensor, mask: Tensor | None, dropout: Dropout) -> Tensor:
        query, key, value = (
            each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in self.project(x).chunk(3, dim=2)
        )  # [B, heads, T, C / heads]
        weights = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        place = torch.arange(x.shape[1], device=x.device)
        local = (place[:, None] - place).abs() > self.reach
        hidden = torch.stack([local] * (self.heads // 2) + [torch.zeros_like(local)] * (self.heads // 2))[None]
        if mask is not None:
            # Padding sees itself, so that none of its rows is without anything to see.
            padding = (mask == 0)[:, None] & ~torch.eye(len(place), dtype=torch.bool, device=x.device)
            hidden = hidden | padding
        weights = dropout(weights.masked_fill(hidden, -math.inf).softmax(dim=3))
        return self.out((weights @ value).transpose(1, 2).flatten(2))


class Tcanet(nn.Module):
    """The network that refines.

    Parameters
    ----------
    in_channels, standardise
        See `InputChannels`.
    width
        Channels of the encoded features.
    encoders, heads, window
        How many encoders, and of what; see `LocalGlobalEncoder`.
    boundary_samples, action_samples
        See `BoundaryRegressor`.
    precision
        dtype of the products over proposals; see `Bmn`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        width: int,
        encoders: int,
        heads: int,
        window: int,
        boundary_samples: int,
        action_samples: int,
        standardise: bool = False,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.inputs = InputChannels(in_channels, standardise=standardise)
        self.base = nn.Sequential(
            nn.Conv1d(in_channels + self.inputs.lacking, width, 3, padding=1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1, groups=GROUPS),
            nn.ReLU(),
        )
        self.encoders = nn.ModuleList(
            LocalGlobalEncoder(width=width, heads=heads, window=window, hidden=HIDDEN_FORWARD) for _ in range(encoders)
        )
        self.steps = nn.ModuleList(
            BoundaryRegressor(
                width=width, boundary_samples=boundary_samples, action_samples=action_samples, precision=precision
            )
            for _ in range(NUM_STEPS)
        )

    def compute_with(self, *, precision: str) -> None:
        """Compute another way from now on."""
        for step in self.steps:
            assert isinstance(step, BoundaryRegressor)
            step.precision = precision

    def forward(
        self,
        features: Tensor,
        proposals: Tensor,
        mask: Tensor | None = None,
        dropout: Dropout = no_dropout,
        *,
        training: bool = False,
    ) -> list[RefinementStep]:
        """Refine.

        Parameters
        ----------
        features
            (B, C, T) snippet features.
        proposals
            (B, K, 2) fractions of the window; no gradient flows into them, nor from one step into another.
        mask
            (B, 1, T), 1 for real snippets, 0 for padding.
        """
        # Padding reads as 0, as what lies beyond the window does.
        real = 1.0 if mask is None else mask
        x = self.base[:2](self.inputs(features, mask)) * real
        x = self.base[2:](x).transpose(1, 2)  # [B, T, C]
        for encoder in self.encoders:
            x = encoder(x, mask, dropout)
        x = x if mask is None else x * mask.transpose(1, 2)
        found = []
        for regressor in self.steps:
            assert isinstance(regressor, BoundaryRegressor)
            said = torch.cat(
                [self._of_some(regressor, *some) for some in self._some_at_once(regressor, x, proposals)]
            )  # [B, K, 5]
            found.append(RefinementStep(proposals, said[..., :4], said[..., 4].sigmoid()))
            proposals = found[-1].refined(training=training).detach()
        return found

    def _some_at_once(
        self, regressor: BoundaryRegressor, x: Tensor, proposals: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As many windows at a time as memory is meant for."""
        values = proposals.shape[1] * sum(regressor.samples) * x.shape[2]
        return zip(*(each.split(max(1, MOST_SAMPLED // values)) for each in (x, proposals)))

    def _of_some(self, regressor: BoundaryRegressor, x: Tensor, proposals: Tensor) -> Tensor:
        # What is sampled of some windows is let go before the next ones are.
        return recomputed(lambda windows: regressor(windows, proposals), x, list(regressor.parameters()))
