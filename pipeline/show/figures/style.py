"""How figures look, and how they are written: the same bytes from the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ....data.errors import EtadError
from ....data.files.atomic import replacing

# Inches, as journals of two columns have them.
COLUMN_WIDTH, PAGE_WIDTH = 3.5, 7.16
FORMATS = ("png", "pdf", "svg")
# Points; nothing is smaller.
SMALLEST = 7

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73"),
    *("#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
)
GREY = "#999999"

_STYLE: Any = {
    "font.size": SMALLEST,
    "axes.titlesize": 8,
    "axes.labelsize": SMALLEST,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "legend.fontsize": SMALLEST,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.0,
    "hatch.linewidth": 0.6,
    # Names come from data: a dollar sign is one.
    "text.parse_math": False,
    # Ids in vector files are drawn by chance otherwise; text stays text.
    "svg.hashsalt": "etad",
    "pdf.fonttype": 42,
}
# Without the date of writing, which would make each file another.
_METADATA: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
_DPI = 200


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save in the style of figures through the block."""
    with matplotlib.rc_context(_STYLE):
        yield


def save(figure: Figure, path: Path, *, dpi: int = _DPI) -> Path:
    """Write a figure in the format that the file's name ends with.

    Raises
    ------
    EtadError
        It ends with none of the formats, or the file cannot be written.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise EtadError(f"{path}: pictures are written as .png, .pdf or .svg. End the name with one of these.")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # once for all formats: laying out takes most of the time
    with replacing(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "etad"}):
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=_METADATA[kind])
    return path
