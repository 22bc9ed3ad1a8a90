"""Memory for steps that follow one another."""

from __future__ import annotations

import math

from torch import Tensor


class Workspace:
    """Memory that one step after another works in, so that the system need not find and clear it for each of them.

    Parameters
    ----------
    like
        Of the dtype and on the device that is wanted.
    """

    def __init__(self, like: Tensor) -> None:
        self.like, self.places = like, dict[str, Tensor]()

    def __call__(self, name: str, *shape: int) -> Tensor:
        """The place of that name, with whatever was written there before."""
        size = math.prod(shape)
        if name not in self.places or len(self.places[name]) < size:
            self.places[name] = self.like.new_empty(size)
        return self.places[name][:size].view(shape)
