"""Caches that are absent, damaged, half-written or no caches at all: one sentence, and what is whole still counts."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from etad.data.cache.cache import FeatureCache, finished_ids, pack, verify, write_part
from etad.data.cache.parts import parts_folder
from etad.data.errors import EtadError, UnwritableError
from etad.data.files.atomic import is_temporary
from reference.feature_samples import make_features, make_meta, reseal


def test_absent_and_empty_caches_say_so(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    assert finished_ids(cache) == set()
    with pytest.raises(EtadError, match="there is no feature cache"):
        FeatureCache(cache)
    parts_folder(cache).mkdir()
    with pytest.raises(EtadError, match="there is no feature cache"):
        FeatureCache(cache)


def test_video_that_is_not_there_gets_a_hint(tmp_path: Path) -> None:
    write_part(tmp_path / "features.h5", "v_abc", make_features(), make_meta())
    with pytest.raises(EtadError, match=r"no features of video 'v_abd'\. Did you mean 'v_abc'\?"):
        FeatureCache(tmp_path / "features.h5").read("v_abd")


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_file_of_another_kind_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "features.h5").write_bytes(content)
    with pytest.raises(EtadError, match=r"features\.h5: cannot be read as HDF5"):
        FeatureCache(tmp_path / "features.h5")


def test_other_hdf5_files_are_told_apart(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["v_a"] = np.zeros((2, 3))
    with pytest.raises(EtadError, match=r"is HDF5, but no feature cache of etad"):
        FeatureCache(tmp_path / "features.h5")
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file.attrs.update({"format": "etad-features", "version": 2})
        file.create_group("videos")
    with pytest.raises(EtadError, match=r"version 2, this etad reads 1\. Update etad"):
        FeatureCache(tmp_path / "features.h5")


def test_truncated_file_is_one_sentence(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    for number in range(3):
        write_part(cache, f"v_{number}", make_features(50, 20), make_meta(50))
    whole = pack(cache).read_bytes()
    for length in range(0, len(whole) - 1, 997):
        cache.write_bytes(whole[:length])
        with pytest.raises(EtadError, match=r"features\.h5"):
            reader = FeatureCache(cache)
            for video_id in reader.ids:
                reader.read(video_id)


def test_bad_content_of_a_packed_file_names_file_and_video(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    write_part(cache, "v_a", make_features(), make_meta())
    pack(cache)
    with h5py.File(cache, "r+") as file:
        file["videos/v_a/features"][2, 1] = np.nan
        reseal(file)
    with pytest.raises(EtadError, match=r"features\.h5: video 'v_a': 1 of its 12 .* snippet 2, channel 1"):
        FeatureCache(cache).read("v_a")
    for data, message in [
        (np.zeros((3, 3), np.float16), r"its features are float16 \[3, 3\], the index says float16 \[4, 3\]"),
        (np.zeros((4, 3), np.int32), "its features are int32, expected float16 or float32"),
        (np.zeros(4, np.float16), r"its features have shape \(4,\), expected \[T, C\]"),
    ]:
        with h5py.File(cache, "r+") as file:
            del file["videos/v_a/features"]
            file["videos/v_a/features"] = data
            reseal(file)
        with pytest.raises(EtadError, match=r"features\.h5: video 'v_a': " + message):
            FeatureCache(cache).read("v_a")


def test_missing_attribute_is_named(tmp_path: Path) -> None:
    part = write_part(tmp_path / "features.h5", "v_a", make_features(), make_meta())
    with h5py.File(part, "r+") as file:
        del file["videos/v_a"].attrs["encoder"]
    with pytest.raises(EtadError, match=r"video 'v_a': attribute 'encoder' is missing"):
        FeatureCache(tmp_path / "features.h5")


def test_incomplete_video_does_not_count(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    for video_id in ("v_a", "v_b"):
        write_part(cache, video_id, make_features(), make_meta())
    pack(cache)
    with h5py.File(cache, "r+") as file:
        table = file["index"][()]
        table["complete"][0] = 0
        file["index"][...] = table
        del file["index"].attrs["sha256"]
    assert FeatureCache(cache).ids == ("v_b",) and finished_ids(cache) == {"v_b"}


def test_killed_writer_leaves_only_a_temporary_file(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    write_part(cache, "v_a", make_features(), make_meta())
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from etad.data.cache import parts\n"
        "from reference.feature_samples import make_features, make_meta\n"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\n"
        "parts.write_part(Path(sys.argv[1]), 'v_b', make_features(), make_meta())\n"
    )
    paths = (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    ran = subprocess.run([sys.executable, "-c", script, str(cache)], check=False, cwd=tmp_path, env=env)
    assert ran.returncode == -signal.SIGKILL
    left = [path for path in parts_folder(cache).iterdir() if is_temporary(path)]
    assert len(left) == 1
    assert FeatureCache(cache).ids == ("v_a",) and finished_ids(cache) == {"v_a"}
    pack(cache)
    assert not parts_folder(cache).exists()


@pytest.mark.parametrize("limit", [3000, 20_000, 60_000])
def test_disk_that_fills_up_is_one_sentence_and_nothing_is_lost(tmp_path: Path, limit: int) -> None:
    cache = tmp_path / "features.h5"
    for number in range(8):
        write_part(cache, f"v_{number}", make_features(40, 16), make_meta(40))
    pid = os.fork()
    if pid == 0:  # a limit of file sizes stands for the disk's
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            pack(cache)
            write_part(cache, "v_9", make_features(4000, 16), make_meta(4000))
        except UnwritableError:
            os._exit(3)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert len(FeatureCache(cache)) == 8 and verify(cache) == []
    assert not any(is_temporary(path) for path in tmp_path.rglob("*"))


def test_places_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "features.h5"
    with pytest.raises(EtadError, match=r"/file.*(cannot be|there is no feature cache)"):
        write_part(cache, "v_a", make_features(), make_meta())
    for use in (pack, FeatureCache, verify):
        with pytest.raises(EtadError, match=r"/file.*(cannot be|there is no feature cache)"):
            use(cache)
