"""`python -m etad` is the `etad` command, and so is what pip installs under that name."""

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line; a signal before it has begun, or after it has ended, leaves without a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)
    from .pipeline.cli.main import main as run

    run()


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"etad: interrupted.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
