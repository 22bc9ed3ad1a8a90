"""Write the tables of figures of README.md and docs/benchmarks.md from benchmarks.json.

Run as `python tests/benchmarks/readme_table.py`; `make bench` does so at its end.
"""

import json
from pathlib import Path
from typing import Any

from measure import HEADS, Row

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- figures: written by tests/benchmarks/readme_table.py -->", "<!-- end of figures -->"
AIM = HEADS.index("aim")

# What the README shows, by its name in benchmarks.json, and how the README words it, with what it is compared with;
# docs/benchmarks.md has every headline row.
HEADLINES = {
    "all frames, key frame every 12, by processor; reference is decord": (
        "decoding all frames, by processor time; reference: decord"
    ),
    "128 clips of 16, key frame every 12, by processor; reference is torchcodec": (
        "decoding 128 clips of 16 frames, by processor time; reference: torchcodec"
    ),
    "detector: training step, 6 %, batch 16, float32": (
        "training step, 6 % of the proposals, batch 16, float32; reference: PyTorch's own operators"
    ),
    "detector: training step, 100 %, batch 2, bfloat16": (
        "training step, all proposals, batch 2, bfloat16; reference: the same, float32"
    ),
    "detector: inference, 8256 proposals, 8 videos, float32": (
        "inference, 8256 proposals, float32; reference: PyTorch's own operators"
    ),
    "end-to-end step, tsm_r18, 128 snippets: 30 % sampled, maps kept": (
        "end-to-end step, 128 snippets, 30 % sampled; reference: the gradients of all of them"
    ),
}


def main() -> None:
    figures = json.loads((ROOT / "benchmarks.json").read_text(encoding="utf-8"))
    for name, text in (("docs/benchmarks.md", table(figures)), ("README.md", short_table(figures))):
        page = ROOT / name
        page.write_text(with_table(page.read_text(encoding="utf-8"), text), encoding="utf-8")


def table(figures: dict[str, Any]) -> str:
    """Markdown of all rows that are headlines, benchmark by benchmark, below a line about the machine."""
    return "\n".join([about(figures), "", *_lines(_groups(figures), with_titles=True)])


def short_table(figures: dict[str, Any]) -> str:
    """Markdown of the rows that `HEADLINES` names, below a line about the machine; each of them must be there."""
    groups = [
        (title, [[HEADLINES[cells[0]], *cells[1:]] for cells in rows if cells[0] in HEADLINES])
        for title, rows in _groups(figures)
    ]
    found = [cells[0] for _, rows in groups for cells in rows]
    assert sorted(found) == sorted(HEADLINES.values()), set(HEADLINES.values()) ^ set(found)
    return "\n".join([about(figures), "", *_lines(groups, with_titles=False)])


def _groups(figures: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    return [
        (benchmark["title"], [Row(**row).cells()[:AIM] for row in benchmark["rows"] if row["headline"]])
        for benchmark in figures["benchmarks"].values()
    ]


def _lines(groups: list[tuple[str, list[list[str]]]], *, with_titles: bool) -> list[str]:
    rows = [cells for _, group in groups for cells in group]
    used = [column for column in range(AIM) if any(cells[column] for cells in rows)]
    lines = [_line([HEADS[column] for column in used]), "|" + "---|" * len(used)]
    for title, group in groups:
        if group and with_titles:
            lines.append(_line([f"**{title}**", *[""] * (len(used) - 1)]))
        lines += [_line([cells[column] for column in used]) for cells in group]
    return lines


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
    """The page with a new table between the two comments."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"the page has lost the comments {BEGIN} and {END}"
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
