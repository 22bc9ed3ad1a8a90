"""Packed and part files are read as one cache, and nothing bad passes for features."""

import copy
import multiprocessing
import pickle
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from etad.data.cache import cache as features
from etad.data.cache.cache import FeatureCache, finished_ids, pack, write_part
from etad.data.cache.parts import part_paths, parts_folder
from etad.data.errors import EtadError
from etad.data.timeline import Timing, spread
from reference.feature_samples import make_features, make_meta

LISTED_ATTRIBUTES = {
    *("duration_seconds", "fps", "num_frames", "clip_frames", "frame_step", "first_center_seconds"),
    *("center_step_seconds", "encoder", "weights_sha256", "transform", "source_name", "source_bytes"),
    *("source_sha256", "features_sha256", "compute_dtype", "etad_version", "complete"),
    *("reading_rules", "lost_frames", "source_modified_ns", "attributes_sha256"),
}
HOSTILE_IDS = [
    *(
        "a/b",
        "../../outside",
        "..",
        ".",
        "/etc/passwd",
        "v_A",
        "v_a",
        "new\nline",
        "nul\0byte",
        "tab\t",
        "Größe",
        "日本",
    ),
    *("per%cent", "%2E%2E", "a b ", "con", "x" * 300, "x" * 301, "é" * 255, "~", "a~b", ".writing-x", "back\\slash"),
]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    features, meta = make_features(), make_meta()
    write_part(tmp_path / "features.h5", "v_a", features, meta, "float32")
    for _ in range(2):  # as a part, then packed
        with FeatureCache(tmp_path / "features.h5") as cache:
            assert cache.ids == ("v_a",) and list(cache) == ["v_a"] and len(cache) == 1
            assert cache.lengths == {"v_a": 4} and cache.channels == 3
            assert cache.durations == {"v_a": meta.timing.duration_seconds}
            assert "v_a" in cache and "v_b" not in cache
            assert cache.meta("v_a") == meta
            assert cache.timing("v_a") == meta.timing
            assert cache.read("v_a").dtype == np.float32
            np.testing.assert_array_equal(cache.read("v_a"), features)
            np.testing.assert_array_equal(cache.read("v_a", 1, 3), features[1:3])
            np.testing.assert_array_equal(cache.read("v_a", start=2), features[2:])
        pack(tmp_path / "features.h5")


def test_half_precision_is_the_default_and_reads_as_float32(tmp_path: Path) -> None:
    features = make_features()
    write_part(tmp_path / "features.h5", "v_a", features, make_meta())
    read = FeatureCache(tmp_path / "features.h5").read("v_a")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, features.astype(np.float16).astype(np.float32))


def test_listed_centres_come_back(tmp_path: Path) -> None:
    for num_snippets in (7, 5000):  # as an attribute, and as a dataset where HDF5's attributes are too small
        timeline = spread(duration_seconds=1000.3, fps=10, clip_frames=8, num_snippets=num_snippets)
        timing = Timing.of(timeline)
        assert timing.centers_seconds is not None
        meta = make_meta(timing=timing)
        write_part(tmp_path / "features.h5", f"v_{num_snippets}", make_features(num_snippets), meta)
    pack(tmp_path / "features.h5")
    cache = FeatureCache(tmp_path / "features.h5")
    assert len(cache.timing("v_7").centers(7)) == 7
    assert cache.timing("v_5000") == timing


def test_file_has_every_attribute_that_the_format_lists(tmp_path: Path) -> None:
    write_part(tmp_path / "features.h5", "v_a", make_features(), make_meta())
    path = pack(tmp_path / "features.h5")
    with h5py.File(path) as file:
        assert file.attrs["format"] == "etad-features" and file.attrs["version"] == 1
        assert set(file["videos/v_a"].attrs) == LISTED_ATTRIBUTES
        assert file["videos/v_a"].attrs["complete"] == 1
        assert file["videos/v_a/features"].dtype == np.float16
        assert file["index"]["id"].tolist() == [b"v_a"] and file["index"]["length"].tolist() == [4]


def test_parts_and_packed_file_are_one_cache(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    write_part(cache, "v_b", make_features(seed=1), make_meta(), "float32")
    write_part(cache, "v_a", make_features(seed=2), make_meta(), "float32")
    pack(cache)
    write_part(cache, "v_c", make_features(seed=3), make_meta(), "float32")
    write_part(cache, "v_a", make_features(num_snippets=5, seed=4), make_meta(5), "float32")
    both = FeatureCache(cache)
    assert both.ids == ("v_a", "v_b", "v_c") and both.lengths == {"v_a": 5, "v_b": 4, "v_c": 4}
    np.testing.assert_array_equal(both.read("v_a"), make_features(num_snippets=5, seed=4))
    np.testing.assert_array_equal(both.read("v_b"), make_features(seed=1))
    digest = both.digest
    pack(cache)
    assert FeatureCache(cache).digest == digest
    assert not parts_folder(cache).exists()
    np.testing.assert_array_equal(FeatureCache(cache).read("v_a"), make_features(num_snippets=5, seed=4))


def test_digest_sees_features_timing_and_ids(tmp_path: Path) -> None:
    def digest(name: str, video_id: str, seed: int, fps: float) -> str:
        meta = make_meta(timing=replace(make_meta().timing, fps=fps))
        write_part(tmp_path / name, video_id, make_features(seed=seed), meta)
        return FeatureCache(tmp_path / name).digest

    assert digest("1.h5", "v_a", 0, 8) == digest("2.h5", "v_a", 0, 8)
    others = {digest("3.h5", "v_b", 0, 8), digest("4.h5", "v_a", 1, 8), digest("5.h5", "v_a", 0, 9)}
    assert len(others | {digest("6.h5", "v_a", 0, 8)}) == 4


def test_hostile_ids_stay_in_their_place_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    cache = folder / "features.h5"
    for number, video_id in enumerate(HOSTILE_IDS):
        write_part(cache, video_id, make_features(seed=number), make_meta(), "float32")
    names = [path.name.lower() for path in parts_folder(cache).iterdir()]
    assert len(set(names)) == len(HOSTILE_IDS), "two ids share a name where case does not count"
    for _ in range(2):
        reader = FeatureCache(cache)
        assert set(reader.ids) == set(HOSTILE_IDS) == finished_ids(cache)
        for number, video_id in enumerate(HOSTILE_IDS):
            np.testing.assert_array_equal(reader.read(video_id), make_features(seed=number))
        reader.close()
        pack(cache)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        *("deep", "deep/run", "deep/run/features.h5")
    ]
    with h5py.File(cache) as file:
        assert set(file) == {"videos", "index"} and len(file["videos"]) == len(HOSTILE_IDS)


@pytest.mark.parametrize("video_id", ["", "bad\udce9name", "x" * 5000])
def test_id_that_no_file_can_have_is_refused(tmp_path: Path, video_id: str) -> None:
    with pytest.raises(EtadError, match="video id"):
        write_part(tmp_path / "features.h5", video_id, make_features(), make_meta())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((2, 3, 1), np.float32), r"'v_a' cannot be stored: its features have shape \[2, 3, 1\]"),
        (np.zeros((0, 3), np.float32), r"shape \[0, 3\], expected \[T, C\] with at least one snippet"),
        (np.zeros((4, 3), np.int64), "its features are int64, expected floats"),
        (np.array([[0, 1], [np.nan, 0]] * 2, np.float32), "2 of its 8 feature values.* snippet 1, channel 0"),
        (np.full((4, 3), np.inf, np.float32), "not finite"),
        (np.full((4, 3), 7e4, np.float32), r"reach 7e\+04, more than float16 can hold; store them as float32"),
    ],
)
def test_features_that_no_cache_should_hold_are_refused(tmp_path: Path, features: np.ndarray, message: str) -> None:
    with pytest.raises(EtadError, match=message):
        write_part(tmp_path / "features.h5", "v_a", features, make_meta())
    assert finished_ids(tmp_path / "features.h5") == set()


def test_timing_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    timing = make_meta().timing
    for changed, message in [
        (replace(timing, centers_seconds=(1.0, 2.0)), "2 snippet centres listed for 4 snippets"),
        (replace(timing, duration_seconds=float("nan")), "duration_seconds is nan"),
        (replace(timing, fps=0.0), "fps is 0.0, expected more than 0"),
    ]:
        with pytest.raises(EtadError, match=message):
            write_part(tmp_path / "features.h5", "v_a", make_features(), make_meta(timing=changed))


@pytest.mark.parametrize(
    ("changes", "store_dtype", "message"),
    [
        ({"encoder": "tsm_r50"}, "float16", "video 'v_b' has encoder 'tsm_r50', but video 'v_a' has 'tsm_tiny'"),
        ({"weights_sha256": "ef"}, "float16", "video 'v_b' has weights_sha256 'ef', but video 'v_a' has 'abab"),
        ({"transform": {"crop": 224}}, "float16", r"has transform '{\"crop\": 224}', but video 'v_a' has"),
        ({"compute_dtype": "bfloat16"}, "float16", "has compute_dtype 'bfloat16', but video 'v_a' has 'float32'"),
        ({}, "float32", "has store_dtype 'float32', but video 'v_a' has 'float16'"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_kinds_are_never_mixed(
    tmp_path: Path, packed: bool, changes: dict[str, object], store_dtype: str, message: str
) -> None:
    cache, other = tmp_path / "features.h5", tmp_path / "other.h5"
    write_part(cache, "v_a", make_features(), make_meta())
    if packed:
        pack(cache)
    with pytest.raises(EtadError, match=message):
        write_part(cache, "v_b", make_features(), make_meta(**changes), store_dtype)
    # Two shards that started at once have not seen each other.
    part = write_part(other, "v_b", make_features(), make_meta(**changes), store_dtype)
    parts_folder(cache).mkdir(exist_ok=True)
    part.rename(parts_folder(cache) / part.name)
    for step in (FeatureCache, pack):
        with pytest.raises(EtadError, match=message):
            step(cache)


def test_other_channels_are_another_kind(tmp_path: Path) -> None:
    write_part(tmp_path / "features.h5", "v_a", make_features(channels=3), make_meta())
    with pytest.raises(EtadError, match="video 'v_b' has channels 4, but video 'v_a' has 3"):
        write_part(tmp_path / "features.h5", "v_b", make_features(channels=4), make_meta())


def test_cache_crosses_pickling_copies_and_processes(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    write_part(cache, "v_a", make_features(seed=1), make_meta(), "float32")
    pack(cache)
    write_part(cache, "v_b", make_features(seed=2), make_meta(), "float32")
    reader = FeatureCache(cache)
    reader.read("v_a")
    for other in (pickle.loads(pickle.dumps(reader)), copy.deepcopy(reader)):
        np.testing.assert_array_equal(other.read("v_a"), make_features(seed=1))
        np.testing.assert_array_equal(other.read("v_b"), make_features(seed=2))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for video_id, seed in (("v_a", 1), ("v_b", 2)):
            np.testing.assert_array_equal(pool.apply(reader.read, (video_id,)), make_features(seed=seed))
    np.testing.assert_array_equal(reader.read("v_a"), make_features(seed=1))


def test_loader_workers_read_what_the_main_process_reads(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    for number in range(8):
        write_part(cache, f"v_{number}", make_features(seed=number), make_meta(), "float32")
    pack(cache)
    reader = FeatureCache(cache)
    reader.read("v_0")
    loader: Iterable[np.ndarray] = torch.utils.data.DataLoader(
        list(reader.ids),  # type: ignore[arg-type]
        batch_size=2,
        num_workers=2,
        collate_fn=lambda ids: np.stack([reader.read(id) for id in ids]),
    )
    read = np.concatenate(list(loader))
    np.testing.assert_array_equal(read, np.stack([make_features(seed=number) for number in range(8)]))


def test_cache_can_be_opened_while_it_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "features.h5"
    for video_id in ("v_a", "v_b"):
        write_part(cache, video_id, make_features(), make_meta())

    def list_then_pack(path: Path) -> list[Path]:
        paths = part_paths(path)
        pack(path)
        return paths

    monkeypatch.setattr(features, "part_paths", list_then_pack)
    assert FeatureCache(cache).ids == ("v_a", "v_b")


def test_replaced_file_is_noticed_not_misread(tmp_path: Path) -> None:
    cache = tmp_path / "features.h5"
    write_part(cache, "v_a", make_features(), make_meta())
    part_reader = FeatureCache(cache)
    pack(cache)
    with pytest.raises(EtadError, match="was packed, removed or replaced while it was in use"):
        part_reader.read("v_a")
    reader = FeatureCache(cache)
    reader.close()
    write_part(cache, "v_a", make_features(9), make_meta(9))
    pack(cache)
    with pytest.raises(EtadError, match="was replaced while it was in use"):
        reader.read("v_a")
