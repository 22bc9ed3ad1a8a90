"""README and docs show the figures that were measured, and no others."""

import importlib
import json
from types import ModuleType

import pytest
from conftest import ROOT


@pytest.fixture
def readme_table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    return importlib.import_module("readme_table")


@pytest.mark.parametrize(("page", "made_by"), [("README.md", "short_table"), ("docs/benchmarks.md", "table")])
def test_the_pages_show_what_was_measured(readme_table: ModuleType, page: str, made_by: str) -> None:
    figures = json.loads((ROOT / "benchmarks.json").read_text(encoding="utf-8"))
    text = (ROOT / page).read_text(encoding="utf-8")
    table = getattr(readme_table, made_by)(figures)
    assert text == readme_table.with_table(text, table), "python tests/benchmarks/readme_table.py writes it anew"


def test_rows_become_lines_below_their_title(readme_table: ModuleType) -> None:
    rows = [
        {"what": "step", "ours": 0.5, "plain": 1.5, "peak_mib": 12.3, "headline": True},
        {"what": "detail", "ours": 9.0, "headline": False},
        {"what": "reading", "unit": "videos/s", "ours": 300.0, "plain": 200.0, "ceiling": 0.25, "ceiling_of": "a copy"},
    ]
    rows = [{"headline": True, **row} for row in rows]
    benchmark = {
        "title": "Things",
        "threads": 1,
        "matrix_gflops": 80.0,
        "copy_gbs": 8.0,
        "short_gflops": 160.0,
        "rows": rows,
    }
    machine = {"processor": "A chip", "cores": 2, "torch": "2.6"}
    lines = readme_table.table({"machine": machine, "benchmarks": {"things": benchmark}}).splitlines()
    assert lines[0].startswith(
        "A chip, 2 cores, torch 2.6. 1 thread: float32 products 80 GFLOP/s, bfloat16 160, memory copies 8.0"
    )
    assert lines[2:] == [
        "| what | reference | optimised | ratio | optimised peak MiB | of the ceiling |",
        "|---|---|---|---|---|---|",
        "| **Things** |  |  |  |  |  |",
        "| step | 1.50 s | 0.500 s | 3.00 x | 12 |  |",
        "| reading | 200 videos/s | 300 videos/s | 1.50 x |  | 25 % of a copy (6.00 x at most) |",
    ]


def test_only_what_lies_between_the_comments_is_replaced(readme_table: ModuleType) -> None:
    readme = f"before\n{readme_table.BEGIN}\nold\n{readme_table.END}\nafter\n"
    once = readme_table.with_table(readme, "new")
    assert once == f"before\n{readme_table.BEGIN}\n\nnew\n\n{readme_table.END}\nafter\n"
    assert readme_table.with_table(once, "new") == once
