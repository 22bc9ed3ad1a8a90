"""Sampling by the norm of the gradient: few snippets, and an encoder gradient that is right on average.

With one weight w per snippet, the encoder's gradient is sum(w g J) over snippets, g the gradient of the snippet's
feature and J the encoder's Jacobian there. Snippet i is sampled with probability p_i and then weighs 1 / p_i, so that
each w is 1 on average (Horvitz-Thompson). The spread is smallest where p_i rises with the norm of g_i J_i; of its two
factors, the first is known when the sample is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...data.ranks import ALONE, Ranks


def sample_weighted(
    gradients: Sequence[Tensor],
    features: Sequence[Tensor],
    counts: Sequence[int],
    *,
    own: range,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> list[tuple[Tensor, Tensor]]:
    """Sample snippets of each video by the norms of their gradients.

    Parameters
    ----------
    gradients, features
        (T, C) of each video of this rank.
    counts
        Snippets to sample of each video of all ranks.
    own
        Which of them are this rank's; for the others the generator only moves on.

    Returns
    -------
    Indices, (k,) int64 ascending, and their weighted gradients, (k, C), of each video of this rank.
    """
    norms = [torch.ones(max(count, 1)) for count in counts]
    norms[own.start : own.stop] = [part.norm(dim=1).cpu() for part in gradients]
    drawn = [sample_by_norm(part, count, generator=generator) for part, count in zip(norms, counts)]
    return [
        (indices, part[indices] * weights.to(part)[:, None])
        for part, (indices, weights) in zip(gradients, drawn[own.start : own.stop], strict=True)
    ]


def sample_by_norm(norms: Tensor, count: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample snippets with probability proportional to the norm of their gradients, and weigh them by its inverse.

    Parameters
    ----------
    norms
        (T,) not negative; all alike where all are 0.
    count
        Snippets to sample; fewer where fewer have a gradient.

    Returns
    -------
    indices, weights
        (k,) ascending, and (k,) float64.
    """
    if count == 0:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
    probabilities = inclusion_probabilities(norms, count)
    indices = systematic(probabilities, generator=generator)
    return indices, 1 / probabilities[indices]


def inclusion_probabilities(sizes: Tensor, count: int) -> Tensor:
    """Probabilities, (T,) float64, proportional to the sizes but never above 1, that add up to `count`.

    Where fewer sizes than `count` are above 0, those get 1 and the others 0.

    Examples
    --------
    >>> inclusion_probabilities(torch.tensor([6.0, 1.0, 1.0, 0.0]), 2).tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    sizes = sizes.double()
    assert 0 < count <= len(sizes), (count, len(sizes))
    assert bool((sizes >= 0).all() & sizes.isfinite().all()), sizes
    if not sizes.any():
        sizes = torch.ones_like(sizes)
    certain = torch.zeros(len(sizes), dtype=torch.bool)
    while True:
        left = torch.where(certain, 0.0, sizes)
        room = count - int(certain.sum())
        if room == 0 or not left.any():
            return certain.double()
        probabilities = torch.where(certain, 1.0, left * (room / left.sum()))
        above = ~certain & (probabilities >= 1)
        if not above.any():
            return probabilities
        certain |= above


def systematic(probabilities: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw a sample in which each item is with its own probability, of as many items as these add up to.

    One uniform number decides: points at a distance of 1 are laid over the items, each as long as its probability.
    Items that follow one another are rarely drawn together, which suits snippets, whose neighbours tell the same.

    Parameters
    ----------
    probabilities
        (T,) 0 to 1 each; their sum is a whole number.

    Returns
    -------
    (k,) int64 ascending.
    """
    certain = probabilities >= 1
    ends = torch.where(certain, 0.0, probabilities).cumsum(0)
    points = torch.rand(1, dtype=torch.float64, generator=generator) + torch.arange(round(ends[-1].item()))
    drawn = torch.searchsorted(ends, points, right=True).clamp(max=len(ends) - 1)
    return torch.unique(torch.cat([drawn, torch.nonzero(certain).flatten()]))
