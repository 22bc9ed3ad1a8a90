"""What the docs name is there: sections that the code cites, functions, and the tests of what is promised."""

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


def test_every_promise_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    promises = re.split(r"^(?=\*\*)", text, flags=re.MULTILINE)[1:]
    assert len(promises) >= 20
    for promise in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
        assert len(named) == len(re.findall(r"^- ", promise, re.MULTILINE)) > 0, promise
        for path, name in named:
            assert (ROOT / path).exists(), path
            source = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{path} has no {name}"
