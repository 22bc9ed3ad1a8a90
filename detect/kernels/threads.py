"""How many threads a computation is worth, and the threads themselves."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

# Set in a thread that computes a part.
_own = threading.local()

# Steps over fewer rows are too small for several threads.
MANY_ROWS = 1024

Part = TypeVar("Part")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch on one thread, then on as many as before.

    Samplers are long chains of small steps. Handing each of them to a second thread costs more than it saves, and
    on a busy core, where that thread has to wait for its turn, a hundred times more.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_parallel(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Call a function on each part at the same time, as far as there are cores; results in their order.

    Each thread computes alone: where the parts are of one size, that is faster than sharing every small operation
    among all threads, which have to find together each time. No gradient is recorded. No part is running when this
    returns or raises. Parts of a part are computed one after the other.
    """
    if len(parts) == 1 or getattr(_own, "computes", False):
        return [function(part) for part in parts]
    # What PyTorch keeps for each thread apart.
    inference, before = torch.is_inference_mode_enabled(), torch.get_num_threads()
    short, enabled = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

    def alone(part: Part) -> Result:
        _own.computes = True
        torch.set_num_threads(1)
        with torch.inference_mode(inference), torch.no_grad(), torch.autocast("cpu", short, enabled):
            return function(part)

    running: list[Future[Result]] = []
    try:
        running.extend(_workers().submit(alone, part) for part in parts)
        wait(running)
        # Taken out one by one: a future that holds an error, whose traceback holds this frame, would hold itself.
        return [running.pop(0).result() for _ in parts]
    finally:
        try:
            for each in running:
                each.cancel()
            wait(running)
        finally:
            # Parts set it for the whole process, as threads that are started later see it.
            torch.set_num_threads(before)


@functools.cache
def _workers() -> ThreadPoolExecutor:
    """Threads that stay, as their memory does: new ones would ask the system for it again at every call."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="part")


if hasattr(os, "register_at_fork"):
    # A process that is forked off inherits the pool without its threads.
    os.register_at_fork(after_in_child=_workers.cache_clear)


def map_parallel(function: Callable[[Part], Result], items: Sequence[Part], *, rows: int | None = None) -> list[Result]:
    """Call a function on each item, several side by side, on one thread each; results in their order.

    Parameters
    ----------
    rows
        Of each item, where the function is a chain of steps over its rows, as samplers are. Few rows make steps of a
        few microseconds, which are done sooner on one thread, one item after the other; an item of many has all
        threads where it is alone.
    """
    if rows is not None and (rows < MANY_ROWS or len(items) <= 1):
        with one_thread() if rows < MANY_ROWS else contextlib.nullcontext():
            return [function(item) for item in items]
    parts = even_parts(len(items), torch.device("cpu"))
    with one_thread() if len(parts) == 1 else contextlib.nullcontext():
        done = run_parallel(lambda part: [function(items[number]) for number in part], parts)
    return [each for part in done for each in part]


def even_parts(count: int, device: torch.device) -> list[range]:
    """Cut 0 .. count - 1 into one run for each of PyTorch's threads on the CPU; into one run elsewhere."""
    parts = max(min(torch.get_num_threads(), count), 1) if device.type == "cpu" else 1
    edges = [count * part // parts for part in range(parts + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(edges)]
