"""Points in time as people write them."""

from __future__ import annotations

import re

from ...errors import EtadError, shown

_CLOCK = re.compile(r"^(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)$")
_NUMBER = re.compile(r"^[+-]?\d*[.,]?\d+(?:[eE][+-]?\d+)?$|^[+-]?\d+[.,]$")


def to_seconds(text: str, *, unit: str = "seconds", fps: float | None = None) -> float:
    """Read a point in time.

    Parameters
    ----------
    text
        Seconds (a comma or a point before the decimals), `mm:ss.ms` or `hh:mm:ss.ms`; or a number of the unit.
    unit
        `seconds`, `milliseconds` or `frames`.
    fps
        Frames per second, for frames.

    Raises
    ------
    EtadError
        It is none of these, or frames without a rate.

    Examples
    --------
    >>> to_seconds("12.5"), to_seconds("12,5"), to_seconds("1:02:03.5"), to_seconds("02:03")
    (12.5, 12.5, 3723.5, 123.0)
    >>> to_seconds("50", unit="frames", fps=25), to_seconds("1500", unit="milliseconds")
    (2.0, 1.5)
    """
    text = str(text).strip()
    clock = _CLOCK.match(text)
    if clock is not None:
        hours, minutes, seconds = clock.groups()
        value = float(seconds.replace(",", "."))
        if value >= 60 or (hours is not None and int(minutes) >= 60):
            raise EtadError(f"{shown(text)} is no time: minutes and seconds go up to 59")
        return int(hours or 0) * 3600 + int(minutes) * 60 + value
    if not _NUMBER.match(text) or len(text) > 40:
        raise EtadError(f"{shown(text)} is no time; write seconds or hh:mm:ss.ms")
    number = float(text.replace(",", "."))
    if unit == "frames":
        if fps is None:
            raise EtadError("times are frames; give their rate with --fps")
        return number / fps
    return number / 1000 if unit == "milliseconds" else number
