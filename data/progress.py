"""Progress bars, on stderr: over items, over what others report as done, and over training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


def progress_bar(
    title: str, items: Iterable[Any] | None = None, *, unit: str, total: int | None = None, shown: bool = True
) -> tqdm:
    """Make a bar: iterate over it for the items, or enter it as a context and call `update()` for each that is done.

    Parameters
    ----------
    total
        Number of items, where they do not tell it themselves.
    shown
        Draw it, or only count.
    """
    # Where it is to be drawn, tqdm's own variable still decides: of several processes, one draws.
    return tqdm(items, desc=title, unit=unit, total=total, **({} if shown else {"disable": True}))


@contextmanager
def step_bar(
    title: str, *, describe: Callable[[float], str] = lambda loss: f"loss {loss:.3f}"
) -> Iterator[Callable[[int, int, float], None]]:
    """Draw a bar through a training; yields what the training calls after each step with (step, steps, loss).

    Parameters
    ----------
    describe
        What stands beside the bar, given the step's loss.
    """
    with tqdm(desc=title, unit="step") as bar:

        def after_step(step: int, steps: int, loss: float) -> None:
            if bar.total is None:
                bar.total = steps
                bar.n = bar.last_print_n = bar.initial = step - 1  # so a resumed run's speed is of its own steps
            bar.set_postfix_str(describe(loss), refresh=False)
            bar.update(step - bar.n)

        yield after_step
