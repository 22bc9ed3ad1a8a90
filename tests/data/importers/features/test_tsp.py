"""HDF5 with one root data set a video, as TSP publishes it."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.data.importers.features.tsp import read_tsp, write_tsp
from reference.feature_samples import make_features, make_meta

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_packed_data_sets_are_read_as_tsp_writes_them(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "tsp.h5", "w") as file:
        for name in ("v_a", "v_b"):
            file.create_dataset(name, data=FEATURES, chunks=True, compression="gzip", compression_opts=9)
    found = dict(read_tsp(tmp_path / "tsp.h5"))
    assert sorted(found) == ["v_a", "v_b"]
    np.testing.assert_array_equal(found["v_b"].load(), FEATURES)  # type: ignore[union-attr]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = write_tsp(tmp_path / "a.h5", [("v_a", FEATURES), ("Größe", FEATURES[:1].astype(np.float16))])
    with h5py.File(path) as file:
        assert sorted(file) == ["Größe", "v_a"] and file["v_a"].dtype == np.float32
    found = dict(read_tsp(path))
    np.testing.assert_array_equal(found["Größe"].load(), FEATURES[:1])  # type: ignore[union-attr]


def test_what_is_no_data_set_of_numbers_is_listed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["good"] = FEATURES
        file["text"] = "words"
        file.create_group("group")
        file["link"] = h5py.SoftLink("/good")
        file["away"] = h5py.ExternalLink("/etc/passwd", "x")
        file.create_dataset("claims", shape=(2**20, 2**9), dtype="f4", chunks=(1024, 512))
    found = {name: str(value) for name, value in read_tsp(tmp_path / "other.h5") if isinstance(value, EtadError)}
    assert sorted(found) == ["away", "claims", "group", "link", "text"]
    assert "expected numbers" in found["text"] and "no data set" in found["group"]
    assert "is a link to another place" in found["link"] and "is a link to another place" in found["away"]
    assert "the file holds 0 of them" in found["claims"]


def test_data_in_another_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("v_a", shape=(4, 4), dtype="f4", external=[(str(tmp_path / "secret"), 0, 64)])
    assert "lies in another file" in str(dict(read_tsp(tmp_path / "a.h5"))["v_a"])


def test_a_cache_of_etad_is_told_from_features_of_others(tmp_path: Path) -> None:
    from etad.data.cache.cache import pack, write_part

    write_part(tmp_path / "features.h5", "v_a", make_features(), make_meta())
    with pytest.raises(EtadError, match=r"is a feature cache of etad already: give it to `etad detect --features`"):
        dict(read_tsp(pack(tmp_path / "features.h5")))


@pytest.mark.parametrize("content", [b"", b"no hdf5", b"\x89HDF\r\n\x1a\n" + bytes(2000)])
def test_a_file_that_is_no_hdf5_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(EtadError, match=r"a\.h5: cannot be read as HDF5"):
        dict(read_tsp(tmp_path / "a.h5"))


def test_groups_alone_are_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("train")
    with pytest.raises(EtadError, match=r"its root holds groups \(train\), expected one data set"):
        dict(read_tsp(tmp_path / "a.h5"))


def test_damaged_files_end_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v_a", data=FEATURES.repeat(50, axis=0), chunks=(20, 3), compression="gzip")
    whole = path.read_bytes()
    for place in range(0, len(whole), 701):
        content = bytearray(whole)
        content[place] ^= 0x41
        path.write_bytes(content)
        try:
            for _, found in read_tsp(path):
                if not isinstance(found, EtadError):
                    found.load()
        except EtadError:
            pass
