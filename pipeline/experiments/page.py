"""A page of results whose tables come from commands: each stands between two marks, and all else is kept as it is."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

from ... import __version__
from ...data.errors import EtadError
from ...data.files.atomic import write_text
from ...data.files.json_file import read_bytes

_TITLE = "# Results\n"
_ANY_MARK = re.compile(r"<!-- [^\n]*?: (?:begin|end) -->")


def put_into_page(page: Path, name: str, text: str) -> Path:
    """Put a block of Markdown into a page in place of its last version, or at its end.

    Raises
    ------
    EtadError
        See `split_page`.
    """
    before, after = split_page(page, name)
    begin, end = (_mark(name, edge) for edge in ("begin", "end"))
    return write_text(page, f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")


def split_page(page: Path, name: str) -> tuple[str, str]:
    """What stands before and after the place of a block; nothing is written.

    Raises
    ------
    EtadError
        The page is no regular file, no text, or may not be written; of the block's two marks one is missing, or another
        block's stands between them.
    """
    begin, end = (_mark(name, edge) for edge in ("begin", "end"))
    content = _TITLE
    existing = next((folder for folder in page.absolute().parents if folder.exists()), page)
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise EtadError(f"{page}: nothing can be written in {existing}. Name another page.")
    if page.exists() and not (page.is_file() or page.is_dir()):
        raise EtadError(f"{page}: is neither a file nor to become one. Name another page.")
    if page.exists():
        try:
            content = read_bytes(page, what="a page of results").decode("utf-8")
        except UnicodeDecodeError as error:
            raise EtadError(f"{page}: is no UTF-8 text. Name another page.") from error
    counts = (content.count(begin), content.count(end))
    if counts == (0, 0):
        return f"{content.rstrip()}\n\n", "\n"
    if counts != (1, 1) or content.index(begin) > content.index(end):
        raise EtadError(
            f"{page}: the marks of {name} do not stand there once each, '{begin}' first, then '{end}'. Put them back, "
            "or remove both: then the table is put at the page's end."
        )
    before, rest = content.split(begin)
    inside, after = rest.split(end)
    if other := _ANY_MARK.search(inside):
        raise EtadError(
            f"{page}: '{other[0]}' stands between the marks of {name}, and what is there would be lost. Put it before "
            "or after them."
        )
    return before, after


def _mark(name: str, edge: str) -> str:
    return f"<!-- {name}: {edge} -->"


def describe_call(command: str, *, seconds: float | None, jobs: int, device: torch.device) -> str:
    """Tell how a table was made: command, machine, versions, time."""
    took = "" if seconds is None else f", {_minutes(seconds)} of computing"
    at_once = f"{jobs} run{'s' if jobs > 1 else ''} at a time"
    return f"`{command}` on {processor(device)}, {at_once}{took}; etad {__version__}, torch {torch.__version__}."


def processor(device: torch.device) -> str:
    """Name the processor, and how many cores of it there are."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cores = 0
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            cores += key.strip() == "processor"
            name = value.strip() if key.strip() == "model name" else name
    except OSError:
        pass
    return f"{name} ({cores or torch.get_num_threads()} cores)"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
