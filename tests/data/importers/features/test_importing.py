"""Features of others become a cache, whole or not at all; an export gives them back."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etad.data.annotations import Annotations, read_annotations
from etad.data.cache.cache import FeatureCache, pack, parts_folder, verify, write_part
from etad.data.digest import file_sha256
from etad.data.errors import EtadError
from etad.data.importers.features.exporting import export_features
from etad.data.importers.features.importing import ImportReport, import_features
from etad.data.importers.features.timing import RescaledTiming, SnippetTiming
from reference.feature_samples import make_features, make_meta

TIMING = SnippetTiming(fps=10, stride_frames=5, clip_frames=10)


def made(lengths: dict[str, int], channels: int = 3, dtype: str = "float16") -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {id: generator.normal(size=(length, channels)).astype(dtype) for id, length in lengths.items()}


def saved(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def annotated(path: Path, durations: dict[str, float | None]) -> Annotations:
    database = {
        id: {"subset": "training", "annotations": []} | ({} if seconds is None else {"duration": seconds})
        for id, seconds in durations.items()
    }
    path.write_text(json.dumps({"database": database}))
    return read_annotations(path)


def imported(tmp_path: Path, arrays: dict[str, np.ndarray], **options: object) -> ImportReport:
    source = saved(tmp_path / "npy", arrays)
    return import_features(source, tmp_path / "features.h5", **({"timing": TIMING} | options))  # type: ignore[arg-type]


def test_a_cache_states_what_was_stated_and_the_digest_of_each_source(tmp_path: Path) -> None:
    arrays = made({"b": 4, "a": 6})
    report = imported(tmp_path, arrays, encoder="i3d")
    assert report.videos == ("a", "b") and report.channels == 3 and report.store_dtype == "float16"
    assert verify(report.path) == []
    with FeatureCache(report.path) as cache:
        meta = cache.meta("a")
        assert meta.encoder == "i3d" and meta.is_imported
        assert meta.source_name == "a.npy" and meta.source_sha256 == file_sha256(tmp_path / "npy" / "a.npy")
        assert cache.timing("a").centers(6).tolist() == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
        assert cache.reading_notes() == []
        for id, array in arrays.items():
            np.testing.assert_array_equal(cache.read(id), array.astype(np.float32))


def test_numbers_are_stored_as_wide_as_they_need(tmp_path: Path) -> None:
    arrays = made({"a": 4}) | {"b": made({"b": 4}, dtype="float64")["b"], "c": np.full((2, 3), 7)}
    report = imported(tmp_path, arrays)
    assert report.store_dtype == "float32"
    with FeatureCache(report.path) as cache:
        np.testing.assert_array_equal(cache.read("b"), arrays["b"].astype(np.float32))
        assert (cache.read("c") == 7).all()


def test_importing_twice_gives_the_same_cache_and_takes_away_what_is_gone(tmp_path: Path) -> None:
    first = FeatureCache(imported(tmp_path, made({"a": 4, "b": 5})).path).digest
    assert FeatureCache(imported(tmp_path, made({"a": 4, "b": 5})).path).digest == first
    (tmp_path / "npy" / "b.npy").unlink()
    assert FeatureCache(import_features(tmp_path / "npy", tmp_path / "features.h5", timing=TIMING).path).ids == ("a",)


def test_nothing_but_an_earlier_import_is_written_over(tmp_path: Path) -> None:
    write_part(tmp_path / "features.h5", "v", make_features(), make_meta())
    with pytest.raises(EtadError, match="`etad extract` has begun a cache there"):
        imported(tmp_path, made({"a": 4}))
    pack(tmp_path / "features.h5")
    assert not parts_folder(tmp_path / "features.h5").exists()
    with pytest.raises(EtadError, match="is a cache that `etad extract` made"):
        imported(tmp_path, made({"a": 4}))
    (tmp_path / "features.h5").write_text("my own")
    with pytest.raises(EtadError, match="there is something that is no feature cache"):
        imported(tmp_path, made({"a": 4}))
    assert (tmp_path / "features.h5").read_text() == "my own"


def test_values_that_are_not_finite_are_named_with_their_video(tmp_path: Path) -> None:
    arrays = made({"a": 4, "b": 5, "c": 6})
    arrays["b"][2, 1] = np.nan
    arrays["c"][0, 0] = np.inf
    report = imported(tmp_path, arrays)
    assert report.videos == ("a",)
    assert [(id, file.name) for id, file, _ in report.failed] == [("b", "b.npy"), ("c", "c.npy")]
    assert "1 of its 15 feature values are not finite numbers, the first in snippet 2, channel 1" in report.failed[0][2]


def test_arrays_of_other_axes_or_channels_are_left_out_by_name(tmp_path: Path) -> None:
    arrays = made({"a": 4, "b": 5, "c": 6}) | {"d": np.zeros((2, 5)), "e": np.zeros(3), "f": np.zeros((1, 4, 3))}
    report = imported(tmp_path, arrays)
    assert report.videos == ("a", "b", "c", "f")
    assert [(id, what) for id, _, what in report.failed] == [
        ("d", "has 5 channels, most others have 3"),
        ("e", "has shape [3], expected [T, C] with at least one snippet and one channel"),
    ]


def test_transposed_arrays_are_found_and_turned_where_asked(tmp_path: Path) -> None:
    arrays = {id: array.T for id, array in made({"a": 4, "b": 5}).items()}
    with pytest.raises(EtadError, match=r"npy: the features are stored \[C, T\]"):
        imported(tmp_path, arrays)
    with FeatureCache(imported(tmp_path, arrays, channels_first=True).path) as cache:
        assert cache.lengths == {"a": 4, "b": 5}
        np.testing.assert_array_equal(cache.read("b"), arrays["b"].T.astype(np.float32))


def test_nothing_is_left_where_nothing_can_be_used(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"none of its 1 video can be used: 'a' .* not finite"):
        imported(tmp_path, {"a": np.full((2, 3), np.nan)})
    assert not (tmp_path / "features.h5").exists()


def test_durations_come_from_the_annotations_with_or_without_v(tmp_path: Path) -> None:
    read = annotated(tmp_path / "a.json", {"v_a": 3.6, "b": None, "gone": 9.0})
    report = imported(tmp_path, made({"a": 6, "b": 4, "extra": 4}), annotations=read)
    with FeatureCache(report.path) as cache:
        assert cache.durations == {"a": 3.6, "b": 2.5, "extra": 2.5}
    assert report.notes == (
        "not annotated: 1 video (extra)",
        "annotated, but without features: 1 video (gone)",
        "no duration annotated for 2 videos: taken to end with the last snippet",
    )


def test_a_stride_that_contradicts_most_durations_is_refused(tmp_path: Path) -> None:
    read = annotated(tmp_path / "a.json", {"a": 60.0, "b": 80.0})
    with pytest.raises(EtadError, match=r"of 2 of the 2 videos .* do not fit it: a \(60 snippets end at 30\.50 s"):
        imported(tmp_path, made({"a": 60, "b": 80}), annotations=read)


def test_annotations_of_other_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"none of its videos is annotated .* \(features: a; annotated: x\)"):
        imported(tmp_path, made({"a": 6}), annotations=annotated(tmp_path / "a.json", {"x": 1.0}))


def test_a_video_that_ends_before_its_features_is_left_out(tmp_path: Path) -> None:
    read = annotated(tmp_path / "a.json", {"a": 3.5, "b": 3.5, "c": 1.0})
    report = imported(tmp_path, made({"a": 6, "b": 6, "c": 6}), annotations=read)
    assert report.videos == ("a", "b")
    assert report.failed[0][0] == "c" and "but the video lasts 1.000 s" in report.failed[0][2]


def test_resized_features_are_spread_over_the_annotated_duration(tmp_path: Path) -> None:
    read = annotated(tmp_path / "a.json", {"a": 50.0, "b": 20.0, "c": None})
    report = imported(tmp_path, made({"a": 100, "b": 100, "c": 100}), annotations=read, timing=RescaledTiming())
    assert report.videos == ("a", "b") and "its duration must be known" in report.failed[0][2]
    with FeatureCache(report.path) as cache:
        assert cache.timing("b").centers(100)[[0, -1]].tolist() == pytest.approx([0.1, 19.9])


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 9), min_size=1, max_size=3),
    channels=st.integers(1, 5),
    dtype=st.sampled_from(["float16", "float32"]),
    layout=st.sampled_from(["npy", "tsp"]),
    offset=st.sampled_from([0.0, -3.0, 2.5]),
)
def test_an_export_is_imported_as_the_cache_that_it_came_from(
    lengths: list[int],
    channels: int,
    dtype: str,
    layout: str,
    offset: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("round")
    timing = SnippetTiming(fps=10, stride_frames=5, clip_frames=8, offset_frames=offset)
    arrays = made({f"v{number}": length for number, length in enumerate(lengths)}, channels, dtype)
    source = saved(folder / "npy", arrays)
    with FeatureCache(import_features(source, folder / "a.h5", timing=timing).path) as cache:
        out = folder / ("out.h5" if layout == "tsp" else "out")
        report = export_features(cache, out, layout=layout)
        told = "" if not offset else f" --offset {offset:g}"
        assert report.again == f"--fps 10 --stride 5 --clip-frames 8{told}"
        with FeatureCache(import_features(out, folder / "b.h5", timing=timing).path) as again:
            assert again.digest == cache.digest


def test_an_export_of_extracted_features_is_imported_with_the_same_times(tmp_path: Path) -> None:
    meta = make_meta()
    write_part(tmp_path / "a.h5", "v_a", make_features(), meta, "float32")
    with FeatureCache(pack(tmp_path / "a.h5")) as cache:
        export_features(cache, tmp_path / "out", layout="npy")
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "v_a.npy"), make_features())


def test_an_export_spoils_nothing_that_is_there(tmp_path: Path) -> None:
    cache = FeatureCache(imported(tmp_path, made({"a": 4})).path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.npy").write_text("")
    with pytest.raises(EtadError, match=r"the folder has other files \(mine\.npy\)"):
        export_features(cache, tmp_path / "out", layout="npy")
    with pytest.raises(EtadError, match=r"mine\.npy: is there already"):
        export_features(cache, tmp_path / "out" / "mine.npy", layout="tsp")
    with pytest.raises(EtadError, match="is a file, and --layout npy writes a folder"):
        export_features(cache, tmp_path / "out" / "mine.npy", layout="npy")


def test_ids_that_are_no_names_of_files_are_refused(tmp_path: Path) -> None:
    write_part(tmp_path / "a.h5", "../a", make_features(), make_meta())
    with pytest.raises(EtadError, match=r"the id '\.\./a' cannot be a file's name"):
        export_features(FeatureCache(tmp_path / "a.h5"), tmp_path / "out", layout="npy")


def test_real_recordings_are_imported(shared: Path, tmp_path: Path) -> None:
    source = shared / "features" / "sbhar" / "features"
    if not source.is_dir():
        pytest.skip("no recordings of an accelerometer here")
    report = import_features(source, tmp_path / "features.h5", timing=SnippetTiming(50, 25, 50))
    assert len(report.videos) == 61 and report.channels == 150 and not report.failed and not report.notes
    with FeatureCache(report.path) as cache:
        assert cache.durations["exp01_user01"] == 411.5
