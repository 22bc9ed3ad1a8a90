"""Work done ahead by threads, handed over in order, never more of it ahead than fits."""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")

_END = object()
_PATIENCE_SECONDS = 0.1


def in_order(
    parts_of: Callable[..., list[Iterator[Item]]], jobs: Iterable[tuple[Any, ...]], *, workers: int, ahead: int
) -> Iterator[Item]:
    """Yield all items of all parts of all jobs, in their order, while threads work on the next parts.

    Parameters
    ----------
    parts_of
        Called with a job's arguments, splits it into parts: iterators that do the work as they are advanced.
    workers
        Threads, each on another part; 0 does everything when asked.
    ahead
        Items that a part may have waiting.

    Raises
    ------
    Exception
        What a part raises, in its place.
    """
    if workers == 0:
        for job in jobs:
            for part in parts_of(*job):
                yield from part
        return
    stop, lock = threading.Event(), threading.Lock()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
    # Parts are begun in their order, so the one that is waited for is always among those in work: no deadlock.
    splits: deque[Future[list[Iterator[Item]]]] = deque()
    known: deque[Iterator[Item]] = deque()
    begun: deque[queue.Queue[Any]] = deque()
    waiting = iter(jobs)

    def split_up(*job: Any) -> list[Iterator[Item]]:
        return list(parts_of(*job))  # whatever it raises, it raises here

    def begin_parts(_: object = None) -> None:
        """Begin what is known, as far as there is room.

        Also called by the threads when a job is split, so that they need not wait for a caller who is at work.
        """
        with lock:
            while not stop.is_set() and len(begun) <= workers:
                while splits and not known and splits[0].done() and splits[0].exception() is None:
                    known.extend(splits.popleft().result())
                if not known:
                    return
                begun.append(queue.Queue(maxsize=ahead))
                pool.submit(_work, known.popleft(), begun[-1], stop)

    try:
        while True:
            # One more than there are threads, so that the next part is known before the one in work ends.
            room = workers + 1 - len(splits)
            fresh = [pool.submit(split_up, *job) for job in itertools.islice(waiting, room)]
            splits.extend(fresh)
            for each in fresh:
                each.add_done_callback(begin_parts)
            begin_parts()
            with lock:
                head = begun[0] if begun else None
                split = splits[0] if splits else None
            if head is None:
                if split is not None:
                    split.result()
                elif len(fresh) < room:  # nor is there another job
                    return
                continue
            item = head.get()
            if item is _END:
                with lock:
                    begun.popleft()
            elif isinstance(item, _Raised):
                raise item.error
            else:
                yield item
    finally:
        with lock:
            stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


class _Raised:
    """An error on its way from a thread."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _work(part: Iterator[Any], out: queue.Queue[Any], stop: threading.Event) -> None:
    try:
        for item in part:
            if not _put(out, item, stop):
                return
        _put(out, _END, stop)
    except BaseException as error:  # it belongs to whoever waits for this part
        _put(out, _Raised(error), stop)
    finally:
        close = getattr(part, "close", None)
        if close is not None:
            close()


def _put(out: queue.Queue[Any], item: object, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            out.put(item, timeout=_PATIENCE_SECONDS)
            return True
        except queue.Full:
            continue
    return False
