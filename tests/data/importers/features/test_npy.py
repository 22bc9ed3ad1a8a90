"""Arrays of numpy are looked at before they are read, and nothing in them runs or fills the memory."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from etad.data.errors import EtadError
from etad.data.importers.features import npy
from etad.data.importers.features.npy import read_npy, read_npz_of_all, read_npz_of_one, write_npy

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", ">f4"])
def test_an_array_is_read_as_it_was_written(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", FEATURES.astype(dtype))
    found = read_npy(tmp_path / "a.npy", "a")
    assert found.shape == (4, 3) and found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.load(), FEATURES.astype(dtype))


def test_an_array_in_column_order_is_read_as_it_was_written(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(FEATURES))
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", "a").load(), FEATURES)


@settings(max_examples=25, deadline=None)
@given(features=arrays.arrays(st.sampled_from(["float16", "float32"]), arrays.array_shapes(min_dims=2, max_dims=2)))
def test_what_is_written_is_read_again(features: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write_npy(tmp_path_factory.mktemp("npy") / "a.npy", features)
    np.testing.assert_array_equal(read_npy(path, "a").load(), features)


def test_a_file_that_was_cut_short_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FEATURES)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-4])
    with pytest.raises(EtadError, match=r"has 172 bytes, its header promises 176: it was cut short"):
        read_npy(tmp_path / "a.npy", "a")


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([{"a": 1}], dtype=object), "holds object, expected numbers"),
        (np.array(["a"]), "holds str.*, expected numbers"),
        (np.zeros(3, dtype=[("x", "f4")]), "holds .*, expected numbers"),
        (np.zeros(3, dtype=complex), "holds complex128, expected numbers"),
    ],
)
def test_an_array_of_anything_but_numbers_is_refused_unread(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(EtadError, match=said):
        read_npy(tmp_path / "a.npy", "a")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"PK\x03\x04", b"text"])
def test_a_file_that_is_no_array_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(EtadError, match="is no array that numpy can read"):
        read_npy(tmp_path / "a.npy", "a")


def test_a_header_that_claims_more_than_memory_holds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(_header((2**40, 2**20)))
    with pytest.raises(EtadError, match=r"claims .* GiB, features take at most 8 GiB"):
        read_npy(tmp_path / "a.npy", "a")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_of_one_video_gives_its_array(tmp_path: Path, save: object) -> None:
    save(tmp_path / "a.npz", feats=FEATURES, fps=np.array(30.0))  # type: ignore[operator]
    np.testing.assert_array_equal(read_npz_of_one(tmp_path / "a.npz", "a").load(), FEATURES)
    save(tmp_path / "b.npz", anything=FEATURES)  # type: ignore[operator]
    np.testing.assert_array_equal(read_npz_of_one(tmp_path / "b.npz", "b").load(), FEATURES)


def test_an_archive_of_several_unknown_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", rgb=FEATURES, flow=FEATURES)
    with pytest.raises(EtadError, match=r"holds 2 arrays \(rgb, flow\), expected one"):
        read_npz_of_one(tmp_path / "a.npz", "a")


def test_an_archive_of_all_videos_gives_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", v_a=FEATURES, v_b=FEATURES[:2], v_c=np.array([{}], dtype=object))
    found = dict(read_npz_of_all(tmp_path / "all.npz"))
    np.testing.assert_array_equal(found["v_b"].load(), FEATURES[:2])  # type: ignore[union-attr]
    assert "expected numbers" in str(found["v_c"])


def test_an_archive_that_unpacks_to_far_more_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npy, "_LARGE_BYTES", 2**16)
    with zipfile.ZipFile(tmp_path / "all.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("v_a.npy", _header((2**12, 8)) + bytes(2**17))
    assert "as no features do" in str(dict(read_npz_of_all(tmp_path / "all.npz"))["v_a"])


def test_an_archive_whose_array_is_shorter_than_it_claims_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("feats.npy", _header((1000, 1000)))
    with pytest.raises(EtadError, match="unpacks to 128 bytes, its header promises"):
        read_npz_of_one(tmp_path / "a.npz", "a")


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", feats=FEATURES)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[180] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(EtadError, match="Bad CRC"):
        read_npz_of_one(tmp_path / "a.npz", "a").load()


def _header(shape: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": "<f4"})
    return out.getvalue()
