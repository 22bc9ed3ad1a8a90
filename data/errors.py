"""The one error that a user can fix, and the words it is made of."""

import difflib
from collections.abc import Iterable


class EtadError(Exception):
    """A user's mistake or a file's fault: what was found, what was expected, what to do.

    The command line prints the message alone and exits with status 2.
    """


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
