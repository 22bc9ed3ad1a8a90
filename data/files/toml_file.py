"""Reading TOML that somebody else may have written: bounded in depth before it is parsed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from ..errors import EtadError

# Brackets in brackets, and names in a dotted key. No config of ours has more than four groups in each other, while the
# parser takes minutes and gigabytes for three thousand.
MOST_DEPTH = 16

# Strings and comments, in which nothing counts; whatever else may open, close or lengthen something.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}.=,\n]', re.DOTALL
)


def read_toml(path: Path, *, what: str) -> dict[str, Any]:
    """Read a TOML file.

    Parameters
    ----------
    what
        What it should hold, for messages: "a config".

    Raises
    ------
    EtadError
        The file is missing, cannot be read, or is no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark of byte order first
    except UnicodeDecodeError as error:
        raise EtadError(f"{path}: is no text (byte {error.start}), expected {what} as TOML. Name another.") from error
    except OSError as error:
        raise EtadError(f"{path}: cannot be read ({error.strerror}), expected {what}. Check the path.") from error
    return parse_toml(text, where=str(path), what=what)


def parse_toml(text: str, *, where: str, what: str) -> dict[str, Any]:
    """Parse TOML.

    Raises
    ------
    EtadError
        It is none, or nested too deeply.

    Examples
    --------
    >>> parse_toml("a.b = [1, 2]", where="here", what="a config")
    {'a': {'b': [1, 2]}}
    """
    check_depth(text, where=where, what=what)
    try:
        return tomllib.loads(text)
    except ValueError as error:  # also of numbers that Python refuses to read for their length
        reason = str(error).split(";")[0]
        raise EtadError(f"{where}: no valid TOML: {reason}. Expected {what}.") from error


def check_depth(text: str, *, where: str, what: str) -> None:
    """Refuse TOML that is nested more deeply than any of ours.

    Raises
    ------
    EtadError
        It has brackets in brackets, or a key of many names.
    """
    brackets, dots = 0, 0
    for token in _TOKEN.findall(text):
        if token in ("[", "{"):
            brackets, dots = brackets + 1, 0
        elif token in ("]", "}"):
            brackets, dots = max(0, brackets - 1), 0
        elif token in ("=", ",", "\n"):
            dots = 0
        elif token == ".":
            dots += 1
        if max(brackets, dots) > MOST_DEPTH:
            raise EtadError(f"{where}: is nested more than {MOST_DEPTH} levels deep, expected {what}. Name another.")
