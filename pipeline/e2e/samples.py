"""Which snippets' gradients reach the encoder in a step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ...data.ranks import ALONE, Ranks
from ...detect.sampling.population import sample_sequence, sample_size
from ...detect.strategies import find_strategy
from .sgs import ByGradient, Samples


def draw_samples(
    strategy: str,
    lengths: Sequence[int],
    *,
    ratio: float,
    chunk: int,
    generator: torch.Generator,
    own: range | None = None,
    ranks: Ranks = ALONE,
) -> Samples:
    """Draw a share of each video's snippets, or say how they are to be drawn once more is known.

    Parameters
    ----------
    strategy
        Its name. One that needs nothing draws now, others once there are features, or their gradients.
    lengths
        Snippets of each video.
    ratio, chunk
        Share to sample, rounded up to whole chunks.
    own
        Videos to draw for; the others only move the generator on, as if it had been for them, too. None: all.
    ranks
        Processes that have the others; what needs gradients may ask them.
    """
    own = range(len(lengths)) if own is None else own
    counts = [sample_size(strategy, length, ratio, chunk=chunk) for length in lengths]
    row = find_strategy(strategy, gradients=True)
    if row.needs == "gradients":
        return ByGradient(partial(row.load(), counts=counts, own=own, generator=generator, ranks=ranks))
    if row.needs == "features":

        def by_features(features: Sequence[Tensor]) -> list[Tensor]:
            of_own = dict(zip(own, features))
            drawn = [
                _draw(strategy, length, count, generator, features=of_own.get(number), skip=number not in own)
                for number, (length, count) in enumerate(zip(lengths, counts))
            ]
            return [sample for each in drawn for sample in each.cpu()]

        return by_features
    drawn = [_draw(strategy, length, count, generator) for length, count in zip(lengths, counts)]
    return [sample for each in drawn[own.start : own.stop] for sample in each]


def _draw(
    strategy: str,
    length: int,
    count: int,
    generator: torch.Generator,
    *,
    features: Tensor | None = None,
    skip: bool = False,
) -> Tensor:
    """Draw for one video, (1, k); skipped, (0, k)."""
    return sample_sequence(
        strategy,
        num_draws=1,
        num_items=length,
        count=count,
        generator=generator,
        features=None if features is None else features[None],
        own=range(0) if skip else range(1),
    )
