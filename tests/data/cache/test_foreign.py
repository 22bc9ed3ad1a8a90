"""What is no cache of etad's stays where it is, and its owner is told how to import it."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from etad.data.cache.cache import FeatureCache, pack, parts_folder, verify, write_part
from etad.data.cache.merge import merge
from etad.data.cache.verify import bad_folder
from etad.data.errors import EtadError
from reference.feature_samples import make_features, make_meta


def tsp(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["v_a"] = np.zeros((200, 30))


def with_groups(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "mine"
        file.create_group("videos")["v_a"] = np.zeros((200, 30))


def cut_short(path: Path) -> None:
    tsp(path)
    path.write_bytes(path.read_bytes()[:20_000])


def npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros((20, 30)))


def checkpoint(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(200))


def pickled(path: Path) -> None:
    path.write_bytes(b"\x80\x02}q\x00.")


def text(path: Path) -> None:
    path.write_text("notes")


@pytest.mark.parametrize("make", [tsp, with_groups, cut_short, npy, checkpoint, pickled, text])
def test_files_of_others_are_neither_moved_nor_changed(tmp_path: Path, make: object) -> None:
    path = tmp_path / "mine"
    make(path)  # type: ignore[operator]
    before = path.read_bytes()
    for use in (
        lambda: verify(path, repair=True),
        lambda: verify(path),
        lambda: FeatureCache(path),
        lambda: merge(tmp_path / "joined.h5", [path]),
    ):
        with pytest.raises(EtadError, match=r"If it holds features, import it with `etad import features .*mine -o"):
            use()
    assert path.read_bytes() == before and not bad_folder(path).exists()


def test_a_folder_of_features_is_told_from_a_cache(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"is a folder, and a feature cache is a file.*`etad import features"):
        FeatureCache(tmp_path)
    with pytest.raises(EtadError, match="is a folder"):
        verify(tmp_path, repair=True)
    assert not bad_folder(tmp_path).exists()


def test_files_of_others_among_the_parts_are_left_there(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    write_part(cache, "v_a", make_features(), make_meta())
    mine = parts_folder(cache) / "mine.h5"
    tsp(mine)
    (problem,) = verify(cache, repair=True)
    assert problem.kind == "foreign" and problem.file == mine and problem.moved_to is None
    assert mine.exists()


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:1500], lambda c: bytes(len(c)), lambda c: b"?" + c[1:]])
def test_a_damaged_cache_is_still_moved_aside(tmp_path: Path, damage: object) -> None:
    cache = tmp_path / "features.h5"
    write_part(cache, "v_a", make_features(), make_meta())
    pack(cache)
    cache.write_bytes(damage(cache.read_bytes()))  # type: ignore[operator]
    problems = verify(cache, repair=True)
    assert problems[0].kind == "damaged" and not cache.exists() and bad_folder(cache).is_dir()
