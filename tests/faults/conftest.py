"""What all faults begin with, and the table that they end with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import chain, children, table


@pytest.fixture(autouse=True, scope="session")
def _children() -> Iterator[None]:
    with children.prepared():
        yield


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos and their annotations."""
    folder = tmp_path_factory.mktemp("videos") / "data"
    chain.make_videos(folder)
    return folder


@pytest.fixture(scope="session")
def whole(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> chain.Undisturbed:
    """All stages on the videos, undisturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return chain.undisturbed(videos, folder, ("pretrain", "extract", "detect", "e2e"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if table.TALLIES:
        terminalreporter.section(f"faults, seed {table.SEED}")
        for line in table.whole_table().splitlines():
            terminalreporter.write_line(line)
