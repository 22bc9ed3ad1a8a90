"""Runs several at a time: as many as there are cores, and memory for."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Generic, TypeVar

import torch

from ...data.errors import EtadError
from ...data.interrupts import received_signal, watching_signals
from ...data.progress import progress_bar

# Of a run of the demo's size: libraries 0.5 GiB, the rest frames, features and maps.
_BYTES_PER_RUN = 1.5 * 2**30
# Until processes that were asked to end have saved.
_PATIENCE_SECONDS = 20.0

_logger = logging.getLogger(__name__)
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_Key = TypeVar("_Key")


class Pool(Generic[_Job, _Result]):
    """A function of a job, for many jobs, in this process or in several.

    Parameters
    ----------
    start
        Starts processes; none: jobs are done in this one.
    at_once
        How many.
    """

    def __init__(
        self, run: Callable[[_Job], _Result], start: Callable[[], ProcessPoolExecutor] | None, at_once: int
    ) -> None:
        self._run, self._start, self._at_once = run, start, at_once
        self._executor = None if start is None else start()

    def gather(self, jobs: Sequence[_Job], *, title: str) -> list[_Result]:
        """Do all jobs; results in their order.

        Raises
        ------
        EtadError
            A process was killed.
        """
        found: dict[int, _Result] = {}

        def note(number: int, result: _Result) -> dict[int, _Job]:
            found[number] = result
            return {}

        self.work(dict(enumerate(jobs)), note, title=title, total=len(jobs))
        return [found[number] for number in range(len(jobs))]

    def work(
        self,
        jobs: Mapping[_Key, _Job],
        done: Callable[[_Key, _Result], Mapping[_Key, _Job]],
        *,
        title: str,
        total: int,
        unit: str = "run",
        killed: Callable[[], _Result] | None = None,
        count: Callable[[], int] | None = None,
    ) -> None:
        """Do jobs, and those that they make possible, in the order in which they become so.

        Parameters
        ----------
        jobs
            Those to begin with, by whatever names them.
        done
            Called in this thread with each result; returns the jobs that can now be done.
        total
            Jobs that there will be in all.
        unit
            What the bar calls a job.
        killed
            Makes the result of a job whose process is killed, also when it is alone; none: that ends the work.
        count
            Tells how many of `total` are done with, where results decide on others, too; none: the results.

        Raises
        ------
        EtadError
            A process was killed.
        """
        with progress_bar(title, unit=unit, total=total) as bar:
            waiting, running = deque(jobs.items()), dict[Future[_Result], tuple[_Key, _Job]]()
            shown = results = 0
            while waiting or running:
                if self._executor is None:
                    key, job = waiting.popleft()
                    finished = {key: self._run(job)}
                else:
                    # No more than are done at once: so it is known which ones a killed process may have had.
                    while waiting and len(running) < self._at_once:
                        key, job = waiting.popleft()
                        running[self._submit(job)] = (key, job)
                    wait(running, return_when=FIRST_COMPLETED)
                    finished = self._finished(running, killed)
                for key, result in finished.items():
                    waiting.extend(done(key, result).items())
                    results += 1
                    now = results if count is None else count()
                    bar.update(now - shown)
                    shown = now

    def close(self) -> None:
        """Let the processes go."""
        if self._executor is not None:
            self._executor.shutdown()

    def abandon(self) -> None:
        """Ask the processes to end, with what they are at."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            _end(multiprocessing.active_children())

    def _submit(self, job: _Job) -> Future[_Result]:
        assert self._start is not None and self._executor is not None
        try:
            return self._executor.submit(_run_watched, self._run, job)
        except BrokenProcessPool:  # since the last result; what was under way tells by its own
            # The others were asked to end as well, and save first: what is done again is not to meet them.
            self._executor.shutdown()
            self._executor = self._start()
            return self._executor.submit(_run_watched, self._run, job)

    def _finished(
        self, running: dict[Future[_Result], tuple[_Key, _Job]], killed: Callable[[], _Result] | None
    ) -> dict[_Key, _Result]:
        """Take what is finished; where a process was killed, whatever was under way is done again, one by one."""
        found: dict[_Key, _Result] = {}
        lost: list[tuple[_Key, _Job]] = []
        for future in [each for each in running if each.done()]:
            key, job = running.pop(future)
            try:
                found[key] = future.result()
            except BrokenProcessPool as error:
                if killed is None or received_signal() is not None:
                    raise EtadError(
                        "a run was killed, most likely because memory ran out. Ask for fewer at a time with --jobs; "
                        "what is done stays."
                    ) from error
                lost.append((key, job))
        if lost and killed is not None:
            self._at_once = max(1, self._at_once // 2)  # as many again would end the same way
            _logger.warning(
                "a run was killed, most likely because memory ran out: what was under way is done again, one by one, "
                "and then no more than %d at a time.",
                self._at_once,
            )
            wait(running)  # they are lost, too, or done at the very moment
            found |= self._finished(running, killed) if running else {}
            for key, job in lost:
                try:
                    found[key] = self._submit(job).result()
                except BrokenProcessPool:
                    found[key] = killed()
        return found


@contextlib.contextmanager
def pool_of(run: Callable[[_Job], _Result], jobs: int) -> Iterator[Pool[_Job, _Result]]:
    """Open a pool: with one job at a time it is this process, with all threads; else each process has one thread."""
    if jobs == 1:
        yield Pool(run, None, 1)
        return
    # Spawned, not forked: a fork takes over threads' locks in whatever state they are.
    context = multiprocessing.get_context("spawn")
    _start_quiet_tracker()
    pool = Pool(run, lambda: ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare), jobs)
    try:
        yield pool
    except BaseException:
        pool.abandon()
        raise
    pool.close()


def _start_quiet_tracker() -> None:
    """Start Python's process that removes the semaphores of processes that were killed, without its warnings of it."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join([*([before] if before else []), "ignore:resource_tracker"])
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _end(processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
    """Ask processes to end, as whoever ended this one asked; a training in them saves where it is."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_PATIENCE_SECONDS)
        process.kill()


def _run_watched(run: Callable[[_Job], _Result], job: _Job) -> _Result:
    try:
        with watching_signals():
            return run(job)
    except KeyboardInterrupt:
        os._exit(1)  # the next job is waiting in the queue already


def jobs_that_fit(device: torch.device) -> int:
    """Runs of the demo's size that this machine has cores and memory for; one where they would share a GPU."""
    if device.type != "cpu":
        return 1
    free = _free_bytes()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores if free is None else min(cores, int(free / _BYTES_PER_RUN)))


def _free_bytes() -> int | None:
    """Memory that is free or can be freed; None where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    except (OSError, ValueError):
        return None
    return None


def _prepare() -> None:
    """Of a process: one thread, and an end when the process that started it has ended, or asks for it."""
    # A terminal sends Ctrl-C to all of them: the first one asks the others, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()  # returns when it is killed, too
    os.kill(os.getpid(), signal.SIGTERM)  # a training that is under way saves where it is
