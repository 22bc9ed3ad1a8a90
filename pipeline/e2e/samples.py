"""Which snippets' gradients reach the encoder in a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...detect.sampling.population import sample_sequence, sample_size
from ...detect.strategies import find_strategy
from .sgs import ByGradient, Samples


def draw_samples(
    strategy: str, lengths: Sequence[int], *, ratio: float, chunk: int, generator: torch.Generator
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
    """
    counts = [sample_size(strategy, length, ratio, chunk=chunk) for length in lengths]
    row = find_strategy(strategy, gradients=True)
    if row.needs == "gradients":
        sample_by_norm = row.load()

        def by_gradients(gradients: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
            norms = [part.norm(dim=1).cpu() for part in gradients]
            return [sample_by_norm(part, count, generator=generator) for part, count in zip(norms, counts)]

        return ByGradient(by_gradients)
    if row.needs == "features":

        def by_features(features: Sequence[Tensor]) -> list[Tensor]:
            return [_one(strategy, len(part), count, generator, part).cpu() for part, count in zip(features, counts)]

        return by_features
    return [_one(strategy, length, count, generator, None) for length, count in zip(lengths, counts)]


def _one(strategy: str, length: int, count: int, generator: torch.Generator, features: Tensor | None) -> Tensor:
    (sample,) = sample_sequence(
        strategy,
        num_draws=1,
        num_items=length,
        count=count,
        generator=generator,
        features=None if features is None else features[None],
    )
    return sample
