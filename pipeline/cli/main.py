"""The `etad` command: one group whose stages chain, and the exit status of every way out.

Commands parse, call the library and print. torch is imported inside their bodies, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ... import __version__
from ...data.errors import EtadError, OthersEndedError, is_out_of_memory, nearest, printable
from ...data.interrupts import received_signal, watching_signals
from .crash import tell_torchrun, write_crash_log
from .options import Common, common_options, is_first_rank

# Threads that wait for each other sleep, and do not spin: on a machine with anything else to do, spinning makes small
# products ten times slower. torch's OpenMP reads this when it is loaded, which is later than here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The profiler, which tells how much memory a step takes, announces itself on the screen otherwise.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

DONE, WITH_FAILURES, USER_MISTAKE, OUR_ERROR, INTERRUPTED, TERMINATED = 0, 1, 2, 70, 130, 143

# What the system refuses through no error of ours.
_SYSTEMS_ERRORS = {
    getattr(errno, name)
    for name in (
        *("ENOENT", "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "EIO", "ENAMETOOLONG", "ELOOP", "ENOTDIR"),
        *("EISDIR", "EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ETXTBSY", "EBUSY", "ENXIO", "ENODEV", "ETIMEDOUT"),
    )
}
_MOST_SHOWN = 500

# Command -> the module that defines it, in the order in which help lists them.
_COMMANDS = {
    "demo": "stages",
    "init": "own_data",
    "train": "own_data",
    "config": "own_data",
    "check": "stages",
    "pretrain": "stages",
    "extract": "stages",
    "detect": "stages",
    "e2e": "e2e",
    "predict": "predict",
    "evaluate": "tools",
    "compare": "compare",
    "plot": "tools",
    "profile": "e2e",
    "reproduce": "reproduce",
    "verify": "cache",
    "merge": "cache",
    "weights": "cache",
    "import": "exchange",
    "export": "exchange",
    "transcode": "tools",
}


class _Group(click.Group):
    """Commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        return getattr(import_module(f".{_COMMANDS[name]}", __package__), name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command '{args[0]}'.{nearest(args[0], _COMMANDS)}", ctx=ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, chain=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="etad")
@common_options
def cli(common: Common) -> None:
    """Temporal action detection that trains end to end on a laptop.

    Videos -> extract -> feature cache -> detect -> detections, mAP and pictures. Stages chain in one call
    or run as separate jobs; they meet only on disk. A first look, without any data: etad demo

    \b
    Example:
      etad -c thumos14 -o runs/t14 extract detect
    """


@cli.result_callback()
def _worst(statuses: Sequence[int | None], **_: Any) -> int:
    return max((status or DONE for status in statuses), default=DONE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    status = run(arguments)
    if status in (INTERRUPTED, TERMINATED):
        # Python would end itself by the signal, without a status, where it came in the middle of some imports; and a
        # second signal, while threads are waited for, would leave a traceback.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Of processes that work together, the first one tells; the others speak up where something is wrong."""
    os.environ["TQDM_DISABLE"] = "1"
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; every way out gets its own status and, where something is wrong, one sentence."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        with watching_signals(), contextlib.nullcontext() if is_first_rank() else _silence():
            status = cli.main(args=_readable(arguments), prog_name="etad", standalone_mode=False)
            sys.stdout.flush()
        if status == WITH_FAILURES:
            tell_torchrun("etad: done, but not with everything; what failed stands above, where the command ends.")
        return status if isinstance(status, int) else DONE
    except (KeyboardInterrupt, click.Abort):
        return _interrupted()
    except SystemExit:  # click's way out where nobody reads the output any more; nothing else here exits
        _discard_output()
        return DONE
    except Exception as error:
        return _failed(error)


def _readable(arguments: Sequence[str] | None) -> list[str]:
    """The arguments, all of them text: a config, a cache and a manifest hold them as such."""
    found = list(sys.argv[1:] if arguments is None else arguments)
    for text in found:
        if any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in text):
            raise EtadError(f"argument '{printable(text)}' holds bytes that are no UTF-8 text. Rename what it names.")
    return found


def _interrupted() -> int:
    """Say how to go on; SIGTERM, a batch system's warning, leaves as SIGINT does."""
    is_terminated = received_signal() == signal.SIGTERM
    said = f"etad: {'terminated' if is_terminated else 'interrupted'}; the same command goes on from here."
    _say(said, is_cause=False)
    return TERMINATED if is_terminated else INTERRUPTED


def _failed(error: Exception) -> int:
    """Say what was wrong, and whose mistake it was."""
    if isinstance(error, EtadError):
        _say(f"etad: {error}", is_cause=not isinstance(error, OthersEndedError))
    elif isinstance(error, click.ClickException):
        tell_torchrun(f"etad: {error.format_message()}")
        with contextlib.suppress(OSError):
            error.show()
    elif received_signal() is None and _is_of_output(error):
        _discard_output()
        reason = getattr(error, "strerror", None) or error
        _say(f"etad: the output cannot be written ({reason}). Free the place, or send it elsewhere; then repeat.")
    elif received_signal() is None and (said := _systems_fault(error)):
        _say(f"etad: {said}")
    elif received_signal() is None:
        return _report_our_error(error)
    # What fails once a signal has come fails because of it: others of the job are gone already, or an import is half
    # done.
    return USER_MISTAKE if received_signal() is None else _interrupted()


def _report_our_error(error: Exception) -> int:
    said = f"etad: our own error ({type(error).__name__}: {printable(str(error))[:_MOST_SHOWN]})."
    try:
        _say(f"{said} Please report {write_crash_log()}.")
    except (EtadError, OSError) as unwritten:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}, line {last.lineno}, in {last.name}"
        _say(f"{said} Please report it with its place: {where}. There is more, but no room for it: {unwritten}")
    return OUR_ERROR


def _systems_fault(error: Exception) -> str | None:
    """Word what the system refuses, and whoever runs it can mend: no right, no room, no memory."""
    if is_out_of_memory(error):
        return "there is not enough memory. Lower a batch size or workers, or use a larger machine; then repeat."
    if isinstance(error, OSError) and error.errno is not None and error.errno in _SYSTEMS_ERRORS:
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "a file"
        return (
            f"{printable(name)}: cannot be used ({os.strerror(error.errno)}). Check that it is there, its rights and "
            "its folder's, and the disk's room; then repeat."
        )
    return None


def _say(text: str, *, is_cause: bool = True) -> None:
    """Print to stderr, where that is possible; what is quoted from files is not obeyed by the terminal."""
    tell_torchrun(printable(text), is_cause=is_cause)
    with contextlib.suppress(OSError):
        click.echo(printable(text), err=True)


def _is_of_output(error: Exception) -> bool:
    """Whether it was stdout that could not be written."""
    if not isinstance(error, OSError) or error.filename is not None or error.errno is None:
        return False
    return traceback.extract_tb(error.__traceback__)[-1].name in ("echo", "run")


def _discard_output() -> None:
    """Let the interpreter's last flush of stdout go nowhere, instead of complaining."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
