"""TCANet's temporal boundary regressor: one step of refining proposals (TCANet, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...data.precision import short_products
from .inputs import GROUPS

# How much of its own length a proposal's start and end stretch lies outside of it.
CONTEXT = 0.5
# Shares of the predicted offsets that move a proposal, as the public code has them: start and end, centre, width.
START_END_IN_TRAINING, START_END, CENTER, WIDTH = 1.0, 0.2, 0.1, 0.2
HIDDEN_ENDS = 128


@dataclass(frozen=True)
class RefinementStep:
    """What one step says of its proposals.

    Parameters
    ----------
    proposals
        (B, K, 2) the step's input, fractions of the window.
    offsets
        (B, K, 4) of start, end, centre and width, in lengths of the proposal.
    iou
        (B, K) 0..1.
    """

    proposals: Tensor
    offsets: Tensor
    iou: Tensor

    def refined(self, *, training: bool) -> Tensor:
        """(B, K, 2) the next step's input: the mean of the proposal moved by its ends and by centre and width.

        Nothing begins before the window, as in the public code.
        """
        start, end = self.proposals.unbind(-1)
        length, center = end - start, (start + end) / 2
        by_start, by_end, by_center, by_width = self.offsets.unbind(-1)
        share = START_END_IN_TRAINING if training else START_END
        center = center + CENTER * by_center * length
        half = torch.exp(WIDTH * by_width) * length / 2
        starts = start + share * by_start * length + center - half
        ends = end + share * by_end * length + center + half
        return (torch.stack([starts, ends], dim=-1) / 2).clamp(min=0)


class BoundaryRegressor(nn.Module):
    """Ends from the stretches around them, centre, width and IoU from these and the proposal.

    Parameters
    ----------
    width
        Channels C of the features.
    boundary_samples, action_samples
        Points along each stretch around an end, and along the proposal; multiples of 4.
    precision
        See `Tcanet`.
    """

    def __init__(self, *, width: int, boundary_samples: int, action_samples: int, precision: str = "float32") -> None:
        super().__init__()
        self.precision = precision
        self.samples = (boundary_samples, action_samples, boundary_samples)
        self.start, self.end = (
            nn.Sequential(
                *_halved_twice(width, HIDDEN_ENDS),
                nn.Conv1d(HIDDEN_ENDS, 1, boundary_samples // 4),
            )
            for _ in range(2)
        )
        self.whole = nn.Sequential(
            *_halved_twice(width, width),
            nn.Conv1d(width, width, sum(self.samples) // 4, groups=GROUPS),
            nn.ReLU(),
            nn.Conv1d(width, 3, 1),
        )

    def forward(self, x: Tensor, proposals: Tensor) -> Tensor:
        """Regress.

        Parameters
        ----------
        x
            (B, T, C) encoded features.
        proposals
            (B, K, 2) fractions of the window.

        Returns
        -------
        Tensor
            (B, K, 5) offsets of start, end, centre and width, and the IoU's logit.
        """
        start, end = proposals.unbind(-1)
        context = CONTEXT * (end - start)
        stretches = [(start - context, start), (start, end), (end, end + context)]
        with short_products(self.precision, x):
            sampled = [sample(x, *stretch, count) for stretch, count in zip(stretches, self.samples)]  # [B K, C, S]
            inputs = (sampled[0], sampled[2], torch.cat(sampled, dim=2))
            chains = (self.start, self.end, self.whole)
            hidden = [chain[:-1](each) for chain, each in zip(chains, inputs)]
        # What is said is not rounded: scores that differ are not to become ties.
        said = [chain[-1](each.to(x)).flatten(1) for chain, each in zip(chains, hidden)]
        return torch.cat(said, dim=1).view(*proposals.shape[:2], 5)


def sample(x: Tensor, start: Tensor, end: Tensor, count: int) -> Tensor:
    """Read features at the middles of equal parts of stretches, linearly between snippets' centres, 0 beyond them.

    Parameters
    ----------
    x
        (B, T, C)
    start, end
        (B, K) fractions of the window, to which they are clipped.

    Returns
    -------
    Tensor
        (B K, C, count)
    """
    start, end = start.clamp(0, 1)[..., None], end.clamp(0, 1)[..., None]
    middles = (torch.arange(count, device=x.device, dtype=x.dtype) + 0.5) / count
    points = (start + (end - start) * middles) * x.shape[1] - 0.5  # [B, K, count]
    snippets = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
    weights = (1 - (points[..., None] - snippets).abs()).clamp(min=0)  # [B, K, count, T]
    sampled = (weights.flatten(1, 2) @ x).unflatten(1, weights.shape[1:3])  # [B, K, count, C]
    return sampled.flatten(0, 1).transpose(1, 2)


def _halved_twice(in_channels: int, out_channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [nn.Conv1d(channels, out_channels, 3, stride=2, padding=1, groups=GROUPS), nn.ReLU()]
    return layers
