"""Whether video files are still those that a training has seen."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from etad.data.errors import EtadError
from etad.data.video.seen import SeenFiles

SIZE = 10**6


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.mp4" for name in ("a", "b", "tiny", "empty")}
    for name, path in found.items():
        path.write_bytes({"tiny": b"x" * 9, "empty": b""}.get(name, os.urandom(SIZE)))
    return found | {"gone": tmp_path / "gone.mp4"}


def again(files: dict[str, Path], rows: object) -> None:
    """Go on in another process, as a checkpoint tells of the one before."""
    SeenFiles(files).require_same(json.loads(json.dumps(rows)), checkpoint=Path("last.pt"))


def test_files_that_were_copied_touched_moved_or_lost_are_the_same(files: dict[str, Path], tmp_path: Path) -> None:
    rows = SeenFiles(files).as_rows()
    assert sorted(rows) == ["a", "b", "empty", "tiny"]
    again(files, rows)
    os.utime(files["a"], (0, 0))
    again(files, rows)
    (tmp_path / "disk").mkdir()
    again({id: Path(shutil.copy(path, tmp_path / "disk")) for id, path in files.items() if id != "gone"}, rows)
    files["b"].unlink()
    again(files, rows)
    again(files, {})  # of an older version


@pytest.mark.parametrize("place", [0, SIZE // 2, SIZE - 1])
def test_a_file_of_the_same_size_with_another_content_is_named(files: dict[str, Path], place: int) -> None:
    seen = SeenFiles(files)
    rows = seen.as_rows()
    content = bytearray(files["a"].read_bytes())
    content[place] ^= 1
    files["a"].write_bytes(content)
    os.utime(files["a"], (0, 0))  # a file system may count time in steps that this test is faster than
    with pytest.raises(EtadError, match=r"last\.pt: 1 video file is no longer .*a\.mp4"):
        again(files, rows)
    with pytest.raises(EtadError, match=r"a\.mp4: replaced or written to while trained on"):
        seen.require_unchanged()


def test_swapped_files_are_both_named(files: dict[str, Path]) -> None:
    rows = SeenFiles(files).as_rows()
    for path, when in ((files["a"], 1), (files["b"], 2)):
        os.utime(path, (when, when))
    with pytest.raises(EtadError, match=r"2 video files are no longer"):
        again(files | {"a": files["b"], "b": files["a"]}, rows)
