"""What is left of a command that failed: its traceback in a file that can be sent to us, a sentence for torchrun."""

import contextlib
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from ... import __version__
from ...data.files.atomic import write_text

# torchrun names the earliest failure as the cause, in whole seconds; what others' end brought about comes behind it.
_CONSEQUENCE_SECONDS = 60


def write_crash_log() -> Path:
    """Write the current exception's traceback beside other temporary files."""
    folder = Path(tempfile.mkdtemp(prefix="etad-error-"))
    header = f"etad {__version__}, Python {platform.python_version()}, {platform.platform()}\n{' '.join(sys.argv)}\n\n"
    return write_text(folder / "traceback.txt", header + traceback.format_exc())


def tell_torchrun(said: str, *, is_cause: bool = True) -> None:
    """Leave a sentence where torchrun, if it started this process, looks for why it failed (its error file).

    Parameters
    ----------
    is_cause
        Not merely what another process's end brought about.
    """
    name = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not name:
        return
    noticed_seconds = int(time.time()) + (0 if is_cause else _CONSEQUENCE_SECONDS)
    content = {"message": {"message": said, "extraInfo": {"timestamp": str(noticed_seconds)}}}
    with contextlib.suppress(OSError):
        Path(name).write_text(json.dumps(content), encoding="utf-8")
