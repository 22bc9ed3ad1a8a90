"""The rules of the house, read off the source: who imports whom, whose library is whose, docs that run."""

import ast
import doctest
import importlib
import inspect
from pathlib import Path

import pytest
from conftest import ROOT

ROOMS = ("data", "extract", "detect", "pipeline")
LIBRARIES = {
    "av": ["data/video/"],
    "h5py": ["data/"],
    "orjson": ["data/"],
    "tqdm": ["data/progress.py"],
    "click": ["pipeline/"],
    "matplotlib": ["pipeline/"],
    "PIL": ["pipeline/show/"],
    "openpyxl": ["data/importers/"],
    "safetensors": ["extract/weights/"],
}
FORBIDDEN = {"torchvision", "timm", "mmcv", "mmaction", "pickle"}
# The one module that reads pickles, and which can make nothing but data of them.
MAY_USE = {("data/importers/features/pkl.py", "pickle")}
MOST_LINES, MOST_MODULES = 400, 14
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

# Who may import whom: a wing (`data/cache`) or a module that lies in a room itself (`data.errors`) -> wings and
# modules of any room; a bare `data` stands for all of that room. Inside a wing everybody may import everybody.
_PLAIN = {
    "data.errors",
    "data.timeline",
    "data.settings",
    "data.precision",
    "data.digest",
    "data.progress",
    "data.ranks",
    "data.interrupts",
}
_RECORDS = {"data.annotations", "data.detections", "data.predictions", "data.class_scores", "data.checkpoint"}
_PIPELINE = {"data", "extract", "detect", "pipeline.config", "pipeline.settings", "pipeline.run_folder"}
_PIPELINE |= {"pipeline.device", "pipeline.manifest", "pipeline.events"}
ARROWS: dict[str, set[str]] = {
    "data.errors": set(),
    "data.settings": {"data.errors"},
    "data.timeline": {"data.errors"},
    "data.precision": {"data.errors"},
    "data.digest": {"data.errors"},
    "data.progress": set(),
    "data.ranks": {"data.errors"},
    "data.interrupts": set(),
    "data/files": _PLAIN,
    **{record: _PLAIN | _RECORDS | {"data/files"} for record in _RECORDS},
    "data.durations": _PLAIN | _RECORDS,
    "data/cache": _PLAIN | _RECORDS | {"data/files"},
    "data/video": _PLAIN | _RECORDS | {"data/files"},
    "data/synthetic": _PLAIN | _RECORDS | {"data/files", "data/video"},
    "data/importers": _PLAIN | _RECORDS | {"data/files", "data/video", "data/cache", "data.durations"},
    "extract.settings": {"data"},
    "extract.augment": {"data"},
    "extract.prefetch": {"data"},
    "extract/encoders": {"data", "extract.settings"},
    "extract/weights": {"data", "extract.settings", "extract/encoders"},
    "extract.clips": {"data", "extract.settings", "extract.augment", "extract.prefetch", "extract/encoders"},
    "extract.encode": {"data", "extract.settings", "extract.clips", "extract/encoders"},
    "extract.joined": {"data", "extract.clips", "extract.encode", "extract/encoders"},
    "extract.frozen": {"data", "extract/encoders"},
    "extract.run": {"data", "extract"},
    "detect.preset": set(),
    "detect.strategies": {"data"},
    "detect.settings": {"data", "detect.preset", "detect.schedule", "detect.strategies"},
    "detect.resize": {"data"},
    "detect/kernels": {"data", "detect.settings"},
    "detect/model": {"data", "detect.settings", "detect/kernels"},
    "detect/sampling": {"data", "detect.settings", "detect.strategies", "detect/kernels", "detect/model"},
    # The loss compares what the model says, in the model's own terms.
    "detect/loss": {"data", "detect.settings", "detect.preset", "detect/model"},
    "detect.windows": {"data", "detect.settings"},
    # The detectors that ETAD is compared with, whole: `detect/model/build.py` imports one when it is asked for.
    "detect/baselines": {"data", "detect.settings", "detect.windows", "detect/loss", "detect/model", "detect/results"},
    "detect.loading": {"data", "detect.settings", "detect.windows", "detect.resize"},
    "detect.run_state": {"data", "detect.settings", "detect/model"},
    "detect.standardise": {"data"},
    "detect.objective": {"data", "detect.settings", "detect/loss", "detect/sampling", "detect/model", "detect.windows"}
    | {"detect/baselines"},
    "detect.average": set(),
    "detect.schedule": set(),
    "detect.loop": {"data", "detect.settings", "detect.average", "detect.run_state", "detect.schedule"},
    "detect.train": {"data", "detect.settings", "detect.loop", "detect.run_state", "detect.objective"}
    | {"detect.loading", "detect.schedule", "detect.windows", "detect.standardise", "detect/model"},
    "detect/results": {"data", "detect.settings", "detect.loading", "detect.windows", "detect/model", "detect/loss"}
    | {"detect/kernels", "detect/sampling"},
    "pipeline.settings": {"data", "extract", "detect"},
    "pipeline.config": {"data", "extract", "detect", "pipeline.settings"},
    "pipeline.device": {"data", "extract", "detect", "pipeline.config"},
    "pipeline.run_folder": {"data", "extract", "detect", "pipeline.config", "pipeline.settings"},
    "pipeline.manifest": {"data", "pipeline.config", "pipeline.settings", "pipeline.run_folder"},
    "pipeline.events": {"data", "detect"},
    "pipeline/show": _PIPELINE,
    "pipeline/stages": _PIPELINE,
    "pipeline/e2e": _PIPELINE | {"pipeline/stages"},
    "pipeline/init": _PIPELINE | {"pipeline/stages"},
    "pipeline/predict": _PIPELINE | {"pipeline/stages"},
    "pipeline/experiments": _PIPELINE | {"pipeline/stages", "pipeline/e2e", "pipeline/show"},
    "pipeline/cli": _PIPELINE
    | {"pipeline/stages", "pipeline/e2e", "pipeline/experiments", "pipeline/show", "pipeline/init"}
    | {"pipeline/predict"},
}


def place_of(parts: list[str]) -> str:
    """Wing or room-level module of a dotted path below the package."""
    if len(parts) == 1:
        return parts[0]
    return f"{parts[0]}/{parts[1]}" if (ROOT / parts[0] / parts[1]).is_dir() else f"{parts[0]}.{parts[1]}"


def imports(path: Path) -> list[tuple[str, str]]:
    """(top library, '') of absolute imports and ('etad', wing or module) of our own, anywhere in a file."""
    folder = list(path.relative_to(ROOT).parts[:-1])
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name.split(".")[0], "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level == 0 and module[0] != "etad":
                found.append((module[0], ""))
                continue
            base = module[1:] if node.level == 0 else folder[: len(folder) - node.level + 1] + module
            for alias in node.names:
                named = [*base, alias.name]
                is_module = (ROOT / Path(*named)).with_suffix(".py").exists() or (ROOT / Path(*named)).is_dir()
                target = named if is_module else base
                if target and target[0] in ROOMS:
                    found.append(("etad", place_of(target)))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows_and_libraries_keep_to_their_places(path: Path) -> None:
    relative = path.relative_to(ROOT).as_posix()
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    place = place_of(parts)
    for library, target in imports(path):
        assert library not in FORBIDDEN or (relative, library) in MAY_USE, f"{relative} imports {library}"
        if library == "etad" and target != place:
            allowed = ARROWS[place]
            room = target.replace("/", ".").split(".")[0]
            assert target in allowed or room in allowed, f"{relative} imports {target}; {place} may import {allowed}"
        if library in LIBRARIES:
            assert any(relative.startswith(folder) for folder in LIBRARIES[library]), f"{relative} imports {library}"


def kernel_imports(path: Path) -> list[str]:
    """What a file imports of `detect/kernels`: a name of its door, or the dotted path of anything behind it."""
    folder = list(path.relative_to(ROOT).parts[:-1])
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("etad.detect.kernels")]
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            base = module[1:] if node.level == 0 else folder[: len(folder) - node.level + 1] + module
            if node.level == 0 and module[0] != "etad":
                continue
            for alias in node.names:
                named = [*base, alias.name]
                if named[:2] == ["detect", "kernels"]:
                    found.append(alias.name if base == ["detect", "kernels"] else ".".join(named))
    return found


def test_kernels_offer_six_functions_and_nobody_reaches_behind_them() -> None:
    kernels = importlib.import_module("etad.detect.kernels")
    door = set(kernels.__all__)
    assert len(door) <= 6
    assert all(inspect.isfunction(getattr(kernels, name)) for name in door)
    inside = (ROOT / "detect" / "kernels", ROOT / "tests" / "detect" / "kernels")
    used: set[str] = set()
    for path in (*SOURCES, *(ROOT / "tests").rglob("*.py")):
        if path.parent not in inside:
            names = set(kernel_imports(path))
            assert names <= door, f"{path.relative_to(ROOT)} imports {', '.join(names - door)} of detect/kernels"
            used |= names
    assert used == door, "a function that nobody uses stays inside"


def test_the_rule_of_the_door_sees_a_name_and_a_module_behind_it() -> None:
    behind = {"detect.kernels.blocks.ProposalBlock", "detect.kernels.threads.run_parallel"}
    assert behind <= set(kernel_imports(ROOT / "detect" / "kernels" / "heads.py"))
    assert "roi" in kernel_imports(ROOT / "tests" / "detect" / "kernels" / "test_roi.py")


def test_every_wing_and_module_has_its_arrows_and_none_that_is_gone() -> None:
    places = {place_of(list(path.relative_to(ROOT).with_suffix("").parts)) for path in SOURCES}
    places = {place for place in places if not place.endswith(".__init__")}
    places.discard("pipeline/configs")
    assert places == set(ARROWS)


def test_no_arrows_run_in_a_circle() -> None:
    def reaches(place: str, seen: tuple[str, ...]) -> None:
        assert place not in seen, " -> ".join((*seen, place))
        for target in ARROWS.get(place, set()) - {place}:
            if target in ARROWS and not (place in _RECORDS and target in _RECORDS):
                reaches(target, (*seen, place))

    for place in ARROWS:
        reaches(place, ())


def test_the_import_rule_sees_a_climb_and_a_module_imported_by_name() -> None:
    assert ("etad", "data.settings") in imports(ROOT / "extract" / "settings.py")
    assert ("etad", "data/video") in imports(ROOT / "extract" / "augment.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_in_docstrings_hold(path: Path) -> None:
    if ">>>" not in path.read_text():
        return
    module = importlib.import_module(".".join(("etad", *path.relative_to(ROOT).with_suffix("").parts)))
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    assert path.name != "utils.py"


def test_no_two_public_classes_have_one_name() -> None:
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=lambda path: path.name)
def test_no_folder_is_crowded(folder: Path) -> None:
    assert sum(path.name != "__init__.py" for path in folder.glob("*.py")) <= MOST_MODULES


def test_every_folder_of_the_package_is_listed() -> None:
    listed = {line.strip() for line in (ROOT / "setup.cfg").read_text().splitlines()}
    for folder in {path.parent for path in SOURCES}:
        assert ".".join(("etad", *folder.relative_to(ROOT).parts)) in listed
