"""Folders and files of features give their videos, by id."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.data.importers.features.find import find_arrays

FEATURES = np.ones((4, 3), dtype=np.float32)


def test_a_folder_gives_every_form_that_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FEATURES)
    np.savez(tmp_path / "b.npz", FEATURES)
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(FEATURES))
    (tmp_path / "d.csv").write_text("f0\n1\n")
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file["e"], file["f"] = FEATURES, FEATURES
    (tmp_path / "README.txt").write_text("about")
    (tmp_path / ".hidden").write_text("")
    found = find_arrays(tmp_path)
    assert sorted(found.arrays) == ["a", "b", "c", "d", "e", "f"]
    assert found.passed_over == ["README.txt"] and not found.faults


@pytest.mark.parametrize("suffix", ["-avg", "-avg.npy"])
def test_prefix_and_suffix_stand_around_the_ids(tmp_path: Path, suffix: str) -> None:
    for name in ("rgb_v_1-avg.npy", "rgb_v_2-avg.npy", "flow_v_1-avg.npy"):
        np.save(tmp_path / name, FEATURES)
    found = find_arrays(tmp_path, prefix="rgb_", suffix=suffix)
    assert sorted(found.arrays) == ["v_1", "v_2"] and found.passed_over == ["flow_v_1-avg.npy"]


def test_prefix_and_suffix_hold_for_names_within_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", v_1_rgb=FEATURES, v_2_rgb=FEATURES)
    assert sorted(find_arrays(tmp_path / "all.npz", prefix="v_", suffix="_rgb").arrays) == ["1", "2"]


def test_one_file_of_one_video_is_that_video(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FEATURES)
    assert list(find_arrays(tmp_path / "a.npy").arrays) == ["a"]


def test_what_is_wrong_with_a_file_is_kept_beside_the_others(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FEATURES)
    (tmp_path / "b.npy").write_bytes(b"")
    found = find_arrays(tmp_path)
    assert list(found.arrays) == ["a"] and "numpy can read" in found.faults["b"][1]


def test_a_video_in_two_files_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FEATURES)
    np.savez(tmp_path / "a.npz", FEATURES)
    with pytest.raises(EtadError, match=r"video 'a' is in .*a\.npy and in .*a\.npz"):
        find_arrays(tmp_path)


def test_places_without_features_are_told(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"holds no features .* it is empty"):
        find_arrays(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(EtadError, match=r"it has a\.txt"):
        find_arrays(tmp_path)
    with pytest.raises(EtadError, match=r"there is no such folder or file of features\. Did you mean 'a\.txt'"):
        find_arrays(tmp_path / "b.txt")
    with pytest.raises(EtadError, match=r"features are read from \.npy, .*, not from '\.txt'"):
        find_arrays(tmp_path / "a.txt")
    (tmp_path / "a.pt").write_bytes(b"PK")
    with pytest.raises(EtadError, match="files of PyTorch are not read"):
        find_arrays(tmp_path / "a.pt")
    np.save(tmp_path / "v_1.npy", FEATURES)
    with pytest.raises(EtadError, match=r"none of its 1 name is 'rgb_' ID '' \(v_1\.npy\)"):
        find_arrays(tmp_path, prefix="rgb_")
