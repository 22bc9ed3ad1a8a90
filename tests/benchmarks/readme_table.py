"""Write the README's table of figures from benchmarks.json.

Run as `python tests/benchmarks/readme_table.py`; `make bench` does so at its end.
"""

import json
from pathlib import Path
from typing import Any

from measure import HEADS, Row

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- figures: written by tests/benchmarks/readme_table.py -->", "<!-- end of figures -->"
AIM = HEADS.index("aim")


def main() -> None:
    readme, figures = ROOT / "README.md", json.loads((ROOT / "benchmarks.json").read_text(encoding="utf-8"))
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), table(figures)), encoding="utf-8")


def table(figures: dict[str, Any]) -> str:
    """Markdown of all rows that are headlines, benchmark by benchmark, below a line about the machine."""
    groups = [
        (benchmark["title"], [Row(**row).cells()[:AIM] for row in benchmark["rows"] if row["headline"]])
        for benchmark in figures["benchmarks"].values()
    ]
    rows = [cells for _, group in groups for cells in group]
    used = [column for column in range(AIM) if any(cells[column] for cells in rows)]
    lines = [_line([HEADS[column] for column in used]), "|" + "---|" * len(used)]
    for title, group in groups:
        if group:
            lines.append(_line([f"**{title}**", *[""] * (len(used) - 1)]))
            lines += [_line([cells[column] for column in used]) for cells in group]
    return "\n".join([about(figures), "", *lines])


def about(figures: dict[str, Any]) -> str:
    """One line: the machine, and the best rates that it showed to any of the benchmarks, by number of threads."""
    machine, rates = figures["machine"], {}
    for benchmark in figures["benchmarks"].values():
        best = rates.setdefault(benchmark["threads"], {})
        for name in ("matrix_gflops", "short_gflops", "copy_gbs"):
            best[name] = max(best.get(name, 0.0), benchmark.get(name) or 0.0)
    ceilings = "; ".join(
        f"{threads} thread{'s' * (threads > 1)}: float32 products {best['matrix_gflops']:.0f} GFLOP/s, "
        + (f"bfloat16 {best['short_gflops']:.0f}, " if best["short_gflops"] else "")
        + f"memory copies {best['copy_gbs']:.1f} GB/s"
        for threads, best in sorted(rates.items())
    )
    return f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}. {ceilings}."


def with_table(readme: str, text: str) -> str:
    """The README with a new table between the two comments."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"the README has lost the comments {BEGIN} and {END}"
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
