"""Sampling of representatives: few snippets that carry the gradients of all others (after CRAIG, Mirzasoleiman 2020).

The encoder's gradient is sum(g J) over snippets, g the gradient of the snippet's feature and J the encoder's Jacobian
there. Snippets with near features have near Jacobians: each hands its g to the sampled snippet of its video whose
feature is nearest, and the sums go into the encoder there; a video without a sampled snippet sends nothing. What this
gets wrong, sum(g (J - J of the representative)), is small where the sampled snippets cover the others, those with large
gradients above all: they minimise the sum, over snippets, of |g|^2 times the distance to the nearest of them (facility
location, solved greedily). Sums within a cluster cancel as they do in the whole gradient, which samples that are
weighted one by one cannot do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...data.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Cover:
    """Representatives of one video's snippets, the most useful first.

    Parameters
    ----------
    order
        (k,) snippets, in the order in which they were found.
    gains
        (k,) float64, falling: by how much each brings the weighted distances down.
    distances
        (T, T) between features.
    """

    order: Tensor
    gains: Tensor
    distances: Tensor

    def sums(self, gradients: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Let the first so many represent all snippets.

        Parameters
        ----------
        gradients
            (T, C) of the features.

        Returns
        -------
        indices, sums
            (count,) ascending, and (count, C): the gradients that each of them carries.
        """
        indices = self.order[:count].sort().values
        sums = gradients.new_zeros(len(indices), gradients.shape[1])
        if len(indices):
            nearest = self.distances[:, indices].argmin(dim=1)
            nearest[indices] = torch.arange(len(indices))  # also where another one's feature is the same
            sums.index_add_(0, nearest.to(gradients.device), gradients)
        return indices, sums


def cover(gradients: Tensor, features: Tensor, *, most: int) -> Cover:
    """Find representatives of a video's snippets one by one, each the one that helps most.

    A snippet that none represents counts as far as the two that are farthest apart. Snippets without a gradient
    may represent others, but are not found for their own sake.

    Parameters
    ----------
    gradients, features
        (T, C) each.
    most
        How many to find; fewer where fewer have a gradient.
    """
    points = features.detach().double().cpu()
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    weights = gradients.detach().double().cpu().square().sum(dim=1)
    farthest = distances.max() if len(points) > 1 and distances.any() else torch.ones((), dtype=torch.float64)
    nearest = farthest.expand(len(points)).clone()
    free = torch.ones(len(points), dtype=torch.bool)
    order, gains = list[int](), list[float]()
    while len(order) < most and bool((weights[free] > 0).any()):
        helped = torch.where(free, weights @ (nearest[:, None] - distances).clamp_min_(0), -1.0)
        gain = max(helped.max().item(), 0.0)
        # Where all are as near to one as can be, their own turn comes, the largest first.
        best = int((helped if gain > 0 else torch.where(free, weights, -1.0)).argmax())
        order.append(best)
        gains.append(gain)
        nearest = torch.minimum(nearest, distances[:, best])
        free[best] = False
    return Cover(
        torch.tensor(order, dtype=torch.int64),
        torch.tensor(gains, dtype=torch.float64),
        distances,
    )


def sample_representatives(
    gradients: Sequence[Tensor],
    features: Sequence[Tensor],
    counts: Sequence[int],
    *,
    own: range,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> list[tuple[Tensor, Tensor]]:
    """Choose the representatives of a batch; videos get as many of them as they are worth.

    Parameters
    ----------
    gradients, features
        (T, C) of each video of this rank.
    counts
        Snippets to sample of each video of all ranks, if all were worth the same: their sum is shared out anew.
    own
        Which of them are this rank's.
    generator
        Not needed: nothing is drawn.

    Returns
    -------
    Indices, (k,) int64 ascending, and the gradients that these carry, (k, C), of each video of this rank.
    """
    covers = [cover(part, seen, most=sum(counts)) for part, seen in zip(gradients, features, strict=True)]
    said = [gains for rank in ranks.exchange([each.gains.tolist() for each in covers]) for gains in rank]
    assert len(said) == len(counts), (len(said), len(counts))
    ranked = sorted((-gain, video, place) for video, gains in enumerate(said) for place, gain in enumerate(gains))
    shares = [0] * len(counts)
    for _, video, _ in ranked[: sum(counts)]:
        shares[video] += 1
    return [each.sums(part, shares[video]) for each, part, video in zip(covers, gradients, own, strict=True)]
