"""Where the small files are that people reported."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reports(shared: Path) -> Path:
    folder = shared / "reports"
    if not folder.is_dir():
        pytest.fail(f"{shared} has no folder reports")
    return folder
