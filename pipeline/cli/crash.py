"""What is left of an error of our own: its traceback in a file that can be sent to us."""

import platform
import sys
import tempfile
import traceback
from pathlib import Path

from ... import __version__
from ...data.files.atomic import write_text


def write_crash_log() -> Path:
    """Write the current exception's traceback beside other temporary files."""
    folder = Path(tempfile.mkdtemp(prefix="etad-error-"))
    header = f"etad {__version__}, Python {platform.python_version()}, {platform.platform()}\n{' '.join(sys.argv)}\n\n"
    return write_text(folder / "traceback.txt", header + traceback.format_exc())
