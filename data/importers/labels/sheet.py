"""Tables with a row of names: CSV, TSV and XLSX, whatever separates the columns."""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import EtadError, listing, shown
from ...files.json_file import read_bytes

_SEPARATORS = ",;\t|"
_LARGEST_BYTES = 200_000_000
_LARGEST_UNPACKED = 1_000_000_000
_LONGEST_CELL = 100_000
_HEAD_ROWS = 200
_UNITS = re.compile(r"[\[(]\s*(.*?)\s*[\])]")


@dataclass(frozen=True)
class Sheet:
    """A table of text cells.

    Parameters
    ----------
    path
        The file.
    columns
        Names of the columns, as they stand there.
    rows
        Number of the row, as a spreadsheet counts, and its cells by column; cells that a row lacks are empty.
    too_long
        Rows with more cells than there are columns, and what is wrong with each: nobody knows which cell is which.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    too_long: tuple[tuple[int, str], ...] = ()

    def with_columns(self, *names: str) -> Sheet:
        """Itself, if it has these columns.

        Raises
        ------
        EtadError
            It lacks some.
        """
        lacking = [name for name in names if name not in self.columns]
        if lacking:
            raise EtadError(
                f"{self.path}: has no column {listing(lacking)}; it has {listing(self.columns, 20)}. "
                "Name another layout with --layout."
            )
        return self

    def find(self, names: tuple[str, ...]) -> str | None:
        """The column of the first of these names, which are compared without case, blanks and units."""
        known = {plain_name(column): column for column in reversed(self.columns)}
        return next((known[name] for name in names if name in known), None)


def plain_name(column: str) -> str:
    """A column's name without case, units and punctuation.

    Examples
    --------
    >>> plain_name("Start (s)"), plain_name("Video ID"), plain_name("t-start")
    ('start', 'video_id', 't_start')
    """
    bare = _UNITS.sub("", column).strip().lower()
    return re.sub(r"[^a-z0-9]+", "_", bare).strip("_") or bare


def unit_of(column: str) -> str:
    """Unit that a column's name states.

    Examples
    --------
    >>> unit_of("start (ms)"), unit_of("startFrame"), unit_of("end")
    ('milliseconds', 'frames', 'seconds')
    """
    bare = column.lower()
    if "frame" in bare:
        return "frames"
    if re.search(r"(^|[^a-z])(ms|msec|millis|milliseconds)([^a-z]|$)", bare):
        return "milliseconds"
    return "seconds"


def is_sheet(path: Path) -> bool:
    """Whether a file's suffix is that of a table."""
    return path.suffix.lower() in (".csv", ".tsv", ".tab", ".txt", ".xlsx")


def read_sheet(path: Path) -> Sheet:
    """Read a table.

    Raises
    ------
    EtadError
        The file cannot be read, is no table, or its row of names is missing or names two columns alike.
    """
    return sheet_of(path, raw_rows(path))


def raw_rows(path: Path) -> list[tuple[int, list[str]]]:
    """All rows with their numbers, whatever they hold.

    Raises
    ------
    EtadError
        The file cannot be read, or is no table.
    """
    return list(_excel(path) if path.suffix.lower() == ".xlsx" else _text(path))


def sheet_of(path: Path, rows: list[tuple[int, list[str]]]) -> Sheet:
    """Take the first of these rows as the names of the columns.

    Raises
    ------
    EtadError
        The row of names is missing or names two columns alike.
    """
    if not rows:
        raise EtadError(f"{path}: this table is empty; a row of names and rows of labels were expected.")
    _, heads = rows[0]
    width = len(heads)
    while heads and not heads[-1].strip():
        heads = heads[:-1]
    columns = tuple(head.strip() for head in heads)
    twice = [name for name, count in Counter(columns).items() if count > 1 and name]
    if twice:
        raise EtadError(f"{path}: two columns are called {shown(twice[0])}. Give each its own name.")
    if not any(columns):
        raise EtadError(f"{path}: the first row names no columns. Write names there, such as video, start, end, label.")
    found, too_long = [], []
    # A spreadsheet's cells are where they are: what stands beside the table shifts none.
    may_shift = path.suffix.lower() != ".xlsx"
    for number, row in rows[1:]:
        if may_shift and any(cell.strip() for cell in row[width:]) and not row[0].lstrip().startswith("#"):
            more = f"has {len(row)} cells, but there are {width} columns ({listing(map(shown, row), 9)})"
            too_long.append(
                (number, f"{more}; what separates cells needs quotes around it within one: '3,5' as \"3,5\"")
            )
        elif any(cell.strip() for cell in row):
            padded = [*row, *[""] * (len(columns) - len(row))]
            found.append((number, {name: cell.strip() for name, cell in zip(columns, padded) if name}))
    return Sheet(path, tuple(name for name in columns if name), tuple(found), tuple(too_long))


def head_of(path: Path, size: int = 65536) -> bytes:
    """Begin of a file, by which its layout is told, in UTF-8; of a spreadsheet, its first rows as CSV.

    Raises
    ------
    EtadError
        The file cannot be read.
    """
    if path.is_dir():
        return b""
    if path.suffix.lower() == ".xlsx":
        text = io.StringIO()
        csv.writer(text).writerows(row for _, row in islice(_excel(path), _HEAD_ROWS))
        return text.getvalue().encode("utf-8", errors="replace")
    try:
        with path.open("rb") as file:
            head = file.read(size)
    except OSError as error:
        raise EtadError(f"{path}: cannot read the labels: {error.strerror}.") from error
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return head[: size // 2 * 2].decode("utf-16", errors="replace").encode("utf-8", errors="replace")
    return head.removeprefix(codecs.BOM_UTF8)


def columns_of(head: bytes) -> tuple[str, ...]:
    """Names of columns in the first line of a table whose begin this is.

    Examples
    --------
    >>> columns_of(b'id,"a b"\\r\\n1,2')
    ('id', 'a b')
    """
    line = next(iter(head.decode("utf-8", errors="replace").splitlines()), "")
    try:
        return tuple(name.strip() for name in next(csv.reader([line], delimiter=_separator(line)), []))
    except csv.Error:
        return ()


def _text(path: Path) -> Iterator[tuple[int, list[str]]]:
    if path.is_file() and path.stat().st_size > _LARGEST_BYTES:
        raise EtadError(f"{path}: {path.stat().st_size} bytes are too many for a table of labels. Split the file.")
    text = _decoded(path, read_bytes(path, what="labels"))
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text))
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise EtadError(f"{path}: line {reader.line_num} cannot be read as a table ({error}).") from error


def _decoded(path: Path, content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")  # what spreadsheets of Western Windows write
    if "\0" in text:
        raise EtadError(f"{path}: this is no text. Save the table as CSV in UTF-8, or as XLSX.")
    return text


def _separator(text: str) -> str:
    """Whichever separates the first line into most columns, outside quotes."""
    line = re.sub(r'"[^"]*"', "", next((line for line in text.splitlines() if line.strip()), ""))
    return max(_SEPARATORS, key=lambda separator: line.count(separator))


def _excel(path: Path) -> Iterator[tuple[int, list[str]]]:
    import openpyxl

    content = read_bytes(path, what="labels")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _LARGEST_UNPACKED:
            raise EtadError(f"{path}: it would unpack to {unpacked} bytes, too many for a table of labels. Split it.")
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # what a file says of its size need not be so
        for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
            yield number, [_cell(value) for value in row]
        book.close()
    except EtadError:
        raise
    except Exception as error:
        # A spreadsheet is a zip of XML, whose readers raise what they like; all of it means the same.
        raise EtadError(
            f"{path}: this cannot be read as a spreadsheet ({type(error).__name__}). Save it anew."
        ) from error


def _cell(value: Any) -> str:
    """A spreadsheet's cell as text: times of day and lengths of time become seconds."""
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        value = value - datetime.datetime(1899, 12, 30)
    if isinstance(value, datetime.time):
        value = datetime.timedelta(
            hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
        )
    if isinstance(value, datetime.timedelta):
        return repr(value.total_seconds())
    return str(value)
