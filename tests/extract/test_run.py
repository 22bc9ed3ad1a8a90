"""Extraction as a whole: resumed, sharded, interrupted, with videos that fail."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etad.data.cache.cache import FeatureCache, merge, parts_folder
from etad.data.digest import file_sha256
from etad.data.errors import EtadError, UnwritableError
from etad.data.precision import choose_dtype
from etad.data.video.video import write_video
from etad.extract import joined as joined_module
from etad.extract import run as run_module
from etad.extract.clips import ClipBatch, ClipPlan, Failure, clip_batches
from etad.extract.encode import EncodedVideo, encode_batches, encode_clips
from etad.extract.encoders.encoder import Encoder, build_encoder
from etad.extract.joined import Encoders
from etad.extract.run import ExtractReport, run
from etad.extract.settings import ClipSettings, ExtractSettings

CLIPS = ClipSettings(num_snippets=6, clip_frames=4, resize=(40, 32), crop=32)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build_encoder("tsm_tiny", clip_frames=4)


@pytest.fixture
def films(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "films"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in "abcd":
        write_video(folder / f"{name}.mp4", generator.integers(0, 256, (24, 48, 64, 3), dtype=np.uint8), fps=10)
    return {name: folder / f"{name}.mp4" for name in "abcd"}


def extract(
    sources: dict[str, Path], cache: Path, encoder: Encoder, weights: str = "random", **changes: Any
) -> ExtractReport:
    options = {
        "encoders": Encoders("tsm_tiny", encoder, weights),
        "clips": CLIPS,
        "settings": ExtractSettings(batch_clips=4, workers=1, store_dtype="float32"),
        "precision": "float32",
        "device": CPU,
        "progress": False,
    }
    return run(sources, cache, **(options | changes))


def contents(cache: Path) -> dict[str, np.ndarray]:
    with FeatureCache(cache) as features:
        return {video_id: features.read(video_id) for video_id in features.ids}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def test_features_are_those_of_the_encoder_on_each_clip_alone(
    films: dict[str, Path], tmp_path: Path, encoder: Encoder
) -> None:
    report = extract(films, tmp_path / "features.h5", encoder)
    assert report.done == ("a", "b", "c", "d") and report.skipped == () and report.failed == ()
    stored = contents(report.cache)
    plan = ClipPlan(**CLIPS.model_dump())
    for item in clip_batches(films, plan, batch_clips=6, workers=0):
        assert isinstance(item, ClipBatch)
        with torch.inference_mode():
            alone = [encoder.eval()(encoder.normalise(torch.from_numpy(clip[None]))) for clip in item.clips]
        np.testing.assert_allclose(stored[item.video_id], torch.cat(alone).numpy(), rtol=1e-4, atol=1e-5)


def test_the_cache_knows_where_features_come_from(films: dict[str, Path], tmp_path: Path, encoder: Encoder) -> None:
    extract(films, tmp_path / "features.h5", encoder)
    with FeatureCache(tmp_path / "features.h5") as features:
        meta = features.meta("b")
        assert features.lengths["b"] == 6 and features.channels == encoder.channels
    assert (meta.source_name, meta.source_bytes) == ("b.mp4", films["b"].stat().st_size)
    assert meta.source_sha256 == file_sha256(films["b"])
    assert (meta.encoder, meta.weights_sha256, meta.compute_dtype) == ("tsm_tiny", "random", "float32")
    assert meta.transform["layout"] == "spread" and meta.transform["crop"] == 32
    assert meta.timing.fps == 10 and meta.timing.duration_seconds == pytest.approx(2.4)


def test_a_second_run_does_nothing_and_changes_no_byte(
    films: dict[str, Path], tmp_path: Path, encoder: Encoder
) -> None:
    cache = tmp_path / "features.h5"
    extract(films, cache, encoder)
    before = cache.read_bytes()
    report = extract(films, cache, encoder)
    assert report.done == () and report.skipped == ("a", "b", "c", "d")
    assert cache.read_bytes() == before


def test_interrupted_extraction_resumes_where_it_stopped(
    films: dict[str, Path], tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extract(films, tmp_path / "whole" / "features.h5", encoder).cache
    cache = tmp_path / "broken_off" / "features.h5"

    def interrupted(*arguments: Any, **options: Any) -> Iterator[EncodedVideo | Failure]:
        for count, item in enumerate(encode_batches(*arguments, **options)):
            if count == 2:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(joined_module, "encode_batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(films, cache, encoder)
    monkeypatch.undo()
    assert not cache.exists() and len(list(parts_folder(cache).iterdir())) == 2
    report = extract(films, cache, encoder)
    assert report.skipped == ("a", "b") and report.done == ("c", "d")
    assert same(contents(whole), contents(cache)) and not parts_folder(cache).exists()


def test_a_video_that_fails_is_listed_tried_again_and_stops_no_other(
    films: dict[str, Path], tmp_path: Path, encoder: Encoder
) -> None:
    good = films["b"].read_bytes()
    films["b"].write_bytes(b"no video")
    report = extract(films, tmp_path / "features.h5", encoder)
    assert report.done == ("a", "c", "d")
    (failure,) = report.failed
    assert failure.video_id == "b" and failure.path == films["b"] and "cannot be opened" in failure.reason
    assert extract(films, tmp_path / "features.h5", encoder).failed == report.failed
    films["b"].write_bytes(good)
    assert extract(films, tmp_path / "features.h5", encoder).done == ("b",)
    assert list(contents(tmp_path / "features.h5")) == ["a", "b", "c", "d"]


def test_a_video_file_that_has_changed_is_extracted_anew(
    films: dict[str, Path], tmp_path: Path, encoder: Encoder
) -> None:
    cache = tmp_path / "features.h5"
    extract(films, cache, encoder)
    before = contents(cache)
    shutil.copy(films["c"], films["b"])
    os.utime(films["a"])  # touched, but the same bytes
    report = extract(films, cache, encoder)
    assert report.done == ("b",) and report.skipped == ("a", "c", "d")
    assert np.array_equal(contents(cache)["b"], before["c"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": "abc"}, "weights_sha256 'abc'"),
        ({"clips": CLIPS.model_copy(update={"crop": 24})}, "transform"),
        ({"precision": "bfloat16"}, "compute_dtype 'bfloat16'"),
        ({"settings": ExtractSettings(store_dtype="float16")}, "store_dtype 'float16'"),
    ],
)
def test_a_cache_of_another_kind_is_refused_before_any_work(
    films: dict[str, Path], tmp_path: Path, encoder: Encoder, changes: dict[str, Any], words: str
) -> None:
    cache = tmp_path / "features.h5"
    extract({"a": films["a"]}, cache, encoder)
    before = cache.read_bytes()
    with pytest.raises(EtadError, match=words):
        extract(films, cache, encoder, **changes)
    assert cache.read_bytes() == before and not parts_folder(cache).exists()


def test_features_that_are_not_finite_are_a_failure(films: dict[str, Path], tmp_path: Path) -> None:
    encoder = build_encoder("tsm_tiny", clip_frames=4)
    with torch.no_grad():
        next(encoder.parameters()).fill_(float("nan"))
    report = extract({"a": films["a"]}, tmp_path / "features.h5", encoder)
    assert report.done == () and "not finite" in report.failed[0].reason
    assert not (tmp_path / "features.h5").exists()


def test_shards_together_make_the_same_cache(films: dict[str, Path], tmp_path: Path, encoder: Encoder) -> None:
    whole = extract(films, tmp_path / "whole.h5", encoder).cache
    cache = tmp_path / "sharded.h5"
    reports = [extract(films, cache, encoder, shard=(index, 3)) for index in (2, 0, 1)]
    assert [report.done for report in reports] == [("c",), ("a", "d"), ("b",)]
    assert not cache.exists()
    merge(cache)
    assert same(contents(whole), contents(cache))
    with pytest.raises(EtadError, match="shard 3/3: the first number runs from 0 to 2"):
        extract(films, cache, encoder, shard=(3, 3))


def test_the_bar_is_on_stderr_and_stdout_stays_empty(
    films: dict[str, Path], tmp_path: Path, encoder: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(films, tmp_path / "features.h5", encoder, progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "4/4" in err and "video" in err


def test_failures_keep_their_place_between_encoded_videos(films: dict[str, Path], encoder: Encoder) -> None:
    films["b"].write_bytes(b"no video")
    items = clip_batches(films, ClipPlan(**CLIPS.model_dump()), batch_clips=4, workers=2)
    encoded = list(encode_batches(encoder.eval(), items, device=CPU, dtype=torch.float32))
    assert [item.video_id for item in encoded] == ["a", "b", "c", "d"]
    assert [isinstance(item, Failure) for item in encoded] == [False, True, False, False]


def test_batches_of_a_video_that_breaks_later_are_dropped(films: dict[str, Path], encoder: Encoder) -> None:
    batches = list(clip_batches(films, ClipPlan(**CLIPS.model_dump()), batch_clips=4, workers=0))
    items = [batches[0], Failure("a", films["a"], "it broke"), *batches[2:]]
    encoded = list(encode_batches(encoder.eval(), items, device=CPU, dtype=torch.float32))
    assert isinstance(encoded[0], Failure)
    assert [len(item.features) for item in encoded[1:] if isinstance(item, EncodedVideo)] == [6, 6, 6]


def test_short_number_formats_change_features_little(encoder: Encoder) -> None:
    clips = torch.randint(0, 256, (3, 4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        long = encode_clips(encoder.eval(), clips, torch.float32)
        short = encode_clips(encoder, clips, torch.bfloat16)
    assert short.dtype == torch.float32
    assert (short - long).norm() < 0.05 * long.norm()


def test_a_number_format_that_nobody_knows_is_named() -> None:
    with pytest.raises(EtadError, match="precision='int8' is none of auto"):
        choose_dtype("int8", CPU)
    assert choose_dtype("auto", CPU) in (torch.float32, torch.bfloat16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_features(films: dict[str, Path], tmp_path: Path, encoder: Encoder) -> None:
    reference = contents(extract(films, tmp_path / "cpu.h5", encoder).cache)
    try:
        found = contents(extract(films, tmp_path / "gpu.h5", encoder, device=torch.device("cuda")).cache)
    finally:
        encoder.cpu()
    assert list(found) == list(reference)
    for video_id, features in found.items():
        assert np.linalg.norm(features - reference[video_id]) < 0.01 * np.linalg.norm(reference[video_id])


def test_full_disk_ends_the_extraction_at_once_and_loses_nothing(
    films: dict[str, Path], tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_part, tried = run_module.write_part, []

    def full(cache: Path, video_id: str, *rest: Any) -> Path:
        tried.append(video_id)
        if len(tried) > 2:
            raise UnwritableError(f"{cache}: this file cannot be written (No space left on device).")
        return write_part(cache, video_id, *rest)

    monkeypatch.setattr(run_module, "write_part", full)
    cache = tmp_path / "features.h5"
    with pytest.raises(UnwritableError, match="No space left"):
        extract(films, cache, encoder)
    assert tried == ["a", "b", "c"] and list(contents(cache)) == ["a", "b"]
    monkeypatch.setattr(run_module, "write_part", write_part)
    report = extract(films, cache, encoder)
    assert report.done == ("c", "d") and report.skipped == ("a", "b")
