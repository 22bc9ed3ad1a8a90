"""Labels of any layout that we know, found by what a file holds or told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from ...errors import EtadError, listing, nearest
from . import activitynet, boris, charades, elan, epic_kitchens, hacs, label_studio, thumos14, via
from .rows import Labels
from .sheet import head_of, is_sheet
from .table import LAYOUT, read_table

# Layouts that a file tells by what it holds, the most particular first; a table with named columns is what is left.
# Each is a module with LAYOUT (its name), `matches(path, head)` and `read(path, fps=...)`.
LAYOUTS: tuple[ModuleType, ...] = (
    activitynet,
    label_studio,
    via,
    elan,
    thumos14,
    hacs,
    charades,
    epic_kitchens,
    boris,
)


def layout_names() -> tuple[str, ...]:
    """Names for --layout."""
    return (*(module.LAYOUT for module in LAYOUTS), LAYOUT)


def read_labels(
    path: Path | str,
    *,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    fps: float | None = None,
) -> Labels:
    """Read a file of labels.

    Parameters
    ----------
    layout
        One of `layout_names()`; none: found by what the file holds.
    columns
        Of a table: names of columns by what they hold.
    fps
        Frames per second, where times are frames.

    Raises
    ------
    EtadError
        No such file, a layout that nobody knows, or nothing in the file can be used.
    """
    path = Path(path)
    if not path.exists():
        beside = [each.name for each in path.parent.glob("*")] if path.parent.is_dir() else []
        raise EtadError(f"{path}: there is no such file of labels.{nearest(path.name, beside)}")
    if layout is not None and layout not in layout_names():
        raise EtadError(
            f"there is no layout '{layout}'.{nearest(layout, layout_names())} Known: {listing(layout_names(), 20)}."
        )
    if columns and layout not in (None, LAYOUT):
        raise EtadError(f"--column says where a table has what; the layout '{layout}' knows that by itself.")
    head = head_of(path)
    for module in LAYOUTS:
        if layout == module.LAYOUT or (layout is None and not columns and module.matches(path, head)):
            if fps is not None and module is not label_studio:
                raise EtadError(
                    f"{path}: --fps {fps:g} is for times in frames, and the layout '{module.LAYOUT}' has seconds. "
                    "Leave it out."
                )
            return module.read(path, fps=fps)
    if layout is None and not is_sheet(path):
        raise EtadError(
            f"{path}: this is none of the layouts that are known: {listing(layout_names(), 20)}. "
            "Save the labels as a table (CSV, TSV or XLSX) with columns video, start, end and label."
        )
    return read_table(path, columns=columns, fps=fps)
