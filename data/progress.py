"""Progress bars, on stderr: over items, over what others report as done, within long items, and over training steps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sized
from threading import Lock, Thread
from time import sleep, time
from typing import Any

from tqdm import tqdm

# A bar that nothing moves for so long is drawn again: its clock tells that the work goes on.
_PULSE_SECONDS = 3.0
_pulse: Thread | None = None
_starting = Lock()


class _Bar(tqdm):
    """A bar that is drawn now and then, also while what it counts takes long."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if not self.disable:
            _start_pulse()


def progress_bar(
    title: str,
    items: Iterable[Any] | None = None,
    *,
    unit: str,
    total: int | None = None,
    shown: bool = True,
    delay: float = 0,
) -> _Bar:
    """Make a bar: iterate over it for the items, or enter it as a context and call `update()` for each that is done.

    Parameters
    ----------
    total
        Number of items, where they do not tell it themselves.
    shown
        Draw it, or only count.
    delay
        Seconds before it is drawn: what is done by then needs no bar.
    """
    count = len(items) if total is None and isinstance(items, Sized) else total
    shown = shown and count != 0  # of nothing to do, nothing is to be seen
    # Where it is to be drawn, tqdm's own variable still decides: of several processes, one draws.
    return _Bar(items, desc=title, unit=unit, total=total, delay=delay, **({} if shown else {"disable": True}))


class PartBar(_Bar):
    """A bar over long items that also moves within each of them; enter it as a context.

    Parameters
    ----------
    done
        Items that were done before.
    shown
        Draw it, or only count.
    """

    # How many items are done; `n`, by which the bar and the time left go, also counts the share of the one at hand.
    whole = 0

    def __init__(self, title: str, *, unit: str, total: int, done: int = 0, shown: bool = True) -> None:
        self.whole = done
        layout = "{l_bar}{bar}| {whole}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
        # Without a least number of items between two drawings, also a small share of one is drawn.
        super().__init__(
            desc=title,
            unit=unit,
            total=total,
            initial=done,
            miniters=0,
            bar_format=layout,
            **({} if shown and total else {"disable": True}),
        )

    @property
    def format_dict(self) -> dict[str, Any]:
        """What is drawn."""
        return super().format_dict | {"whole": self.whole}

    def within(self, share: float) -> None:
        """Move to a share, 0..1, of the item at hand; never back."""
        self.update(max(0.0, self.whole + share - self.n))

    def finish_one(self) -> None:
        """Count the item at hand as done."""
        self.whole += 1
        self.update(self.whole - self.n)


class StepBar(PartBar):
    """A bar through a training; called after each step with (step, steps, loss).

    Parameters
    ----------
    done, total
        Steps that were made before, and all.
    describe
        What stands beside the bar, given the step's loss.
    """

    def __init__(
        self, title: str, *, done: int, total: int, describe: Callable[[float], str] = lambda loss: f"loss {loss:.3f}"
    ) -> None:
        self.describe = describe
        super().__init__(title, unit="step", total=total, done=done)

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """Count a step as done."""
        self.set_postfix_str(self.describe(loss), refresh=False)
        self.whole = step
        self.update(step - self.n)


def write_above_bars(text: str) -> None:
    """Write a line to stderr that stays, above the bars that are being drawn."""
    tqdm.write(text, file=sys.stderr)


def redraw_still(now: float) -> None:
    """Draw those bars again that have not moved for some seconds before a moment, in seconds of the clock."""
    for bar in list(_Bar._instances):
        if isinstance(bar, _Bar) and not bar.disable and now - bar.last_print_t >= _PULSE_SECONDS:
            bar.refresh()


def _start_pulse() -> None:
    global _pulse
    with _starting:
        if _pulse is None or not _pulse.is_alive():
            _pulse = Thread(target=_redraw_while_any, name="progress bars", daemon=True)
            _pulse.start()


def _redraw_while_any() -> None:
    while _Bar._instances:
        sleep(_PULSE_SECONDS)
        redraw_still(time())
