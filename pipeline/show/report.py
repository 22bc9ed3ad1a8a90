"""Plain text tables: failures, checks, metrics."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Mapping, Sequence

from ...data.errors import listing

_GAP = "  "
_LEAST_WRAPPED = 20


def table(rows: Sequence[Sequence[object]], *, heads: Sequence[str], width: int | None = None) -> str:
    """Align rows under their heads; no rows, no table.

    Columns of numbers stand to the right, text to the left; None is shown as "-". Characters that would steer a
    terminal or break a line are shown as escapes, since ids and messages may hold any.

    Parameters
    ----------
    rows
        As many cells each as there are columns.
    heads
        Names of the columns.
    width
        Characters a line may have: the last column is wrapped to fit. None: lines are as long as they get.

    Examples
    --------
    >>> print(table([["v_a", "54.96"], ["v_bcd", 9]], heads=("video", "mAP")))
    video    mAP
    -----  -----
    v_a    54.96
    v_bcd      9
    """
    if not rows:
        return ""
    assert all(len(row) == len(heads) for row in rows), (heads, rows)
    cells = [[_shown(cell) for cell in row] for row in rows]
    is_right = [all(_is_number(row[column]) for row in cells) for column in range(len(heads))]
    widths = [max(_width(row[column]) for row in [list(heads), *cells]) for column in range(len(heads))]
    rule = ["-" * columns for columns in widths]
    if width is not None and not is_right[-1]:
        before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
        widths[-1] = min(widths[-1], max(width - before, _LEAST_WRAPPED, _width(heads[-1])))
        rule[-1] = "-" * widths[-1]
        cells = [line for row in cells for line in _wrapped(row, widths[-1])]
    return "\n".join(_line(row, widths, is_right) for row in [list(heads), rule, *cells])


def class_table(per_class: Mapping[str, float], *, every: str, most: int = 20) -> str:
    """Tell the AP of each class, by falling AP; of many classes the best and the worst. One class needs no table.

    Parameters
    ----------
    per_class
        AP by class, as fractions.
    every
        How to see all of them.
    most
        Classes that are told.

    Examples
    --------
    >>> print(class_table({"run": 0.25, "jump": 0.5, "walk": 0.1, "turn": 0.75}, every="ask", most=2), end="")
    <BLANKLINE>
    class                AP %
    -------------------  ----
    turn                 75.0
    2 more between; ask     -
    walk                 10.0
    """
    if len(per_class) < 2:
        return ""
    ordered = sorted(per_class, key=lambda name: (-per_class[name], name))
    rows: list[tuple[str, str | None]] = [(name, percent(per_class[name], 1)) for name in ordered]
    if len(rows) > most:
        best, worst = (most + 1) // 2, most // 2
        rows[best:-worst] = [(f"{len(rows) - most} more between; {every}", None)]
    return f"\n{table(rows, heads=('class', 'AP %'))}\n"


def grouped(findings: Sequence[tuple[str, str, str, str]], *, width: int, most: int | None = 3) -> str:
    """Say what was found, a paragraph for what is of one kind and asks for one thing.

    Parameters
    ----------
    findings
        Kind, where, what was found, what to do about it; where and what to do may be empty.
    width
        Characters that a line may have; words longer than that, such as paths, are not broken.
    most
        How many of a paragraph are told one by one; None: all of them.

    Examples
    --------
    >>> found = [("note", f"video {name}", "lasts 2 s", "is it cut?") for name in "abc"]
    >>> print(grouped(found, width=60, most=1))
    note   3 of a kind:
           video a: lasts 2 s
           and 2 more: video b, video c
           -> is it cut?
    """
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for number, (kind, where, what, advice) in enumerate(findings):
        key = (kind, advice or str(number))  # what says itself what to do stands alone
        groups.setdefault(key, []).append((where, f"{where}: {what}" if where else what))
    indent = max((len(kind) for kind, _ in groups), default=0) + 3
    lines: list[str] = []
    for (kind, advice), members in groups.items():
        shown = members[:most]
        told = [text for _, text in shown]
        if rest := [where or text for where, text in members[len(shown) :]]:
            told.append(f"and {len(rest)} more: {listing(rest, most=10)}")
        if len(members) > 1:
            told.insert(0, f"{len(members)} of a kind:")
        if not advice.isdecimal():
            told.append(f"-> {advice}")
        heads = [kind.ljust(indent), *[" " * indent] * (len(told) - 1)]
        for head, text in zip(heads, told):
            lines += textwrap.wrap(
                _shown(text),
                max(width, indent + _LEAST_WRAPPED),
                initial_indent=head,
                subsequent_indent=" " * (indent + 2),
                break_on_hyphens=False,
                break_long_words=False,
            )
    return "\n".join(lines)


def percent(fraction: float | None, digits: int = 2) -> str:
    """Show a fraction as the papers do, in per cent.

    Examples
    --------
    >>> percent(0.34698), percent(None)
    ('34.70', '-')
    """
    return "-" if fraction is None else f"{100 * fraction:.{digits}f}"


def _line(row: Sequence[str], widths: Sequence[int], is_right: Sequence[bool]) -> str:
    padded = []
    for cell, columns, right in zip(row, widths, is_right):
        blanks = " " * (columns - _width(cell))
        padded.append(blanks + cell if right else cell + blanks)
    return _GAP.join(padded).rstrip()


def _wrapped(row: list[str], columns: int) -> list[list[str]]:
    lines = textwrap.wrap(row[-1], columns, break_on_hyphens=False) or [""]
    return [[*row[:-1], lines[0]], *([""] * (len(row) - 1) + [line] for line in lines[1:])]


def _shown(cell: object) -> str:
    if cell is None:
        return "-"
    text = f"{cell:.4g}" if isinstance(cell, float) else str(cell)
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _is_number(cell: str) -> bool:
    try:
        float(cell.rstrip("%"))
    except ValueError:
        return cell == "-"
    return True


def _width(text: str) -> int:
    # East Asian letters fill two columns of a terminal; combining marks none.
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
