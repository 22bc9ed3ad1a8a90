"""What an HDF5 file claims lies in it, or is refused before memory is taken for it."""

import errno
import fcntl
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.data.files.hdf5 import hdf5_in_memory, image_of, make_room, member, new_hdf5, open_hdf5, require_whole


def test_links_are_refused_and_members_are_found(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["here"] = np.zeros(3)
        file["soft"] = h5py.SoftLink("/here")
        file["outside"] = h5py.ExternalLink("/etc/passwd", "/x")
        assert isinstance(member(file, "here"), h5py.Dataset) and member(file, "absent") is None
        for name in ("soft", "outside"):
            with pytest.raises(EtadError, match=f"'{name}' is a link to another place"):
                member(file, name)


def test_values_must_lie_in_the_file_itself_and_all_of_them(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(shape=(4,), dtype="f2")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(4,))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        require_whole(file.create_dataset("whole", data=np.zeros((3, 2))))
        require_whole(file.create_dataset("chunks", data=np.zeros((3, 2)), chunks=(1, 2)))
        refused = [
            (file.create_dataset("storage", (10,), "u1", external=[("/etc/passwd", 0, 10)]), "lies in another file"),
            (file.create_virtual_dataset("virtual", layout), "lies in another file"),
            (file.create_dataset("packed", data=np.zeros((99, 2)), compression="gzip"), "is stored through 1 filter"),
            (file.create_dataset("sparse", (10**9, 512), "f2"), "claims float16 .* and the file holds 0 of them"),
        ]
        for dataset, message in refused:
            with pytest.raises(EtadError, match=message):
                require_whole(dataset)


def test_locks_of_others_and_disks_without_any_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.touch()
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with new_hdf5(path) as file:
            file["x"] = 1
        with open_hdf5(path) as file:
            assert file["x"][()] == 1


def test_file_that_is_open_in_the_usual_way_can_be_read_beside_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    with h5py.File(tmp_path / "a.h5") as other, open_hdf5(tmp_path / "a.h5") as file:
        assert other["x"][()] == file["x"][()] == 1


def test_file_in_memory_is_the_file_on_disk(tmp_path: Path) -> None:
    with hdf5_in_memory() as file:
        file["x"] = np.arange(1000)
        (tmp_path / "a.h5").write_bytes(image_of(file))
    with open_hdf5(tmp_path / "a.h5") as file:
        assert file["x"][()].tolist() == list(range(1000))


def test_room_is_set_aside_before_anything_is_written_and_goes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with new_hdf5(path, room_bytes=2**20) as file:
        assert path.stat().st_size >= 2**20
        file["x"] = np.arange(10)
        make_room(file, 2**19)
        assert path.stat().st_size >= 2**19
        file["y"] = np.arange(10)
    assert path.stat().st_size < 2**14
    with open_hdf5(path) as file:
        assert file["x"][()].tolist() == file["y"][()].tolist() == list(range(10))


def test_disk_without_room_is_met_before_hdf5_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"), new_hdf5(tmp_path / "a.h5", room_bytes=10):
        pytest.fail("it was opened")
    with pytest.raises(OSError, match="No space left"), new_hdf5(tmp_path / "a.h5") as file:
        make_room(file, 10)
