"""Reading and writing JSON files of any size; those to read somebody else may have written."""

import contextlib
import gc
import json
import logging
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from ..errors import EtadError, counted, listing
from .atomic import write_bytes

_logger = logging.getLogger(__name__)

_HALF, _HALF_ESCAPE = re.compile("[\ud800-\udfff]"), re.compile(r"\\u[dD][89a-fA-F]")


class RepeatingObject(dict[str, Any]):
    """A JSON object in which some keys stand more than once; of each, the last value counts.

    Attributes
    ----------
    repeated
        Those keys, in the order of the file.
    """

    repeated: tuple[str, ...] = ()


def repeated_keys(value: Any) -> tuple[str, ...]:
    """Keys that stand more than once in an object that `read_json` read with `find_repeats`."""
    return value.repeated if isinstance(value, RepeatingObject) else ()


def describe_repeats(ids: Sequence[str]) -> str:
    """Say which ids stand twice, for one line of a report.

    Examples
    --------
    >>> describe_repeats(["x", "y"])
    '2 ids stand twice, and the last entry of each counts: x, y'
    """
    stand = "stands" if len(ids) == 1 else "stand"
    return f"{counted(len(ids), 'id')} {stand} twice, and the last entry of each counts: {listing(ids)}"


def warn_of_repeats(path: Path, by_id: Any) -> None:
    """Warn of ids that stand twice in an object by id."""
    if repeated_keys(by_id):
        _logger.warning("%s: %s.", path, describe_repeats(repeated_keys(by_id)))


def refuse_repeats(where: str, value: Any, read: Collection[str]) -> None:
    """Refuse an object that says twice what is read of it.

    Raises
    ------
    EtadError
        One of the keys stands in it more than once.
    """
    twice = [key for key in repeated_keys(value) if key in read]
    if twice:
        raise EtadError(f'{where}: "{twice[0]}" stands twice. Keep one of them.')


def read_json(path: Path, *, what: str, find_repeats: bool = False) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    what
        What it should hold, for messages: "detections".
    find_repeats
        Tell of keys that stand twice in an object, see `repeated_keys`; that takes several times as long.

    Raises
    ------
    EtadError
        The file is missing, a folder, or no JSON; the message says where it stops being JSON.
    """
    return loads(path, read_bytes(path, what=what), what=what, find_repeats=find_repeats)


def read_bytes(path: Path, *, what: str) -> bytes:
    """Read a file.

    Raises
    ------
    EtadError
        It is missing, a folder, a device, or cannot be read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):  # many of them never end
            raise EtadError(f"{path}: is a device, expected a file of {what}. Name another.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise EtadError(f"{path}: there is no such file of {what}. Check the path.") from error
    except OSError as error:
        raise EtadError(f"{path}: cannot be read ({error.strerror}), expected {what}. Name another.") from error


def loads(path: Path, content: bytes, *, what: str, find_repeats: bool = False) -> Any:
    """Read the content of a JSON file, see `read_json`."""
    try:
        with without_collector():
            return _loads(content, find_repeats)
    except EtadError as error:
        raise EtadError(f"{path}: {error}") from error
    except json.JSONDecodeError as error:
        raise EtadError(
            f"{path}: is no JSON from line {error.lineno}, column {error.colno} on ({error.msg}), expected {what}. "
            + (
                "It may be cut short: copy it again."
                if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
                else "Name another file."
            )
            + (" A table of labels becomes annotations by `etad import labels`." if _is_table(path, what) else "")
        ) from error
    except UnicodeDecodeError as error:
        raise EtadError(f"{path}: is no text (byte {error.start}), expected {what} as JSON. Name another.") from error
    except RecursionError as error:
        raise EtadError(f"{path}: is nested too deeply for a file of {what}. Name another.") from error


def _is_table(path: Path, what: str) -> bool:
    return what == "annotations" and path.suffix.lower() in (".csv", ".tsv", ".txt", ".xlsx")


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


def _loads(content: bytes, find_repeats: bool) -> Any:
    if not find_repeats:
        # Broken, or no strict JSON: the standard library takes NaN and UTF-16, and says best where it stopped.
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(content)
    text = content.decode(json.detect_encoding(content))
    found = json.loads(text, object_pairs_hook=_object if find_repeats else None, parse_int=_integer)
    if _HALF_ESCAPE.search(text):
        _refuse_halves(found)
    return found


def _integer(digits: str) -> int | float:
    """Read a whole number; one of more than 64 bits as a float, which may be infinite, as orjson does."""
    return int(digits) if len(digits) < 19 else float(digits)


def _refuse_halves(found: Any) -> None:
    """Refuse half a character, which can be neither written nor printed, and say where it stands."""
    left: list[tuple[Any, tuple[object, ...]]] = [(found, ())]
    while left:
        value, place = left.pop()
        if isinstance(value, dict):
            left += [(key, (*place, key)) for key in value] + [(each, (*place, key)) for key, each in value.items()]
        elif isinstance(value, list):
            left += [(each, (*place, number)) for number, each in enumerate(value)]
        elif isinstance(value, str) and _HALF.search(value):
            where = " / ".join(str(part) for part in place) or "its text"
            raise EtadError(f"half a character (a lone surrogate) stands at {where}. Write it whole, or remove it.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    counts = Counter(key for key, _ in pairs)
    repeating = RepeatingObject(found)
    repeating.repeated = tuple(key for key, count in counts.items() if count > 1)
    return repeating
