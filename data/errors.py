"""The one error that a user can fix, and the words it is made of."""

import difflib
import re
import reprlib
from collections.abc import Iterable

# Control characters but for new lines and tabs, and halves of characters.
_UNPRINTABLE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        try:
            return super().repr_int(x, level)
        except ValueError:  # Python refuses to write out thousands of digits
            return f"a number of {x.bit_length()} bits"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 80


class EtadError(Exception):
    """A user's mistake or a file's fault: what was found, what was expected, what to do.

    The command line prints the message alone and exits with status 2. Control characters in it, which a file's names
    may hold, are escaped: a terminal would obey them.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """Escape what a terminal would obey, and halves of characters, which nothing can write.

    Examples
    --------
    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class DiskError(EtadError):
    """The disk or the machine is at fault, not what lies on it: nothing is damaged, nothing is to be moved aside."""


class UnwritableError(DiskError):
    """A place that nothing can be written to, such as a full disk: no fault of what was to be written there."""


class OthersEndedError(EtadError):
    """Another process of this job has ended first: its mistake is the one to be told."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out; PyTorch's error of it on a processor has no type of its own.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."))
    True
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def nearest(name: str, known: Iterable[str]) -> str:
    """Word a hint at the known name that `name` was probably meant to be.

    Returns an empty string, or a sentence with a leading blank.

    Examples
    --------
    >>> nearest("detectt", ["detect", "extract"])
    " Did you mean 'detect'?"
    >>> nearest("zzz", ["detect"])
    ''
    """
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{match[0]}'?" if match else ""


def shown(value: object) -> str:
    """Show a value that a file holds, whatever its size and depth, within a message.

    Examples
    --------
    >>> shown("soon"), shown(list(range(99)))
    ("'soon'", '[0, 1, 2, 3, 4, 5, ...]')
    >>> shown(10**5000)
    'a number of 16610 bits'
    """
    return _SHORT.repr(value)


def counted(count: int, noun: str) -> str:
    """Count things in words; the noun takes an -s, or -es after an s, where there is not exactly one.

    Examples
    --------
    >>> counted(1, "problem"), counted(0, "annotated video"), counted(2, "class")
    ('1 problem', '0 annotated videos', '2 classes')
    """
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count} {noun}{ending}"


def listing(names: Iterable[str], most: int = 5) -> str:
    """Name a few of many.

    Examples
    --------
    >>> listing(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    names = list(names)
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
