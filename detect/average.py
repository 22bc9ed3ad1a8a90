"""A moving average of the weights, which infers in place of the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of what is trained.

    The decay grows from 0.2 with the steps taken, so that a short run forgets what it began with.

    Parameters
    ----------
    weights
        What is trained, in an order that a resumed run repeats.
    decay
        Largest share of the average that a step keeps, below 1.
    """

    def __init__(self, weights: Sequence[nn.Parameter], decay: float) -> None:
        self.weights, self.decay = list(weights), decay
        self.values = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights in, after so many steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [weight.detach() for weight in self.weights], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the average stand in for the weights; what is read meanwhile stays the average afterwards."""
        trained = [weight.data for weight in self.weights]
        self._point_to(self.values)
        try:
            yield
        finally:
            self._point_to(trained)

    def trained(self) -> dict[str, Tensor]:
        """The weights themselves, by their place in the order: what training goes on from."""
        return {str(place): weight.detach() for place, weight in enumerate(self.weights)}

    @torch.no_grad()
    def restore(self, trained: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint, whose average has just been put into the weights.

        Raises
        ------
        ValueError
            It is of other weights.
        """
        found = [trained[str(place)] for place in range(len(self.weights))]
        for place, (weight, tensor) in enumerate(zip(self.weights, found)):
            if tensor.shape != weight.shape:
                raise ValueError(f"trained weight {place} is {list(tensor.shape)}, expected {list(weight.shape)}")
        for value, weight, tensor in zip(self.values, self.weights, found):
            value.copy_(weight)
            weight.copy_(tensor)

    def _point_to(self, tensors: Sequence[Tensor]) -> None:
        for weight, tensor in zip(self.weights, tensors):
            weight.data = tensor
