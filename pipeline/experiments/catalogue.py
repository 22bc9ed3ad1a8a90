"""The tables that can be reproduced, by name: their cells for a data set, and the preset that they take by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..config import Config
from .grid import Grid
from .runs import Inputs
from .tables.demo_rows import demo_rows
from .tables.table1 import table1
from .tables.table3 import table3
from .tables.table4 import table4
from .tables.table5 import table5
from .tables.table6 import table6
from .tables.table7 import table7

DEFAULT_PRESET = "demo"


@dataclass(frozen=True)
class Table:
    """A table whose cells are trained.

    Parameters
    ----------
    cells
        Makes the grid for a data set.
    preset
        Config by default, sized for two cores.
    seed
        The first one by default of the sets that it draws: settings were chosen on lower ones.
    seeds
        How many by default.
    """

    cells: Callable[[Config, Inputs], Grid]
    preset: str = DEFAULT_PRESET
    seed: int = 11
    seeds: int = 3


TABLES = {
    "table1": Table(table1),
    "table3": Table(table3),
    "table4": Table(table4),
    "table5": Table(table5),
    "table6": Table(table6, preset="table6", seed=6, seeds=5),
    "table7": Table(table7),
    "demo": Table(demo_rows, seeds=5),
}
# Printed from a model; nothing is trained.
ARCHITECTURE = "table2"
