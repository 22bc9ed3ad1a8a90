"""Tables of one video each, as BMN and mmaction2 have them."""

from pathlib import Path

import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.data.importers.features.bmn import read_csv


def test_a_table_of_100_snippets_with_names_is_read(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(100, 400)).round(4)
    lines = [",".join(f"f{i}" for i in range(400)), *(",".join(f"{x:.4f}" for x in row) for row in numbers)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    found = read_csv(tmp_path / "a.csv", "a")
    assert found.shape == (100, 400)
    np.testing.assert_array_equal(found.load(), numbers.astype(np.float32))


def test_a_table_without_names_loses_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n3,4.5\n")
    np.testing.assert_array_equal(read_csv(tmp_path / "a.csv", "a").load(), [[1, 2], [3, 4.5]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no first row"),
        ("f0,f1\n", "has no row of numbers"),
        ("f0,f1\n1,2\n3,x\n", "row 3, column 2 holds 'x', expected a number"),
        ("1,2\n3,4,5\n", "is no table with commas"),
        ("v_a 1 2 3\n", "has no row of numbers"),
        ("f0,f1\n1,2\n\xff,1\n", "is no UTF-8 text|expected a number"),
    ],
)
def test_a_table_of_something_else_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode("latin1"))
    with pytest.raises(EtadError, match=said):
        read_csv(tmp_path / "a.csv", "a")


def test_a_row_that_lacks_numbers_is_found_as_not_finite(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("f0,f1\n1,2\n3\n")
    assert np.isnan(read_csv(tmp_path / "a.csv", "a").load()[1, 1])
