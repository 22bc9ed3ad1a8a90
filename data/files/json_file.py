"""Reading and writing JSON files of any size; those to read somebody else may have written."""

import contextlib
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ..errors import EtadError
from .atomic import write_bytes


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
    try:
        with without_collector():
            return _loads(path.read_bytes())
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


def write_large_json(path: Path | str, value: Any) -> Path:
    """Write a JSON file whole or not at all, many numbers quickly; NaN and infinity would become null."""
    return write_bytes(path, orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Make a million small objects: the collector would walk them all, again and again, and find none to free."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _loads(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        # Broken, or no strict JSON: the standard library takes NaN and UTF-16, and says best where it stopped.
        return json.loads(content)
