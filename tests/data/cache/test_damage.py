"""Damaged and hostile caches: no wrong feature is used, nothing outside of them is read, nobody hangs or crashes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from etad.data.cache import probe
from etad.data.cache.cache import FeatureCache, merge, pack, verify, write_part
from etad.data.cache.parts import parts_folder
from etad.data.errors import EtadError
from reference.feature_samples import make_features, make_meta, reseal


def two_videos(cache: Path, *, packed: bool = True, snippets: int = 4) -> Path:
    """A cache of v_a and v_b; returns the file that v_a is in."""
    for video_id in ("v_a", "v_b"):
        write_part(cache, video_id, make_features(snippets, seed=ord(video_id[-1])), make_meta(snippets), "float32")
    return pack(cache) if packed else next(parts_folder(cache).glob("v_a*"))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def place_of(path: Path, values: np.ndarray) -> int:
    return path.read_bytes().index(values.tobytes())


@pytest.mark.parametrize("packed", [True, False])
def test_flipped_bit_is_noticed_when_the_video_is_first_read(tmp_path: Path, packed: bool) -> None:
    cache = tmp_path / "features.h5"
    path = two_videos(cache, packed=packed)
    flip(path, place_of(path, make_features(seed=ord("a"))[2:3]))
    reader = FeatureCache(cache)
    for start, stop in ((None, None), (0, 1)):  # the window that is read is whole, another part of the video is not
        with pytest.raises(EtadError, match="video 'v_a': its features differ from their recorded digest"):
            reader.read("v_a", start, stop)
    np.testing.assert_array_equal(reader.read("v_b"), make_features(seed=ord("b")))


def test_long_video_is_digested_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import etad.data.cache.cache as module

    monkeypatch.setattr(module, "_PIECE_BYTES", 100)
    cache = tmp_path / "features.h5"
    path = two_videos(cache, snippets=50)
    np.testing.assert_array_equal(FeatureCache(cache).read("v_a", 3, 5), make_features(50, seed=ord("a"))[3:5])
    flip(path, place_of(path, make_features(50, seed=ord("a"))[40:41]))
    with pytest.raises(EtadError, match="differ from their recorded digest"):
        FeatureCache(cache).read("v_a", 3, 5)


def test_workers_of_one_reader_test_a_video_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "features.h5"
    two_videos(cache)
    reader = FeatureCache(cache)
    pid = os.fork()
    if pid == 0:
        reader.read("v_a")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    monkeypatch.setattr(FeatureCache, "_test", lambda *_: pytest.fail("tested twice"))
    np.testing.assert_array_equal(reader.read("v_a"), make_features(seed=ord("a")))


def test_merge_carries_no_damaged_video(tmp_path: Path) -> None:
    path = two_videos(tmp_path / "1.h5")
    flip(path, place_of(path, make_features(seed=ord("a"))))
    with pytest.raises(EtadError, match=r"1\.h5: video 'v_a': its features differ from their recorded digest"):
        merge(tmp_path / "all.h5", [path])
    assert not (tmp_path / "all.h5").exists()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("name", "value"), [("fps", 9.0), ("first_center_seconds", 0.3), ("source_name", "b.mp4")])
def test_changed_attribute_differs_from_its_digest(tmp_path: Path, packed: bool, name: str, value: object) -> None:
    cache = tmp_path / "features.h5"
    path = two_videos(cache, packed=packed)
    with h5py.File(path, "r+") as file:
        file["videos/v_a"].attrs[name] = value
    assert [problem.video_id for problem in verify(cache) if problem.kind == "damaged"] == ["v_a"]
    with pytest.raises(EtadError, match="its attributes differ from their recorded digest"):
        FeatureCache(cache).meta("v_a")


@pytest.mark.parametrize("column", ["fps", "duration_seconds", "first_center_seconds", "num_frames", "length"])
def test_changed_index_differs_from_its_digest(tmp_path: Path, column: str) -> None:
    cache = two_videos(tmp_path / "features.h5")
    with h5py.File(cache, "r+") as file:
        table = file["index"][()]
        table[column][1] += 1
        file["index"][...] = table
    with pytest.raises(EtadError, match="its index differs from its recorded digest"):
        FeatureCache(cache)
    assert [problem.kind for problem in verify(cache, repair=True)] == ["index"]
    assert verify(cache) == [] and len(FeatureCache(cache)) == 2


def test_cache_without_the_new_digests_is_tested_for_sense_and_that_is_said(tmp_path: Path) -> None:
    cache = two_videos(tmp_path / "features.h5")
    with h5py.File(cache, "r+") as file:
        del file["index"].attrs["sha256"]
        for group in file["videos"].values():
            del group.attrs["attributes_sha256"]
    (note,) = verify(cache)
    assert note.kind == "unsealed" and "2 videos" in note.detail and note.is_note
    assert [problem.kind for problem in verify(cache, repair=True)] == ["unsealed"]
    (said,) = FeatureCache(cache).reading_notes()
    assert "2 videos of an older version of etad" in said and said.endswith("v_a, v_b")
    np.testing.assert_array_equal(FeatureCache(cache).read("v_a"), make_features(seed=ord("a")))
    with h5py.File(cache, "r+") as file:
        file["videos/v_a"].attrs["first_center_seconds"] = 2900.0
        table = file["index"][()]
        table["first_center_seconds"][0] = 2900.0
        file["index"][...] = table
    with pytest.raises(EtadError, match="its index places snippets outside of video 'v_a'"):
        FeatureCache(cache)
    problem = next(problem for problem in verify(cache) if problem.kind == "damaged")
    assert "its snippets stand between 2900.000 s and" in problem.detail and "lasts 2.100 s" in problem.detail


def external_link(file: h5py.File) -> None:
    del file["videos/v_a"]
    file["videos/v_a"] = h5py.ExternalLink("other.h5", "/videos/v_a")


def link_inside_the_group(file: h5py.File) -> None:
    del file["videos/v_a/features"]
    file["videos/v_a/features"] = h5py.ExternalLink("other.h5", "/videos/v_a/features")


def soft_link(file: h5py.File) -> None:
    del file["videos/v_a"]
    file["videos/v_a"] = h5py.SoftLink("/videos/v_b")


def external_storage(file: h5py.File) -> None:
    del file["videos/v_a/features"]
    file["videos/v_a"].create_dataset("features", (4, 3), "f4", external=[("/etc/passwd", 0, 48)])
    reseal(file)


def virtual_dataset(file: h5py.File) -> None:
    del file["videos/v_a/features"]
    layout = h5py.VirtualLayout(shape=(4, 3), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "videos/v_a/features", shape=(4, 3))
    file["videos/v_a"].create_virtual_dataset("features", layout)


def sparse_features(file: h5py.File) -> None:
    del file["videos/v_a/features"]
    file["videos/v_a"].create_dataset("features", (10**10, 3), "f4")


def stowaway(file: h5py.File) -> None:
    file["videos/v_a/more"] = h5py.ExternalLink("/etc/passwd", "/x")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "change",
    [external_link, link_inside_the_group, soft_link, external_storage, virtual_dataset, sparse_features, stowaway],
)
def test_nothing_outside_of_the_file_is_read_or_carried_on(
    tmp_path: Path, packed: bool, change: Callable[[h5py.File], None]
) -> None:
    cache = tmp_path / "features.h5"
    path = two_videos(cache, packed=packed)
    if not packed:
        with h5py.File(path, "r+") as file:
            file["videos/v_b"] = h5py.SoftLink("/nowhere") if change is soft_link else h5py.Empty("f4")
            del file["videos/v_b"]
    shutil.copy(path, path.with_name("other.h5") if packed else tmp_path / "other.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(EtadError, match=r"'v_a': .*(link|another file|claims|beside its features|in the file)"):
        FeatureCache(cache).meta("v_a")
    if change is not stowaway:  # which is not read
        with pytest.raises(EtadError, match=r"'v_a': .*(link|another file|claims|index says|in the file)"):
            FeatureCache(cache).read("v_a")
    with pytest.raises(EtadError, match="'v_a'"):
        merge(tmp_path / "all.h5", [cache])
    assert not (tmp_path / "all.h5").exists()
    assert {problem.video_id for problem in verify(cache, repair=True)} == {"v_a"}
    assert FeatureCache(cache).ids == ("v_b",)


@pytest.mark.parametrize("packed", [True, False])
def test_video_that_crashes_hdf5_is_listed_and_moved_aside(
    tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "features.h5"
    path = two_videos(cache, packed=packed)
    os.utime(path, (1, 1))  # as if another process had written it
    find = probe._find_features

    def crash(videos: h5py.Group, name: str) -> None:
        return os.abort() if name == "v_a" and path.stat().st_mtime == 1 else find(videos, name)

    monkeypatch.setattr(probe, "_find_features", crash)
    monkeypatch.setattr(probe, "_tried", {})
    how = r"reading it ends the process \(SIGABRT\): the file is damaged"
    with pytest.raises(EtadError, match=how):
        FeatureCache(cache).read("v_a")
    with pytest.raises(EtadError, match=how):
        merge(tmp_path / "all.h5", [cache])
    problems = verify(cache, repair=True)
    assert [problem.video_id for problem in problems] == ["v_a"] and problems[0].moved_to
    assert FeatureCache(cache).ids == ("v_b",)


@pytest.mark.parametrize("name", ["hangs_in_attributes.h5", "crashes_hdf5.h5"])
def test_reported_files_end_with_a_sentence(shared: Path, tmp_path: Path, name: str) -> None:
    if not (shared / "reports").is_dir():
        pytest.skip("the reported files are not among the test data")
    cache = tmp_path / name
    shutil.copyfile(shared / "reports" / name, cache)
    assert any("reading it" in problem.detail and problem.kind == "damaged" for problem in verify(cache))
    with pytest.raises(EtadError, match="reading it"):
        merge(tmp_path / "all.h5", [cache])
    assert any(problem.moved_to for problem in verify(cache, repair=True))
