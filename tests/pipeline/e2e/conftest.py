"""The set of videos that the tests of end-to-end training share, and their threads."""

import json
import shutil
from pathlib import Path

import pytest
from miniature_e2e import make


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread: None) -> None:
    """See `one_thread`."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations beside their videos."""
    return make(tmp_path_factory.mktemp("set"))


@pytest.fixture
def kept_apart(dataset: Path, tmp_path: Path) -> Path:
    """The set with one of its training videos set apart to validate on."""
    shutil.copytree(dataset.parent, tmp_path / "set")
    path = tmp_path / "set" / dataset.name
    tree = json.loads(path.read_text())
    next(each for each in tree["database"].values() if each["subset"] == "training")["subset"] = "apart"
    path.write_text(json.dumps(tree))
    return path
