"""A child process that goes first, where damaged bytes may hang or crash whoever reads them."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import math
import os
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..errors import DiskError

Steps = Callable[[], Iterable[tuple[str, Callable[[], object]]]]

# Processor time of one step. A slow disk or a busy machine uses none, so neither passes for damage.
_STEP_SECONDS = 2
# Without a sign of life for this long, the disk is at fault.
_SILENCE_SECONDS = 120.0
# Memory that the child may take beside what this process has.
_SPARE_BYTES = 2 * 2**30
_DONE, _FAILED, _NO_MEMORY = 0, 1, 2
_EXITS = {_DONE: None, _FAILED: "fails in a way of its own", _NO_MEMORY: "takes more memory than it can need"}


def fatal_steps(steps: Steps, *, most: int = 4) -> dict[str, str]:
    """Do steps in a forked child under a limit of processor time and memory; say which of them it did not survive.

    A fork costs some milliseconds, a fresh interpreter half a second. What a step raises is nothing here: this process
    meets it again.

    Parameters
    ----------
    steps
        Lists the names of the steps and the steps; runs in the child.
    most
        Steps that may end a child before the whole is given up, and counts as fatal itself.

    Returns
    -------
        By name, what the step does: "never ends" or "ends the process (SIGSEGV)". The name is empty where that befell
        the listing itself, or too many steps.

    Raises
    ------
    DiskError
        The child cannot be started, or its disk does not answer.

    Examples
    --------
    >>> fatal_steps(lambda: [("sound", lambda: None), ("crash", lambda: os.abort()), ("wrong", lambda: 1 / 0)])
    {'crash': 'ends the process (SIGABRT)'}
    """
    fatal: dict[str, str] = {}
    while len(fatal) < most:
        last, how = _run(steps, frozenset(fatal))
        if how is None:
            return fatal
        fatal[last] = how
        if not last:
            break
    else:
        fatal.setdefault("", f"{how} in many places")
    return fatal


def _run(steps: Steps, skipped: frozenset[str]) -> tuple[str, str | None]:
    """Name of the last step that a child began, and what became of the child; None where it came to the end."""
    reader, writer = os.pipe()
    pid = None
    try:
        try:
            pid = _fork()
        except OSError as error:
            raise DiskError(f"no child process can be started ({error.strerror}). Free memory, then repeat.") from error
        if pid == 0:
            _live(steps, skipped, writer)
        os.close(writer)
        writer = -1
        last = _last_line(reader)
        status = os.waitpid(pid, 0)[1]
        pid = None
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        return last, _EXITS[os.WEXITSTATUS(status)]
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return last, "never ends"
    return last, f"ends the process ({signal.Signals(number).name})"


def _fork() -> int:
    with warnings.catch_warnings():
        # The child calls what this thread could call, and takes no lock that another thread may hold: h5py holds its
        # own through the fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _live(steps: Steps, skipped: frozenset[str], writer: int) -> None:
    """The child's whole life: it never returns, and leaves nothing of the parent's to run at its end."""
    try:
        gc.disable()
        faulthandler.disable()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGXCPU, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
            signal.signal(number, signal.SIG_DFL)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_AS, _virtual_bytes() + _SPARE_BYTES)
        for name, step in _announced(steps, skipped, writer):
            os.write(writer, json.dumps(name).encode() + b"\n")
            try:
                step()
            except MemoryError:
                os._exit(_NO_MEMORY)
            except Exception:
                continue
        os._exit(_DONE)
    finally:
        os._exit(_FAILED)


def _announced(steps: Steps, skipped: frozenset[str], writer: int) -> Iterator[tuple[str, Callable[[], object]]]:
    granted = 0
    listed: Iterable[tuple[str, Callable[[], object]]] = ()

    def list_steps() -> None:
        nonlocal listed
        listed = list(steps())

    yield "", list_steps
    for name, step in listed:
        # The limit counts whole seconds since the child began, so it moves on with the steps.
        now = math.ceil(time.process_time())
        if now + _STEP_SECONDS > granted:
            granted = now + _STEP_SECONDS
            _limit(resource.RLIMIT_CPU, granted)
        if name not in skipped:
            yield name, step


def _limit(kind: int, value: int) -> None:
    most = resource.getrlimit(kind)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def _virtual_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except (OSError, ValueError):  # no Linux
        return 2**46


def _last_line(reader: int) -> str:
    rest = b'""\n'
    while True:
        if not select.select([reader], [], [], _SILENCE_SECONDS)[0]:
            raise DiskError(
                f"reading has not gone on for {_SILENCE_SECONDS:.0f} s: the disk does not answer. Repeat when it does."
            )
        more = os.read(reader, 2**16)
        if not more:
            return str(json.loads(rest.rstrip(b"\n").rpartition(b"\n")[2]))
        rest = (rest + more)[-(2**17) :]
