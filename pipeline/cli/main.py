"""The `etad` command: one group whose stages chain, and the exit status of every way out.

Commands parse, call the library and print. torch is imported inside their bodies, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ... import __version__
from ...data.errors import EtadError, nearest
from ...data.interrupts import received_signal, watching_signals
from .options import Common, common_options, is_first_rank

# Threads that wait for each other sleep, and do not spin: on a machine with anything else to do, spinning makes small
# products ten times slower. torch's OpenMP reads this when it is loaded, which is later than here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The profiler, which tells how much memory a step takes, announces itself on the screen otherwise.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

DONE, WITH_FAILURES, USER_MISTAKE, OUR_ERROR, INTERRUPTED, TERMINATED = 0, 1, 2, 70, 130, 143

# Command -> the module that defines it, in the order in which help lists them.
_COMMANDS = {
    "demo": "stages",
    "check": "stages",
    "pretrain": "stages",
    "extract": "stages",
    "detect": "stages",
    "e2e": "e2e",
    "evaluate": "tools",
    "plot": "tools",
    "profile": "e2e",
    "reproduce": "reproduce",
    "verify": "cache",
    "merge": "cache",
    "weights": "cache",
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
            status = cli.main(
                args=None if arguments is None else list(arguments), prog_name="etad", standalone_mode=False
            )
            sys.stdout.flush()
        return status if isinstance(status, int) else DONE
    except (KeyboardInterrupt, click.Abort):
        return _interrupted()
    except Exception as error:
        return _failed(error)


def _interrupted() -> int:
    """Say how to go on; SIGTERM, a batch system's warning, leaves as SIGINT does."""
    is_terminated = received_signal() == signal.SIGTERM
    _say(f"etad: {'terminated' if is_terminated else 'interrupted'}; the same command goes on from here.")
    return TERMINATED if is_terminated else INTERRUPTED


def _failed(error: Exception) -> int:
    """Say what was wrong, and whose mistake it was."""
    if isinstance(error, EtadError):
        _say(f"etad: {error}")
    elif isinstance(error, click.ClickException):
        with contextlib.suppress(OSError):
            error.show()
    elif received_signal() is None and isinstance(error, BrokenPipeError):
        _discard_output()
        return DONE
    elif received_signal() is None and (reason := _output_fault()):
        _discard_output()
        _say(f"etad: the output cannot be written ({reason}). Free the place, or send it elsewhere; then repeat.")
    elif received_signal() is None:
        return _report_our_error(error)
    # What fails once a signal has come fails because of it: others of the job are gone already, or an import is half
    # done.
    return USER_MISTAKE if received_signal() is None else _interrupted()


def _report_our_error(error: Exception) -> int:
    from .crash import write_crash_log

    _say(f"etad: our own error ({type(error).__name__}: {error}). Please report {write_crash_log()}.")
    return OUR_ERROR


def _say(text: str) -> None:
    """Print to stderr, where that is possible."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def _output_fault() -> str | None:
    """Why stdout cannot be written, if it cannot."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _discard_output() -> None:
    """Let the interpreter's last flush of stdout go nowhere, instead of complaining."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
