"""The rules of the house, read off the source: who imports whom, whose library is whose, docs that run."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest
from conftest import ROOT

ROOMS = {"data": set(), "extract": {"data"}, "detect": {"data"}, "pipeline": {"extract", "detect", "data"}}
LIBRARIES = {
    "av": ["data/video.py"],
    "h5py": ["data/"],
    "orjson": ["data/"],
    "click": ["pipeline/"],
    "matplotlib": ["pipeline/"],
}
FORBIDDEN = {"torchvision", "timm", "mmcv", "mmaction", "pickle"}
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imports(path: Path) -> list[tuple[str, str]]:
    """(top library, '') of absolute imports and ('etad', room) of our own, anywhere in a file."""
    room = path.relative_to(ROOT).parts[0]
    depth = len(path.relative_to(ROOT).parts) - 1
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name.split(".")[0], "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            parts = (node.module or "").split(".")
            found.append((parts[0], parts[1] if parts[0] == "etad" and len(parts) > 1 else ""))
        elif isinstance(node, ast.ImportFrom):
            # One dot stays in this folder, each further one climbs a folder; past the room lies the package.
            climbs_out = node.level - 1 >= depth
            target = (node.module or "").split(".")[0] if climbs_out else room
            found.append(("etad", target))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards_and_libraries_keep_to_their_rooms(path: Path) -> None:
    relative = path.relative_to(ROOT).as_posix()
    room = relative.split("/")[0]
    for library, target in imports(path):
        assert library not in FORBIDDEN, f"{relative} imports {library}"
        if library == "etad" and target in ROOMS:
            assert target == room or target in ROOMS[room], f"{relative} imports {target}"
        if library in LIBRARIES:
            assert any(relative.startswith(place) for place in LIBRARIES[library]), f"{relative} imports {library}"


def test_the_import_rule_sees_a_climb() -> None:
    assert ("etad", "data") in imports(ROOT / "extract" / "settings.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_in_docstrings_hold(path: Path) -> None:
    if ">>>" not in path.read_text():
        return
    module = importlib.import_module(".".join(("etad", *path.relative_to(ROOT).with_suffix("").parts)))
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    assert path.name != "utils.py"


def test_every_folder_of_the_package_is_listed() -> None:
    listed = {line.strip() for line in (ROOT / "setup.cfg").read_text().splitlines()}
    for folder in {path.parent for path in SOURCES}:
        assert ".".join(("etad", *folder.relative_to(ROOT).parts)) in listed
