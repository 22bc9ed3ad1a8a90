"""A page of results whose tables come from commands: each stands between two marks, and all else is kept as it is."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

from ... import __version__
from ...data.errors import EtadError
from ...data.files.atomic import write_text
from ...data.files.json_file import read_bytes

_TITLE = "# Results\n"


def put_into_page(page: Path, name: str, text: str) -> Path:
    """Put a block of Markdown into a page in place of its last version, or at its end.

    Raises
    ------
    EtadError
        The page is no text, or of the block's two marks one is missing.
    """
    begin, end = (f"<!-- {name}: {edge} -->" for edge in ("begin", "end"))
    block = f"{begin}\n\n{text.strip()}\n\n{end}"
    content = _TITLE
    if page.exists():
        try:
            content = read_bytes(page, what="a page of results").decode("utf-8")
        except UnicodeDecodeError as error:
            raise EtadError(f"{page}: is no UTF-8 text. Name another page.") from error
    counts = (content.count(begin), content.count(end))
    if counts == (0, 0):
        return write_text(page, f"{content.rstrip()}\n\n{block}\n")
    if counts != (1, 1) or content.index(begin) > content.index(end):
        raise EtadError(
            f"{page}: the marks of {name} do not stand there once each, '{begin}' first, then '{end}'. Put them back, "
            "or remove both: then the table is put at the page's end."
        )
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return write_text(page, pattern.sub(lambda _: block, content))


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
