"""The set of videos that the tests of end-to-end training share, and their threads."""

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
