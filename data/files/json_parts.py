"""A large JSON object read a part of its members at a time, so that never all of it is in memory as Python objects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

PART_BYTES = 2**18

# Where a member whose value is a list of objects ends and another member begins. In a text it may stand, too, or
# further in; what is cut there is no object, see `split`.
_BOUNDARY = re.compile(rb"\}\s*\]()\s*,\s*(?=\")")
# Closing braces, from the end of the file, among which the large object's own is looked for; and how much may lie
# around that object.
_MOST_BRACES, _MOST_AROUND = 20, 2**20


class CannotSplit(ValueError):
    """The content is no JSON, or so written that it has to be read whole."""


def split(content: bytes, key: str) -> Iterator[dict[str, Any]]:
    """Yield the members of the root's object `key`, some at a time.

    Each part is read as an object of its own. Where all of them are objects, and what lies around them is one with the
    key, the whole is what the parts say together: JSON can be read in one way only. An id that stands twice may be
    in two parts.

    Raises
    ------
    CannotSplit
        Read the content whole. Parts may have been yielded already.
    """
    start, stop = _bounds(content, key)
    while True:
        cut = _BOUNDARY.search(content, min(start + PART_BYTES, stop), stop)
        part = _loads(b"{" + content[start : cut.start(1) if cut else stop] + b"}")
        if not isinstance(part, dict):
            raise CannotSplit("a part is no object")
        yield part
        if cut is None:
            return
        start = cut.end()


def _bounds(content: bytes, key: str) -> tuple[int, int]:
    """Where the members of the object begin and end."""
    opening = re.search(rb'"%b"\s*:\s*\{' % re.escape(key.encode()), content)
    if opening is None or opening.end() > _MOST_AROUND:
        raise CannotSplit("the object is not found")
    before, stop, found = content[: opening.end() - 1], len(content), -1
    for _ in range(_MOST_BRACES):
        stop = content.rfind(b"}", opening.end(), stop)
        if stop < 0 or len(content) - stop > _MOST_AROUND:
            break
        try:
            around = _loads(before + b"null" + content[stop + 1 :])
        except CannotSplit:
            continue
        # Objects behind it may end in the right place, too; none that is inside it can.
        if isinstance(around, dict) and around.get(key, 0) is None:
            found = stop
    if found < 0:
        raise CannotSplit("the object's end is not found")
    return opening.end(), found


def _loads(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise CannotSplit(str(error)) from error
