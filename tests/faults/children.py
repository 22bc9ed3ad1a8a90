"""Commands in processes of their own, forked off one that has imported everything: they start in milliseconds.

They run as `python -m etad` does but for the imports, on one thread each: sums in another number of threads round
otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

HANGS_AFTER_SECONDS = 120.0
# Nothing here needs more; what wants all of the machine's memory is told that there is none.
_MOST_BYTES = 12 * 2**30
_CONTEXT = multiprocessing.get_context("forkserver")
_PRELOADED = [
    "pytest",
    "etad.pipeline.cli.main",
    *(f"etad.pipeline.cli.{name}" for name in ("stages", "e2e", "tools")),
    *(
        f"etad.pipeline.stages.{name}"
        for name in ("check", "detect", "evaluate", "extract", "pretrain", "pretrain_clips")
    ),
    "etad.pipeline.e2e.stage",
    "etad.pipeline.show.plots",
    "matplotlib.backends.backend_agg",
    "torch._dynamo",
    "sklearn.linear_model",
]


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status (None where it had to be stopped), and all it printed."""

    status: int | None
    said: str
    allowed: tuple[int, ...] = (0, 1, 2)

    @property
    def fault(self) -> str | None:
        """What no fault of the machine or of a file excuses: "hangs", "tracebacks"."""
        if self.status is None:
            return "hangs"
        unworded = self.status == 2 and not any(each in self.said for each in ("etad:", "Error:", "Usage:"))
        crashed = any(each in self.said for each in ("Traceback", "HDF5-DIAG", "our own error"))
        return "tracebacks" if crashed or unworded or self.status not in self.allowed else None


class Child:
    """A command that is running."""

    def __init__(self, words: Sequence[str], scratch: Path, *, bound_by_rights: bool = False) -> None:
        self._said = scratch / "said.txt"
        self.process: ForkServerProcess = _CONTEXT.Process(
            target=_live, args=(list(words), self._said, bound_by_rights)
        )
        self.process.start()

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            assert self.process.pid is not None
            os.kill(self.process.pid, number)

    def is_over_after(self, seconds: float) -> bool:
        self.process.join(seconds)
        return self.process.exitcode is not None

    def end(self, *allowed: int) -> Ended:
        """Wait for the end; whoever hangs is stopped."""
        status = self.process.exitcode if self.is_over_after(HANGS_AFTER_SECONDS) else None
        if status is None:
            self.process.kill()
            self.process.join()
        said = self._said.read_text(encoding="utf-8", errors="replace") if self._said.exists() else ""
        return Ended(status, said, (0, 1, 2, *allowed))


def run(words: Sequence[str], scratch: Path, *, bound_by_rights: bool = False) -> Ended:
    """Run a command to its end."""
    return Child(words, scratch, bound_by_rights=bound_by_rights).end()


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Have the process that others are forked off start with one thread and no bars."""
    before = dict(os.environ)
    os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "MPLBACKEND": "agg"}
    _CONTEXT.set_forkserver_preload(_PRELOADED)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def worker(target: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """A process that is forked off as commands are and does what `target` says."""
    process = _CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process


def pipe() -> tuple[multiprocessing.connection.Connection, multiprocessing.connection.Connection]:
    return _CONTEXT.Pipe()


def settle(said: Path) -> None:
    """Let this process print into a file, leave crash logs beside it, and be as a fresh one."""
    import torch

    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    tempfile.tempdir = str(said.parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)


def _live(words: list[str], said: Path, bound_by_rights: bool) -> None:
    from etad.pipeline.cli import main as cli

    settle(said)
    if bound_by_rights:
        _go_without()
    sys.argv = ["etad", *words]
    cli.main(words)


def _go_without() -> None:
    """Drop root's right to pass over permissions (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, held = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    for place in (0, 1):  # effective, permitted
        held[place] &= ~0b110
    assert libc.capset(header, held) == 0
