"""What is installed is the whole package, and nothing but the package."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import ROOT
from test_house import ROOMS

NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "runs", "reference", "golden")


def build_wheel(folder: Path, *, without: str | None = None) -> Path:
    """Build the wheel from a copy of the repository, perhaps one whose setup.cfg lacks a line."""
    source = folder / "etad"
    shutil.copytree(ROOT, source, ignore=NOT_COPIED)
    if without is not None:
        lines = (source / "setup.cfg").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.strip() != without]
        assert len(kept) == len(lines) - 1
        (source / "setup.cfg").write_text("".join(kept), encoding="utf-8")
    command = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "bdist_wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("etad-*.whl")
    return wheel


def packaged(wheel: Path) -> set[str]:
    """Paths of what a wheel installs, below the package."""
    names = [name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert all(name.startswith("etad/") for name in names), names
    return {name.removeprefix("etad/") for name in names}


def in_the_repository() -> set[str]:
    """Paths of all that belongs to the package: whatever lies in the rooms, and the root's own modules."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()]
    files += [*ROOT.glob("*.py"), ROOT / "py.typed"]
    kept = [path for path in files if "__pycache__" not in path.parts and not path.name.startswith(".")]
    return {path.relative_to(ROOT).as_posix() for path in kept}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_module_and_data_file_and_no_test(wheel: Path) -> None:
    assert packaged(wheel) == in_the_repository()


def test_the_installed_command_finds_its_presets_and_lists_of_weights(wheel: Path, tmp_path: Path) -> None:
    ZipFile(wheel).extractall(tmp_path)
    found = (
        "import etad; from etad.pipeline.config import load_config, preset_names; "
        "from importlib.resources import files; import etad.pipeline.cli.main; "
        "print(etad.__file__, sum(load_config(name) is not None for name in preset_names()), "
        "sum(path.name.endswith('.json') for path in files('etad.extract.weights.manifests').iterdir()))"
    )
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {found}"],
        cwd=tmp_path,
        env={"PATH": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    place, presets, manifests = run.stdout.split()
    assert Path(place) == tmp_path / "etad" / "__init__.py"
    assert int(presets) == len(list((ROOT / "pipeline" / "configs").glob("*.toml"))) > 0
    assert int(manifests) == len(list((ROOT / "extract" / "weights" / "manifests").glob("*.json"))) > 0
    (entry_points,) = tmp_path.glob("etad-*.dist-info/entry_points.txt")
    assert "etad = etad.__main__:main" in entry_points.read_text(encoding="utf-8")


def test_the_installed_package_offers_the_python_api(wheel: Path, tmp_path: Path) -> None:
    ZipFile(wheel).extractall(tmp_path)
    action = {"segment": [1.0, 3.0], "label": "run"}
    database = {"a": {"subset": "test", "duration": 9.0, "annotations": [action]}}
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import etad; loaded = 'torch' in sys.modules; "
        "found = {'a': [etad.Detection(1.0, 3.0, 'run', 0.5)]}; "
        "print(loaded, etad.load.__module__, etad.evaluate('annotations.json', found).average_mAP)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True)
    assert run.stdout.split() == ["False", "etad.pipeline.predict.api", "1.0"], run.stderr
    assert (tmp_path / "etad" / "py.typed").exists()


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ("etad.detect.sampling", "detect/sampling/"),
        ("etad.pipeline.configs = *.toml", "pipeline/configs/"),
        ("etad.extract.weights.manifests = *.json", "extract/weights/manifests/"),
    ],
)
def test_a_forgotten_line_of_setup_cfg_is_seen(tmp_path: Path, line: str, lost: str) -> None:
    missing = in_the_repository() - packaged(build_wheel(tmp_path, without=line))
    assert missing and all(path.startswith(lost) for path in missing)
