"""What every benchmark measures with, and the table that it prints.

Times are taken in turn, way by way and round by round, in one process: what else the machine does then hits all ways
alike. Ceilings (matrix products, memory copies) are measured in the same process, on as many threads as torch has.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from etad.data.precision import choose_dtype

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
HEADS = ("what", "reference", "optimised", "ratio", "reference peak MiB", "optimised peak MiB", "of the ceiling", "aim")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    what
        What was done, on what: "training step, 6 %, batch 16".
    ours, plain
        Cost of our way and of the plain one. A unit that ends in "/s" is a rate, the more the better.
    unit
        "s", "ms a video", "videos/s"; empty for a plain number.
    peak_mib, plain_peak_mib
        Memory above where the call began.
    ceiling, ceiling_of
        Share of what the machine could do at most (0..1), and what that is: "float32 products", "memory copies".
    aim
        What was asked for, in words: "under 3 s".
    headline
        Shown in the README, too.
    """

    what: str
    ours: float
    unit: str = "s"
    plain: float | None = None
    peak_mib: float | None = None
    plain_peak_mib: float | None = None
    ceiling: float | None = None
    ceiling_of: str = ""
    aim: str = ""
    headline: bool = True

    @property
    def ratio(self) -> float | None:
        """How many times better ours is."""
        if self.plain is None:
            return None
        return self.ours / self.plain if self.unit.endswith("/s") else self.plain / self.ours

    def cells(self) -> list[str]:
        """The row as text, one cell for each of `HEADS`."""
        share = "" if self.ceiling is None else f"{100 * self.ceiling:.0f} % of {self.ceiling_of}"
        if self.ceiling is not None and self.ratio is not None:
            # What the ratio would be at the ceiling, which is measured, too: a few per cent more may be seen.
            share += f" ({digits(self.ratio / self.ceiling)} x at most)"
        ratio = "" if self.ratio is None else f"{digits(self.ratio)} x"
        costs = ["" if cost is None else f"{digits(cost)} {self.unit}".rstrip() for cost in (self.plain, self.ours)]
        peaks = ["" if peak is None else f"{peak:.0f}" for peak in (self.plain_peak_mib, self.peak_mib)]
        return [self.what, *costs, ratio, *peaks, share, self.aim]


def in_turn(
    ways: Mapping[str, Callable[[], object]],
    repeats: int = 3,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
    pick: Callable[[list[float]], float] = min,
) -> dict[str, float]:
    """Seconds of each way, the least of some rounds or the median (`pick`): wall time, or the processor's (`clock`)."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values() if warm_up else ():
        way()
    for _ in range(repeats):
        for name, way in ways.items():
            begin = clock()
            way()
            seconds[name].append(clock() - begin)
    return {name: pick(values) for name, values in seconds.items()}


def compare(
    what: str,
    *,
    ours: Callable[[], object],
    plain: Callable[[], object] | None = None,
    unit: str = "s",
    items: float = 1,
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
    **fields: Any,
) -> Row:
    """Memory and time of two ways as a row; the run that shows the memory warms up.

    Parameters
    ----------
    ours, plain
        Called alternately; each does everything anew.
    unit
        "s.." or "ms..": time by item; "items/s": a rate.
    items
        How many items a call goes through.
    fields
        More of the `Row`'s.
    """
    ways = {"ours": ours} if plain is None else {"plain": plain, "ours": ours}
    peaks = {name: peak_mebibytes(way) for name, way in ways.items()}
    seconds = in_turn(ways, repeats, warm_up=False, clock=clock)
    scale = 1e3 if unit.startswith("ms") else 1.0
    costs = {name: items / taken if unit.endswith("/s") else scale * taken / items for name, taken in seconds.items()}
    return Row(
        what,
        ours=costs["ours"],
        plain=costs.get("plain"),
        unit=unit,
        peak_mib=peaks["ours"],
        plain_peak_mib=peaks.get("plain"),
        **fields,
    )


def peak_mebibytes(call: Callable[[], object]) -> float | None:
    """Most memory of the process during a call, above where it began, as Linux counts it; elsewhere None."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or memory that was freed before would count as there already
    try:
        RESET.write_text("5")  # forgets the highest memory so far
    except OSError:
        call()
        return None
    before = _mebibytes("VmRSS")
    call()
    return max(_mebibytes("VmHWM") - before, 0.0)


def matrix_rate(dtype: torch.dtype = torch.float32) -> float:
    """Best rate of matrix products of a dtype on torch's threads, GFLOP/s."""
    return _matrix_rate(torch.get_num_threads(), dtype)


def copy_rate() -> float:
    """Best rate of copies from memory to memory on torch's threads, GB/s of what is copied."""
    return _copy_rate(torch.get_num_threads())


def matrix_share(gflop: float, seconds: float, dtype: torch.dtype = torch.float32) -> dict[str, float | str]:
    """Two fields of a `Row`: how close work of some GFLOP comes to nothing but products of a dtype."""
    return {
        "ceiling": gflop / seconds / matrix_rate(dtype),
        "ceiling_of": f"{str(dtype).removeprefix('torch.')} products",
    }


def copy_share(gigabytes: float, seconds: float) -> dict[str, float | str]:
    """Two fields of a `Row`: how close work on some GB comes to copying them once."""
    return {"ceiling": gigabytes / seconds / copy_rate(), "ceiling_of": "a memory copy"}


def report(rows: Sequence[Row], *, title: str) -> None:
    """Print the table; where BENCH_JSON names a file, write it there, too, with the machine's ceilings."""
    table = [list(HEADS), *(row.cells() for row in rows)]
    used = [column for column in range(len(HEADS)) if any(cells[column] for cells in table[1:])]
    widths = {column: max(len(cells[column]) for cells in table) for column in used}
    # Where the processor does not multiply bfloat16, its rate says nothing.
    gains = choose_dtype("auto", torch.device("cpu")) == torch.bfloat16
    short = {"short_gflops": matrix_rate(torch.bfloat16)} if gains else {}
    ceilings = {"threads": torch.get_num_threads(), "matrix_gflops": matrix_rate(), **short, "copy_gbs": copy_rate()}
    print(f"{title}\nthreads: {ceilings['threads']}; products in GFLOP/s: float32 {matrix_rate():.0f}", end="")
    print("".join(f", bfloat16 {rate:.0f}" for rate in short.values()) + f"; memory copies {copy_rate():.1f} GB/s")
    for cells in table:
        print(" | ".join(cells[column].ljust(widths[column]) for column in used).rstrip())
    sys.stdout.flush()
    if os.environ.get("BENCH_JSON"):
        content = {"title": title, **ceilings, "rows": [asdict(row) for row in rows]}
        Path(os.environ["BENCH_JSON"]).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def digits(value: float) -> str:
    """Three digits that count, and no exponent.

    Examples
    --------
    >>> digits(0.01234), digits(1.5), digits(1234.5)
    ('0.0123', '1.50', '1234')
    """
    if value == 0:
        return "0"
    size = len(f"{abs(value):.0f}") if abs(value) >= 1 else int(f"{abs(value):e}".partition("e")[2]) + 1
    return f"{value:.{max(3 - size, 0)}f}"


@functools.cache
def _matrix_rate(num_threads: int, dtype: torch.dtype) -> float:
    a, out = torch.randn(2048, 2048).to(dtype), torch.empty(2048, 2048, dtype=dtype)
    return 2 * 2048**3 / in_turn({"product": lambda: torch.mm(a, a, out=out)}, 10)["product"] / 1e9


@functools.cache
def _copy_rate(num_threads: int) -> float:
    a = torch.zeros(2**26)
    b = torch.zeros_like(a)
    return 4 * 2**26 / in_turn({"copy": lambda: b.copy_(a)}, 10)["copy"] / 1e9


def _mebibytes(field: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024
