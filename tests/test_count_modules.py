"""How many of our modules a reader opens to follow one video, or one training step: no more than now."""

from pathlib import Path

import count_modules
import pytest


@pytest.mark.parametrize(
    ("name", "most", "through"),
    [
        ("extract", 35, "extract/encode.py"),
        ("extract-command", 57, "pipeline/cli/stages.py"),
        ("train", 20, "detect/objective.py"),
        ("first-step", 28, "data/cache/cache.py"),
        ("e2e", 40, "pipeline/e2e/sgs.py"),
    ],
)
def test_the_way_passes_through_few_modules(name: str, most: int, through: str, tmp_path: Path) -> None:
    found = count_modules.COMMANDS[name](tmp_path)
    modules = count_modules.counted(found)
    assert through in modules
    assert len(modules) <= most, "\n".join(modules)


def test_threads_are_seen_and_imports_are_not(tmp_path: Path) -> None:
    found = count_modules.extraction(tmp_path)
    assert "data/video/reader.py" in found, "videos are decoded by threads"
    assert not any(module.startswith(("tests/", "detect/")) for module in found)
