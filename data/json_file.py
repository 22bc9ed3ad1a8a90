"""Reading a JSON file that somebody else may have written."""

import gc
import json
from pathlib import Path
from typing import Any

from .errors import EtadError


def read_json(path: Path, *, what: str) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    what
        What it should hold, for messages: "detections".

    Raises
    ------
    EtadError
        The file is missing, a folder, or no JSON; the message says where it stops being JSON.
    """
    if not path.exists():
        raise EtadError(f"{path}: there is no such file of {what}. Check the path.")
    # A million small objects: the collector would walk them all, again and again, and find none to free.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise EtadError(
            f"{path}: is no JSON from line {error.lineno}, column {error.colno} on ({error.msg}), expected {what}. "
            f"The file may be cut short: copy it again."
        ) from error
    except UnicodeDecodeError as error:
        raise EtadError(f"{path}: is no text (byte {error.start}), expected {what} as JSON. Name another.") from error
    except RecursionError as error:
        raise EtadError(f"{path}: is nested too deeply for a file of {what}. Name another.") from error
    except OSError as error:
        raise EtadError(f"{path}: cannot be read ({error.strerror}), expected {what} as JSON. Name another.") from error
    finally:
        if was_enabled:
            gc.enable()
