"""The picture of a reproduced table: a row a cell, ours beside the paper's."""

from pathlib import Path

import matplotlib.image
import numpy as np

from etad.pipeline.show.grid_plot import plot_grid


def test_a_longer_table_is_a_taller_picture_and_cells_without_figures_have_their_row(tmp_path: Path) -> None:
    paper = {"a": 36.0}
    short = plot_grid({"a": [30.0, 32.0]}, paper, [tmp_path / "short.png"], title="T", of="a set")
    values = {"a": [30.0, 32.0], "b $x": [np.nan, np.nan], "c": [np.nan, 31.0]}
    paths = [tmp_path / f"tall.{kind}" for kind in ("png", "pdf")]
    tall = plot_grid(values, paper, paths, title="T", of="a set", left_out=["b $x"])
    assert tall == paths and paths[1].read_bytes().startswith(b"%PDF")
    heights = [matplotlib.image.imread(path).shape[0] for path in (short[0], tall[0])]
    assert heights[1] - heights[0] > 60
