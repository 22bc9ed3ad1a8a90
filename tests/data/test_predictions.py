"""Raw predictions are used as they were written, or made again."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from etad.data.errors import EtadError, UnwritableError
from etad.data.files.seal import _SEAL_BYTES
from etad.data.predictions import RawPrediction, predictions_digest, read_predictions, write_predictions


def windows(count: int = 3) -> list[RawPrediction]:
    draw = np.random.default_rng(0).random
    return [
        RawPrediction(f"v_{k}", 0.0, 9.0, 9.0, draw((5, 2)), draw((5, 2)), draw((2, 4)), draw((5, 0)))
        for k in range(count)
    ]


def write(path: Path) -> Path:
    return write_predictions(path, iter(windows()), model_digest="abc")


def strip_digest(path: Path) -> None:
    """As an older version wrote it."""
    os.truncate(path, path.stat().st_size - _SEAL_BYTES)


@pytest.mark.parametrize("older", [False, True])
def test_predictions_come_back_as_they_were(tmp_path: Path, older: bool) -> None:
    path = write(tmp_path / "raw.h5")
    if older:
        strip_digest(path)
    assert predictions_digest(path) == "abc" and predictions_digest(tmp_path / "none.h5") is None
    for before, after in zip(windows(), read_predictions(path), strict=True):
        assert before.video_id == after.video_id
        np.testing.assert_array_equal(before.segments, after.segments)


def test_any_flipped_bit_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "raw.h5")
    whole = path.read_bytes()
    for place in range(5, len(whole) - _SEAL_BYTES, 997):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with caplog.at_level(logging.WARNING):
            assert predictions_digest(path) is None, place
        with pytest.raises(EtadError, match=r"raw\.h5: .*differs from its digest.*`etad detect` makes the file again"):
            list(read_predictions(path))
    assert "differs from its digest" in caplog.text


def external(file: h5py.File) -> None:
    del file["windows/0000001/iou"]
    file["windows/0000001"].create_dataset("iou", (5, 2), "f8", external=[("/etc/passwd", 0, 80)])


def link(file: h5py.File) -> None:
    del file["windows/0000001"]
    file["windows/0000001"] = h5py.ExternalLink("other.h5", "/windows/0000001")


def sparse(file: h5py.File) -> None:
    del file["windows/0000001/segments"]
    file["windows/0000001"].create_dataset("segments", (10**11, 2), "f8")


def shape(file: h5py.File) -> None:
    del file["windows/0000001/iou"]
    file["windows/0000001/iou"] = np.zeros((4, 2))


def lost(file: h5py.File) -> None:
    del file["windows/0000001"].attrs["video_id"]


@pytest.mark.parametrize("change", [external, link, sparse, shape, lost])
def test_predictions_that_nobody_wrote_are_refused(tmp_path: Path, change: Callable[[h5py.File], None]) -> None:
    path = write(tmp_path / "raw.h5")
    strip_digest(path)
    with h5py.File(path, "r+") as file:
        change(file)
    words = "another file|another place|claims|do not go together|cannot be read"
    with pytest.raises(EtadError, match=rf"raw\.h5: .*({words}).*`etad detect` makes the file again"):
        list(read_predictions(path))


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw.h5"
    for content in (b"", b"nothing", b"x" * 500):
        path.write_bytes(content)
        with pytest.raises(EtadError, match=r"raw\.h5: "):
            list(read_predictions(path))
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(EtadError, match="holds no raw predictions"):
        list(read_predictions(path))


def test_full_disk_leaves_the_old_predictions(tmp_path: Path) -> None:
    import resource

    path = write(tmp_path / "raw.h5")
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            write_predictions(path, iter(windows(50)), model_digest="def")
        except UnwritableError:
            os._exit(3)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert predictions_digest(path) == "abc" and [each.name for each in tmp_path.iterdir()] == ["raw.h5"]
