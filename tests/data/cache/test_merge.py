"""Shards meet in one file, and no accident on the way loses a video."""

import shutil
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from etad.data.cache import merge as feature_merge
from etad.data.cache.cache import FeatureCache
from etad.data.cache.merge import lock_path, merge, pack
from etad.data.cache.parts import parts_folder, write_part
from etad.data.errors import EtadError
from etad.data.files.lock import holding
from reference.feature_samples import make_features, make_meta


def fill(cache: Path, *seeds: int) -> Path:
    for seed in seeds:
        write_part(cache, f"v_{seed}", make_features(seed=seed), make_meta(), "float32")
    return cache


def assert_holds(cache: Path, *seeds: int) -> None:
    reader = FeatureCache(cache)
    assert reader.ids == tuple(f"v_{seed}" for seed in seeds)
    for seed in seeds:
        np.testing.assert_array_equal(reader.read(f"v_{seed}"), make_features(seed=seed))


def test_packing_again_changes_nothing(tmp_path: Path) -> None:
    cache = fill(tmp_path / "features.h5", 0, 1)
    pack(cache)
    before = cache.stat()
    pack(cache)
    assert cache.stat().st_ino == before.st_ino and cache.stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in tmp_path.iterdir()] == ["features.h5"]


def test_packed_and_unpacked_caches_merge_into_one(tmp_path: Path) -> None:
    cache = fill(tmp_path / "features.h5", 0)
    packed, parts, both = tmp_path / "1.h5", tmp_path / "2.h5", tmp_path / "3.h5"
    pack(fill(packed, 1, 2))
    fill(parts, 3)
    pack(fill(both, 4))
    fill(both, 5, 1)  # video 1 again, the same features
    merge(cache, [packed, parts, both, cache])
    assert_holds(cache, 0, 1, 2, 3, 4, 5)
    assert_holds(packed, 1, 2)
    assert_holds(parts, 3)
    merge(tmp_path / "new.h5", [cache])
    assert_holds(tmp_path / "new.h5", 0, 1, 2, 3, 4, 5)


def test_two_sources_that_disagree_are_refused(tmp_path: Path) -> None:
    first, second = fill(tmp_path / "1.h5", 0), tmp_path / "2.h5"
    write_part(second, "v_0", make_features(seed=9), make_meta(), "float32")
    with pytest.raises(EtadError, match=r"video 'v_0' has different features in .*1\.h5.* and .*2\.h5"):
        merge(tmp_path / "all.h5", [first, second])
    assert not (tmp_path / "all.h5").exists() and not lock_path(tmp_path / "all.h5").exists()


def test_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"nowhere\.h5: there is no feature cache"):
        merge(fill(tmp_path / "features.h5", 0), [tmp_path / "nowhere.h5"])
    with pytest.raises(EtadError, match=r"nowhere\.h5: there is no feature cache"):
        pack(tmp_path / "nowhere.h5")


def test_damaged_part_is_not_packed_and_not_lost(tmp_path: Path) -> None:
    cache = fill(tmp_path / "features.h5", 0, 1)
    part = next(parts_folder(cache).glob("v_0*"))
    with h5py.File(part, "r+") as file:
        file["videos/v_0/features"][0, 0] += 1
    with pytest.raises(EtadError, match="video 'v_0': its features differ from their recorded digest"):
        pack(cache)
    assert not cache.exists() and len(list(parts_folder(cache).iterdir())) == 2


def test_packing_under_way_keeps_others_out(tmp_path: Path) -> None:
    cache = fill(tmp_path / "features.h5", 0)
    with holding(lock_path(cache), "packing"), pytest.raises(EtadError, match="holds this lock"):
        pack(cache)
    assert_holds(cache, 0)


def test_failing_in_the_middle_keeps_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = pack(fill(tmp_path / "features.h5", 0))
    fill(cache, 1, 2)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_merge, "write_index", fail)
    with pytest.raises(EtadError, match="No space left on device"):
        pack(cache)
    assert_holds(cache, 0, 1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.h5", "features.h5.parts"]


def test_kill_before_the_parts_are_removed_does_no_harm(tmp_path: Path) -> None:
    cache = fill(tmp_path / "features.h5", 0, 1)
    shutil.copytree(parts_folder(cache), tmp_path / "saved")
    pack(cache)
    (tmp_path / "saved").rename(parts_folder(cache))
    assert_holds(cache, 0, 1)
    pack(cache)
    assert_holds(cache, 0, 1)
    assert not parts_folder(cache).exists()


def test_part_that_is_written_while_packing_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = fill(tmp_path / "features.h5", 0, 1)
    write_index = feature_merge.write_index

    def write_meanwhile(*arguments: object) -> None:
        write_index(*arguments)  # type: ignore[arg-type]
        write_part(cache, "v_2", make_features(seed=2), make_meta(), "float32")
        write_part(cache, "v_1", make_features(seed=7), make_meta(), "float32")

    monkeypatch.setattr(feature_merge, "write_index", write_meanwhile)
    pack(cache)
    reader = FeatureCache(cache)
    assert reader.ids == ("v_0", "v_1", "v_2")
    np.testing.assert_array_equal(reader.read("v_1"), make_features(seed=7))


def test_writers_and_packers_side_by_side_lose_nothing(tmp_path: Path) -> None:
    cache = fill(tmp_path / "features.h5", 0)

    def write(first: int) -> None:
        fill(cache, *range(first, first + 8))

    writers = [threading.Thread(target=write, args=(first,)) for first in (100, 200)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        try:
            pack(cache)
        except EtadError as error:
            assert "no feature cache" in str(error)
    pack(cache)
    assert len(FeatureCache(cache)) == 17
