"""The code cites docs/method.md by section: every section that is cited exists there."""

import re

from conftest import ROOT

ROOMS = ("data", "extract", "detect", "pipeline")
CITATION = re.compile(r"method,\s+section\s+(\d+(?:\.\d+)?)")
HEADING = re.compile(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", flags=re.MULTILINE)
FEWEST_CITATIONS = 20


def test_every_cited_section_of_the_method_exists():
    headings = HEADING.findall((ROOT / "docs/method.md").read_text(encoding="utf-8"))
    assert len(headings) == len(set(headings)), headings
    cited = [
        (str(path.relative_to(ROOT)), number)
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        for number in CITATION.findall(path.read_text(encoding="utf-8"))
    ]
    assert len(cited) >= FEWEST_CITATIONS, cited
    assert [each for each in cited if each[1] not in headings] == []


def test_nothing_cites_a_document_that_is_not_here():
    folders = [ROOT / folder for folder in (*ROOMS, "tests", "docs")]
    kinds = {".py", ".toml", ".md", ".cfg"}
    files = [path for path in ROOT.iterdir() if path.is_file() and (path.suffix in kinds or path.name == "Makefile")]
    files += [path for folder in folders for path in folder.rglob("*") if path.suffix in kinds]
    elsewhere = re.compile(r"\b" + "SP" + "EC" + r"\b")
    assert [str(path) for path in files if elsewhere.search(path.read_text(encoding="utf-8"))] == []


def test_every_function_that_the_architecture_names_is_where_it_says() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", text)
    pairs = re.findall(r"`((?:data|extract|detect|pipeline)/[\w/]+\.py)` `(\w+)`", text)
    assert len(pairs) >= 20
    for path, name in pairs:
        assert re.search(rf"^(?:def|class) {name}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (
            path,
            name,
        )
    for path in re.findall(r"`((?:data|extract|detect|pipeline|tests)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
