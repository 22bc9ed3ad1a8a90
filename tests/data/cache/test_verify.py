"""Everything that can be wrong with a cache is found, and repair deletes nothing of value."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from etad.data.cache.cache import FeatureCache
from etad.data.cache.merge import lock_path, pack
from etad.data.cache.parts import parts_folder, write_part
from etad.data.cache.verify import bad_folder, verify
from etad.data.errors import DiskError, EtadError
from etad.data.files.atomic import TEMPORARY_PREFIX
from etad.data.files.lock import holding
from reference.feature_samples import make_features, make_meta, reseal


def two_videos(cache: Path, *, packed: bool) -> Path:
    for video_id in ("v_a", "v_b"):
        write_part(cache, video_id, make_features(seed=ord(video_id[-1])), make_meta(), "float32")
    return pack(cache) if packed else next(parts_folder(cache).glob("v_a*"))


def change_value(group: h5py.Group) -> None:
    group["features"][0, 0] += 1


def write_nan(group: h5py.Group) -> None:
    group["features"][0, 0] = np.nan
    reseal(group.file)


def lose_attribute(group: h5py.Group) -> None:
    del group.attrs["fps"]


def lose_features(group: h5py.Group) -> None:
    del group["features"]


def forget_completeness(group: h5py.Group) -> None:
    del group.attrs["complete"]


DAMAGES = [
    (change_value, "differ from their recorded digest"),
    (write_nan, "1 of its 12 feature values are not finite"),
    (lose_attribute, "attribute 'fps' is missing"),
    (lose_features, "has no dataset 'features'"),
    (forget_completeness, "it is not complete: its writer did not finish"),
]


@pytest.mark.parametrize("packed", [False, True])
def test_sound_cache_has_no_problems(tmp_path: Path, packed: bool) -> None:
    two_videos(tmp_path / "features.h5", packed=packed)
    assert verify(tmp_path / "features.h5") == []
    assert verify(tmp_path / "features.h5", repair=True) == []
    assert not bad_folder(tmp_path / "features.h5").exists()


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_found_and_moved_aside(
    tmp_path: Path, packed: bool, damage: Callable[[h5py.Group], None], message: str
) -> None:
    cache = tmp_path / "features.h5"
    target = two_videos(cache, packed=packed)
    with h5py.File(target, "r+") as file:
        damage(file["videos/v_a"])
    for repair in (False, True):
        problems = [problem for problem in verify(cache, repair=repair) if problem.kind == "damaged"]
        assert [(problem.video_id, problem.file) for problem in problems] == [("v_a", target)]
        assert message in problems[0].detail
        assert (problems[0].moved_to is not None) == repair
    assert problems[0].moved_to is not None and problems[0].moved_to.parent == bad_folder(cache)
    with h5py.File(problems[0].moved_to) as file:
        assert "v_a" in file["videos"]
    assert FeatureCache(cache).ids == ("v_b",)
    assert verify(cache) == []


def test_repaired_video_can_be_extracted_again(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    with h5py.File(two_videos(cache, packed=True), "r+") as file:
        change_value(file["videos/v_a"])
    verify(cache, repair=True)
    write_part(cache, "v_a", make_features(), make_meta(), "float32")
    pack(cache)
    assert verify(cache) == [] and FeatureCache(cache).ids == ("v_a", "v_b")


def test_second_repair_does_not_overwrite_what_the_first_moved(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    for _ in range(2):
        with h5py.File(two_videos(cache, packed=False), "r+") as file:
            change_value(file["videos/v_a"])
        verify(cache, repair=True)
    assert len(list(bad_folder(cache).iterdir())) == 2


def test_unreadable_packed_file_is_moved_whole(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    two_videos(cache, packed=True)
    content = cache.read_bytes()[:1000]
    cache.write_bytes(content)
    problems = verify(cache, repair=True)
    assert [(problem.kind, problem.video_id) for problem in problems] == [("damaged", None)]
    assert problems[0].moved_to is not None and problems[0].moved_to.read_bytes() == content
    assert not cache.exists()


def test_unreadable_part_is_found_by_its_name(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    part = two_videos(cache, packed=False)
    part.write_bytes(part.read_bytes()[:200])
    problems = verify(cache, repair=True)
    assert [(problem.video_id, problem.file) for problem in problems] == [("v_a", part)]
    assert FeatureCache(cache).ids == ("v_b",)


def test_foreign_file_among_the_parts_is_found(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    part = two_videos(cache, packed=False)
    part.rename(part.with_name("renamed.h5"))
    assert "is not named after the one video" in verify(cache)[0].detail


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("length", 7, "video 'v_a' has length 4, its row in the index 7"),
        ("features_sha256", b"00", "its row in the index 00"),
        ("duration_seconds", 1.5, "its row in the index 1.5"),
        ("complete", 0, "video 'v_a' is missing from the index"),
        ("id", "v_c", "video 'v_c' is in the index, but not in the file"),
    ],
)
def test_index_that_disagrees_is_found_and_made_anew(tmp_path: Path, column: str, value: object, message: str) -> None:
    cache = two_videos(tmp_path / "features.h5", packed=True)
    with h5py.File(cache, "r+") as file:
        table = file["index"][()]
        table[column][0] = value
        file["index"][...] = table
    problems = verify(cache, repair=True)
    assert {problem.kind for problem in problems} == {"index"}
    assert any(message in problem.detail for problem in problems), problems
    assert verify(cache) == [] and FeatureCache(cache).ids == ("v_a", "v_b")


def test_missing_index_is_made_anew(tmp_path: Path) -> None:
    cache = two_videos(tmp_path / "features.h5", packed=True)
    with h5py.File(cache, "r+") as file:
        del file["index"]
    with pytest.raises(EtadError, match=r"it has no index.*`etad verify --repair`"):
        FeatureCache(cache)
    assert [problem.kind for problem in verify(cache, repair=True)] == ["index"]
    assert FeatureCache(cache).ids == ("v_a", "v_b")


def test_minority_of_mixed_kinds_is_moved(tmp_path: Path) -> None:
    cache, other = tmp_path / "features.h5", tmp_path / "other.h5"
    two_videos(cache, packed=False)
    part = write_part(other, "v_c", make_features(), make_meta(encoder="tsm_r50"), "float32")
    part.rename(parts_folder(cache) / part.name)
    problems = verify(cache, repair=True)
    assert [(problem.kind, problem.video_id) for problem in problems] == [("mixed", "v_c")]
    assert "'tsm_r50'" in problems[0].detail and "'tsm_tiny'" in problems[0].detail
    assert FeatureCache(cache).ids == ("v_a", "v_b")


def test_leftovers_are_listed(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    two_videos(cache, packed=False)
    (parts_folder(cache) / f"{TEMPORARY_PREFIX}node7-12-aa").write_bytes(b"half")
    assert [problem.kind for problem in verify(cache)] == ["leftover"]


def test_repair_waits_for_no_one_and_checking_needs_no_lock(tmp_path: Path) -> None:
    cache = two_videos(tmp_path / "features.h5", packed=True)
    with holding(lock_path(cache), "packing"):
        assert verify(cache) == []
        with pytest.raises(EtadError, match="holds this lock"):
            verify(cache, repair=True)


def test_no_cache_is_an_error_not_a_clean_bill(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match="there is no feature cache to verify"):
        verify(tmp_path / "features.h5")


@pytest.mark.parametrize("packed", [True, False])
def test_sound_file_that_the_system_does_not_give_is_not_moved_aside(
    tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "features.h5"
    path = two_videos(cache, packed=packed)
    os.utime(path, (1, 1))  # as if another process had written it

    def refusing(error: OSError) -> Callable[..., None]:
        def refuse(*_: object, **__: object) -> None:
            raise error

        return refuse

    for error in (
        OSError(errno.EIO, "Can't read data (errno = 5)"),
        PermissionError(errno.EACCES, "Unable to open file (errno = 13)"),
        OSError(errno.ENOLCK, "Unable to open file (unable to lock file, errno = 37)"),
    ):
        monkeypatch.setattr(h5py, "File", refusing(error))
        with pytest.raises(DiskError, match=r"cannot be read \((Input/output|Permission)|its disk has no locks"):
            verify(cache, repair=True)
        with pytest.raises(DiskError):
            FeatureCache(cache)
    monkeypatch.undo()
    busy = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    monkeypatch.setattr("etad.data.files.child._fork", refusing(busy))
    monkeypatch.setattr("etad.data.cache.probe._tried", {})
    with pytest.raises(DiskError, match="no child process can be started"):
        verify(cache, repair=True)
    monkeypatch.undo()
    assert verify(cache) == [] and not bad_folder(cache).exists()
