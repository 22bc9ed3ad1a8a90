"""The one training loop: steps, checkpoints on the way, the end of an epoch; what differs is the step."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..data.checkpoint import OPTIMIZER, TENSORS, load_checkpoint, naming_contents, require_form, save_checkpoint
from ..data.errors import EtadError, counted
from ..data.files.atomic import remove_leftovers
from ..data.interrupts import deferring_signals, holding_signals, received_signal
from ..data.ranks import ALONE, Ranks
from .average import WeightAverage
from .run_state import Progress, Provenance, TrainingFiles, TrainState, epoch_order, log_epoch, read_log
from .schedule import RateSchedule

# What a checkpoint must have for training to go on from it.
_FORM = {
    "config_digest": str,
    "position": {"epoch": int, "step": int, "best_loss": float, "sums": {str: float}},
    "model": TENSORS,
    "optimizer": OPTIMIZER,
}


class Training(Protocol):
    """What `run_training` runs."""

    num_steps: int

    @property
    def position(self) -> int:
        """Steps taken so far, those before a resume included."""

    @property
    def is_done(self) -> bool:
        """Whether the last epoch has ended, which is later than its last step."""

    def epoch_batches(self) -> Iterator[Any]:
        """Begin or go on with an epoch: set rates and modes, and yield the batches that are left of it."""

    def step(self, batch: Any) -> float:
        """Take one step; returns the loss, nan where there was nothing to learn from.

        Whatever `save` writes changes at once, in a block that holds signals, and not before gradients are there: a
        step that a signal ends leaves the state before it.
        """

    def end_epoch(self, *, seconds: float, steps: int) -> None:
        """Validate, log, keep a checkpoint; told what this process took for how many steps of the epoch."""

    def save(self) -> None:
        """Write the state to go on from."""


def run_training(training: Training, *, checkpoint_seconds: float, progress: Progress) -> None:
    """Take all steps that are left, saving the state now and then, and before a signal ends it."""
    saved_at = time.monotonic()
    with deferring_signals() as is_asked_to_end:
        while not training.is_done:
            started, first = time.monotonic(), training.position
            for batch in _saved_if_asked(training):
                loss = _step_saved_if_asked(training, batch)
                progress(training.position, training.num_steps, loss)
                if is_asked_to_end():
                    training.save()
                    raise KeyboardInterrupt
                if time.monotonic() - saved_at > checkpoint_seconds:
                    training.save()
                    saved_at = time.monotonic()
            training.end_epoch(seconds=time.monotonic() - started, steps=training.position - first)


def _saved_if_asked(training: Training) -> Iterator[Any]:
    """Batches of an epoch. A signal that comes while one is read finds the state between two steps.

    Reading may fail just then, since a signal to the whole job ends the processes that read ahead, too.
    """
    batches = training.epoch_batches()
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (Exception, KeyboardInterrupt):
            if received_signal() is not None:
                training.save()
            raise
        yield batch


def _step_saved_if_asked(training: Training, batch: Any) -> float:
    """Take a step; one that a signal ends, as it takes too long, leaves the state before it, which is saved.

    Where a signal ends all processes of a job, the others' end may be noticed first.
    """
    try:
        return training.step(batch)
    except (EtadError, KeyboardInterrupt):
        if received_signal() is not None:
            training.save()
        raise


class EpochTraining(ABC):
    """Training by epochs over windows: resume, order, rates, checkpoints, log, and the best epoch.

    Parameters
    ----------
    folder
        Where `checkpoints/` and `log.jsonl` go.
    optimizer, rates
        Learning rate of each of its groups, in order, under the name that the log gives it.
    num_windows, batch
        Windows to learn from; a last, short batch is dropped unless it is the only one.
    epochs
        To train.
    schedule
        How all rates change meanwhile.
    clip_norm
        Largest norm of the gradient of all that is trained; none: no clipping.
    ema
        Decay of the moving average of the weights, which checkpoints give to inference; 0: the weights themselves.
    origin
        What is trained for and from; a checkpoint whose config digest is another one is refused.
    ranks
        Processes that share each batch. All of them hold the same weights; the first one writes.
    """

    # What else a checkpoint's digest covers, and where to lower the rate: for the sentences.
    depends_on = "another config"
    advice = "Lower the learning rate."

    def __init__(
        self,
        *,
        folder: Path,
        optimizer: torch.optim.Optimizer,
        rates: Mapping[str, float],
        num_windows: int,
        batch: int,
        epochs: int,
        schedule: RateSchedule,
        clip_norm: float | None,
        ema: float,
        checkpoint_seconds: float,
        origin: Provenance,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.files, self.optimizer, self.rates = TrainingFiles(folder), optimizer, dict(rates)
        self.origin, self.seed = origin, origin.seed
        self.epochs, self.schedule, self.clip_norm = epochs, schedule, clip_norm
        self.average = WeightAverage(self._trained, ema) if ema else None
        self.num_windows, self.batch = num_windows, batch
        self.checkpoint_seconds = checkpoint_seconds
        self.steps_per_epoch = len(self._order(0))
        self.num_steps = epochs * self.steps_per_epoch
        self.state = TrainState()
        # Called by the first process once the log has an epoch's line.
        self.after_epoch: Callable[[], None] = lambda: None
        # Called with the share of a step that is done, by steps that are long: set by whoever draws a bar.
        self.within_step: Callable[[float], None] = lambda share: None

    @property
    def last(self) -> Path:
        return self.files.last

    @property
    def position(self) -> int:
        return self.state.epoch * self.steps_per_epoch + self.state.step

    @property
    def is_done(self) -> bool:
        return self.state.epoch >= self.epochs

    def resume(self) -> bool:
        """Go on from the last checkpoint, if there is one.

        Raises
        ------
        EtadError
            It comes from another config or from other data.
        """
        if self.ranks.is_first:
            remove_leftovers(self.last.parent)
        if not self.ranks.broadcast(self.last.exists()):
            return False
        saved = load_checkpoint(self.last)
        require_form(self.last, saved, _FORM)
        if saved["config_digest"] != self.origin.config_digest:
            found = self.origin.differences(saved) or [self.depends_on]
            raise EtadError(
                f"{self.last}: this checkpoint does not go with what there is now: {'; '.join(found)}. Put back what "
                "was there, or choose another run folder with -o."
            )
        with naming_contents(self.last):
            state = self._restore(saved)
            if self.average is not None:
                self.average.restore(saved["trained"])
        begun = state.epoch + (state.step > 0)
        if begun > self.epochs:
            raise EtadError(
                f"{self.last}: trained for {state.epoch} epochs and {counted(state.step, 'step')} already, more than "
                f"the {self.epochs} asked for. Ask for {begun} or more, or choose another run folder."
            )
        if self.ranks.is_first and self.files.log.exists():
            read_log(self.files.log)  # a damaged one is complained of now, not when an epoch has been spent
        self.state = state
        return True

    def run(self, progress: Progress = lambda step, steps, loss: None) -> None:
        """Train until the last epoch, keeping checkpoints on the way."""
        run_training(self, checkpoint_seconds=self.checkpoint_seconds, progress=progress)
        self.ranks.wait()  # until the first one has written the last checkpoint

    def epoch_batches(self) -> Iterator[Any]:
        for module in self._modules():
            module.train()
        left = self._order(self.state.epoch)[self.state.step :]
        own = [self.ranks.share(numbers) for numbers in left]
        yield from zip(left, self._batches(own, self.state.epoch))

    def step(self, batch: Any) -> float:
        numbers, values = batch
        return self._step(numbers, values)

    def end_epoch(self, *, seconds: float, steps: int) -> None:
        # Steps that learned from nothing are not counted; where each one counts, nobody notes it.
        counted = self.state.sums.get("steps", float(self.steps_per_epoch))
        try:
            with self._averaged():
                val_loss = self._validation_loss()
        except KeyboardInterrupt:
            self.save()  # all steps of the epoch; its end comes again
            raise
        train = {name: total / counted for name, total in self.state.sums.items() if name != "steps"}
        rates = {name: group["lr"] for name, group in zip(self.rates, self.optimizer.param_groups)}
        line = {"epoch": self.state.epoch + 1, **rates, "train": train, "val_loss": val_loss}
        line |= {"seconds": round(seconds, 3)} | self._log(seconds=seconds, steps=steps)
        if self.ranks.is_first:
            log_epoch(self.files.log, line)
            self.after_epoch()
        measured, measured_of = (train["loss"], "training") if val_loss is None else (val_loss, "validation")
        best = self.state.best_loss if self.state.best_of == measured_of else math.inf
        better = measured < best
        self.state = TrainState(epoch=self.state.epoch + 1, best_loss=min(measured, best), best_of=measured_of)
        if better and self.ranks.is_first:
            self._write(self.files.checkpoint("best"))
        self.save()

    def save(self) -> None:
        if self.ranks.is_first:
            self._write(self.last)

    def _write(self, path: Path) -> None:
        with holding_signals():  # the weights change places with their average meanwhile
            save_checkpoint(path, self._contents())

    @abstractmethod
    def _modules(self) -> Sequence[nn.Module]:
        """What is in training mode."""

    @abstractmethod
    def _batches(self, order: Sequence[Sequence[int]], epoch: int) -> Iterable[Any]:
        """Read each list of window numbers, which are this rank's."""

    @abstractmethod
    def _step(self, numbers: Sequence[int], values: Any) -> float:
        """Learn from one batch, of which this rank has read its share; returns the loss.

        Ends with `_update`, or with `_pass_over` where there is nothing to learn from.
        """

    @abstractmethod
    def _validation_loss(self) -> float | None:
        """Measure the loss on windows that are not trained on; none where there are none."""

    @abstractmethod
    def _checkpoint(self) -> dict[str, Any]:
        """Everything that going on and inference need."""

    @abstractmethod
    def _restore(self, saved: Mapping[str, Any]) -> TrainState:
        """Put everything back to where a checkpoint was written."""

    @abstractmethod
    def _log(self, *, seconds: float, steps: int) -> dict[str, Any]:
        """What the epoch's line holds besides losses and rates."""

    @property
    def _trained(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _averaged(self) -> AbstractContextManager[None]:
        """What is measured and inferred with: the average, where there is one."""
        return nullcontext() if self.average is None else self.average.applied()

    def _contents(self) -> dict[str, Any]:
        """A checkpoint whose weights are those to infer with, and what training goes on from where that differs."""
        trained = {} if self.average is None else {"trained": self.average.trained()}
        with self._averaged():
            return self._checkpoint() | trained

    def _order(self, epoch: int) -> list[list[int]]:
        return epoch_order(self.num_windows, batch=self.batch, seed=self.seed, epoch=epoch)

    def _set_rates(self) -> None:
        factor = self.schedule.factor(self.state.epoch, self.state.step, self.steps_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.rates.values()):
            group["lr"] = rate * factor

    def _check_finite(self, loss: Tensor) -> None:
        check_finite(loss, f"epoch {self.state.epoch + 1}, step {self.state.step + 1}", self.advice)

    def _update(self, parts: Mapping[str, Tensor]) -> float:
        """Join and clip the gradients, take the optimiser's step, and note the parts of the loss; returns the loss."""
        self._set_rates()
        trained = self._trained
        self.ranks.sum_gradients(trained)
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(trained, self.clip_norm)
        values = {name: value.item() for name, value in parts.items()}
        with holding_signals():
            update(self.optimizer)
            if self.average is not None:
                self.average.update(self.position + 1)
            for name, value in values.items():
                self.state.sums[name] = self.state.sums.get(name, 0.0) + value
            self.state.step += 1
        return values["loss"]

    def _pass_over(self) -> float:
        """Count a step that learned from nothing; returns its loss, nan."""
        self.state.step += 1
        return math.nan


def check_finite(loss: Tensor, where: str, advice: str) -> None:
    """Stop a training that has diverged.

    Raises
    ------
    EtadError
        The loss is not finite.
    """
    if not loss.isfinite():
        raise EtadError(f"the loss is {loss.item()} at {where}. {advice}")


@contextmanager
def restoring_buffers(module: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Put buffers, of batch norms that learn as clips pass, back where a step is broken off.

    Yields what they held, to be cleared together with the step's update: from there on, the step counts.
    """
    kept = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield kept
    except BaseException:
        with holding_signals():
            for buffer, before in kept:
                buffer.copy_(before)
        raise


def build_optimizer(
    groups: Sequence[Mapping[str, Any]], *, kind: str, weight_decay: float, **options: Any
) -> torch.optim.Optimizer:
    """AdamW or Adam with weight decay on every parameter (method, section 6); what is frozen is not in the groups.

    It takes one pass over each tensor; see `update` for what makes that safe.
    """
    make = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    return make([dict(group) for group in groups], weight_decay=weight_decay, fused=True, **options)


def update(optimizer: torch.optim.Optimizer) -> None:
    """Take the optimiser's step.

    On the CPU a fused optimiser pairs weights and gradients of different memory orders wrongly, without a word: such
    gradients are laid out as their weights are, first.
    """
    for group in optimizer.param_groups:
        if not group.get("fused"):
            continue  # as end-to-end checkpoints of earlier versions have it
        for parameter in group["params"]:
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
    optimizer.step()
