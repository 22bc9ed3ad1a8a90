"""CSV files of one video each: a row a snippet, a column a channel, a header before them, as BMN's 100 x 400.

Checked against BMN (dataset.py of JJBOY/BMN-Boundary-Matching-Network: `csv_mean_100/<id>.csv`, read with its first row
as names) and mmaction2 (tools/data/activitynet/activitynet_feature_postprocessing.py: names f0 .. f399, then 100 rows).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ...errors import EtadError, shown
from .stored import MOST_BYTES, StoredArray

_FAULTS = (ValueError, OverflowError, pd.errors.ParserError, pd.errors.EmptyDataError)


def read_csv(path: Path, video_id: str) -> StoredArray:
    """Look at a table of numbers; its first row is taken for names where it is none of numbers.

    Raises
    ------
    EtadError
        It is no table of numbers.
    """
    array = _read(path)
    return StoredArray(video_id, path, array.shape, array.dtype, partial(_read, path))


def _read(path: Path) -> np.ndarray:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise EtadError("is larger than features of one video are")
        with path.open("rb") as file:
            first = file.readline(2**22).decode("utf-8-sig", errors="replace").strip()
    except OSError as error:
        raise EtadError(f"cannot be read ({error.strerror})") from error
    if not first:
        raise EtadError("has no first row, expected names or numbers with commas between them")
    has_names = not all(_is_number(cell) for cell in first.split(","))
    try:
        table = pd.read_csv(path, header=None, skiprows=int(has_names), encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise EtadError("is no UTF-8 text") from error
    except pd.errors.EmptyDataError as error:
        raise EtadError("has no row of numbers") from error
    except _FAULTS as error:
        words = " ".join(str(error).split())
        raise EtadError(f"is no table with commas between its numbers ({words[:200]})") from error
    for number, column in table.items():
        if column.dtype.kind not in "fiu":
            row = int(pd.to_numeric(column, errors="coerce").isna().to_numpy().argmax())
            raise EtadError(
                f"row {row + 1 + has_names}, column {int(str(number)) + 1} holds {shown(str(column.iloc[row]))}, "
                "expected a number"
            )
    return table.to_numpy(dtype=np.float32)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
