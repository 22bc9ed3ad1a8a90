from pathlib import Path

import pytest
from matplotlib.figure import Figure

from etad.data.errors import EtadError
from etad.pipeline.show.figures.style import COLUMN_WIDTH, FORMATS, SMALLEST, save, styled


def draw(path: Path) -> Path:
    with styled():
        figure = Figure(figsize=(COLUMN_WIDTH, 1), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0], marker="o", label="a $ is no formula, nor is this one $")
        axes.legend()
        assert min(text.get_fontsize() for text in axes.get_xticklabels()) >= SMALLEST
        return save(figure, path)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_figure_is_the_same_file_in_each_format(kind: str, tmp_path: Path) -> None:
    one, two = (draw(tmp_path / name / f"figure.{kind}").read_bytes() for name in "ab")
    assert one == two
    assert one.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[kind])


def test_a_format_that_is_not_written_is_told() -> None:
    with pytest.raises(EtadError, match=r"page\.bmp: pictures are written as \.png, \.pdf or \.svg"):
        draw(Path("page.bmp"))
