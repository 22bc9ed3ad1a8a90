"""Learning rates over the epochs of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

RateDecay = Literal["step", "cosine"]
_LEAST = 0.01


@dataclass(frozen=True)
class RateSchedule:
    """What a learning rate is multiplied by; it knows nothing of how many epochs there will be.

    Parameters
    ----------
    decay
        `step`: a tenth after `decay_after` epochs. `cosine`: down along half a cosine, to a hundredth at
        `decay_after` epochs, where it stays.
    decay_after
        In epochs.
    warmup_epochs
        So long it rises linearly from nearly nothing to where it would be; parts of an epoch count.
    """

    decay: RateDecay = "step"
    decay_after: int = 5
    warmup_epochs: float = 0.0

    def factor(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """At a step of an epoch, both counted from zero.

        Examples
        --------
        >>> schedule = RateSchedule(decay_after=2, warmup_epochs=0.5)
        >>> [schedule.factor(epoch, step, 4) for epoch, step in ((0, 0), (0, 1), (0, 2), (2, 0))]
        [0.5, 1.0, 1.0, 0.1]
        """
        if self.decay == "step":
            factor = 0.1 if epoch >= self.decay_after else 1.0
        else:
            share = min((epoch + step / steps_per_epoch) / self.decay_after, 1.0)
            factor = _LEAST + (1 - _LEAST) * 0.5 * (1 + math.cos(math.pi * share))
        warmup_steps = round(self.warmup_epochs * steps_per_epoch)
        taken = epoch * steps_per_epoch + step + 1
        return factor * min(1.0, taken / warmup_steps) if warmup_steps else factor
