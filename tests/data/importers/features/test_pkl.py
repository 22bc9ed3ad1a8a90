"""Pickles give arrays, and never run anything."""

import collections
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from etad.data.errors import EtadError
from etad.data.importers.features.pkl import read_pkl_of_all, read_pkl_of_one

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
# What numpy 1 under Python 2 wrote: names without `_core`, text for bytes.
OF_PYTHON_2 = (
    b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n(I1\n(I1\nI2\ntp6\n"
    b"cnumpy\ndtype\np7\n(S'f4'\np8\nI0\nI1\ntp9\nRp10\n(I3\nS'<'\np11\nNNNI-1\nI-1\nI0\ntp12\nbI00\n"
    b"S'\\x00\\x00\\x80?\\x00\\x00\\x00@'\np13\ntp14\nb."
)


def written(path: Path, value: Any, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", ">f4"])
def test_arrays_of_every_protocol_are_read(tmp_path: Path, protocol: int, dtype: str) -> None:
    for features in (FEATURES.astype(dtype), np.asfortranarray(FEATURES.astype(dtype))):
        found = read_pkl_of_one(written(tmp_path / "a.pkl", features, protocol), "a")
        assert found.shape == (4, 3)
        np.testing.assert_array_equal(found.load(), features)


@settings(max_examples=25, deadline=None)
@given(
    features=arrays.arrays(
        st.sampled_from(["float16", "float32", "float64"]), arrays.array_shapes(min_dims=2, max_dims=3)
    ),
    protocol=st.integers(0, 5),
)
def test_any_array_is_read_as_pickle_itself_reads_it(
    features: np.ndarray, protocol: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.mktemp("pkl") / "a.pkl", features, protocol)
    np.testing.assert_array_equal(read_pkl_of_one(path, "a").load(), features)


def test_an_array_of_python_2_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(OF_PYTHON_2)
    np.testing.assert_array_equal(read_pkl_of_one(tmp_path / "a.pkl", "a").load(), [[1.0, 2.0]])


@pytest.mark.parametrize(
    "value",
    [
        FEATURES.tolist(),
        list(FEATURES),
        tuple(FEATURES),
        [list(row) for row in FEATURES],  # numbers of numpy
        {"feats": FEATURES, "fps": 30.0},
        {"anything": FEATURES},
    ],
)
def test_lists_and_dicts_of_features_are_read(tmp_path: Path, value: Any) -> None:
    for protocol in (2, 5):
        np.testing.assert_array_equal(
            read_pkl_of_one(written(tmp_path / "a.pkl", value, protocol), "a").load(), FEATURES
        )


def test_a_dict_of_all_videos_gives_each(tmp_path: Path) -> None:
    value = {"v_a": FEATURES, "v_b": {"features": FEATURES[:2]}, "v_c": "text", 7: FEATURES}
    found = dict(read_pkl_of_all(written(tmp_path / "all.pkl", value)))
    np.testing.assert_array_equal(found["v_b"].load(), FEATURES[:2])  # type: ignore[union-attr]
    np.testing.assert_array_equal(found["7"].load(), FEATURES)  # type: ignore[union-attr]
    assert "holds a str, expected an array" in str(found["v_c"])


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["ETAD_TEST_PLACE"],)


class Stated:
    def __setstate__(self, state: object) -> None:
        raise AssertionError("ran")

    def __getstate__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Runs(), "mkdir"),
        ({"a": Runs()}, "mkdir"),
        (Stated(), "Stated|copyreg|copy_reg"),
        (np.float64, "numpy"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        ({1, 2}, "instruction|builtin.*set"),
        (np.array([{}, {}], dtype=object), "Python objects|an array of 'O8'"),
        (np.zeros(2, dtype="datetime64[s]"), "an array of 'M8'"),
        (eval, "eval"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_everything_else_is_refused_by_name_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object, named: str, protocol: int
) -> None:
    monkeypatch.setenv("ETAD_TEST_PLACE", str(tmp_path / "ran"))
    path = written(tmp_path / "a.pkl", value, protocol)
    with pytest.raises(EtadError, match=f"(?s)holds .*({named}).*a pickle can run any code"):
        read_pkl_of_one(path, "a")
    assert not (tmp_path / "ran").exists()


def hand_made(tail: bytes) -> bytes:
    """An array in protocol 4, made by hand up to its content."""
    head = b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    return head + tail


TYPE = b"cnumpy\ndtype\n\x8c\x02f4\x89\x88\x87R"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"\x80\x04.",
        b"text",
        pickle.dumps(FEATURES)[:-20],
        # lengths of 2**60 bytes that are not there: bytes, text, bytearray, a frame
        *(b"\x80\x05" + code + struct.pack("<Q", 2**60) + b"." for code in (b"\x8e", b"\x8d", b"\x96", b"\x95")),
        # a shape of many more values than bytes, a negative one, one that is no tuple
        hand_made(b"(K\x01\x8a\x06\x00\x00\x00\x00\x00\x01\x85" + TYPE + b"\x89C\x04abcdtb."),
        hand_made(b"(K\x01J\xff\xff\xff\xff\x85" + TYPE + b"\x89C\x04abcdtb."),
        hand_made(b"(K\x01K\x01" + TYPE + b"\x89C\x04abcdtb."),
        # an array without content, a type without code, things called that are no functions
        hand_made(b"."),
        b"\x80\x04cnumpy\ndtype\n)R.",
        b"\x80\x04K\x01)R.",
        b"\x80\x04cnumpy\nndarray\n)R.",
        b"\x80\x04cnumpy\nndarray\n)\x81.",
        # a state for what has none; an extension, a persistent id, a buffer from elsewhere
        b"\x80\x04]K\x01b.",
        b"\x80\x04\x82\x01.",
        b"\x80\x04K\x01Q.",
        b"\x80\x05\x97.",
        # tuples in tuples, hashed
        b"\x80\x04}K\x01" + b"\x85" * 100_000 + b"K\x01s.",
        # lists in lists
        b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
        # text that claims to be a number of a million digits
        b"I" + b"9" * 10**6 + b"\n.",
    ],
)
def test_hostile_bytes_end_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(EtadError):
        read_pkl_of_one(tmp_path / "a.pkl", "a").load()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_bytes_end_in_a_sentence_or_in_numbers(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(pickle.dumps({"v": FEATURES, "w": [1.0, 2.0]}, protocol=4))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("pkl") / "a.pkl"
    path.write_bytes(content)
    try:
        for _, found in read_pkl_of_all(path):
            assert isinstance(found, EtadError) or found.load().dtype.kind in "fiu"
    except EtadError:
        pass


def test_a_list_that_repeats_itself_is_not_unrolled(tmp_path: Path) -> None:
    row = [0.0] * 100_000
    with pytest.raises(EtadError, match="claims more than features take"):
        read_pkl_of_one(written(tmp_path / "a.pkl", [row] * 100_000), "a")
