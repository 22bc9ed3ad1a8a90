"""Extraction from files that are replaced, damaged, cut or were read by older rules."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from etad.data.cache.cache import FeatureCache, verify
from etad.data.cache.rules import rewrite_meta
from etad.data.digest import file_sha256
from etad.data.errors import EtadError
from etad.data.timeline import READING_RULES
from etad.extract import joined as joined_module
from etad.extract.clips import ClipBatch, ClipPlan, clip_batches
from etad.extract.encode import EncodedVideo, encode_batches
from etad.extract.encoders.encoder import Encoder, build_encoder
from etad.extract.joined import Encoders
from etad.extract.run import ExtractReport, run
from etad.extract.settings import ClipSettings, ExtractSettings
from reference.barcode import B_FRAMES, broken_midway, remux, write

CLIPS = ClipSettings(layout="sliding", stride_frames=4, clip_frames=4, resize=(40, 32), crop=32)
# Containers that state no length.
NO_PROMISE = {"a.ts": "libx264", "a.mpg": "mpeg2video"}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build_encoder("tsm_tiny", clip_frames=4)


def extract(sources: dict[str, Path], cache: Path, encoder: Encoder, **changes: Any) -> ExtractReport:
    options = {
        "encoders": Encoders("tsm_tiny", encoder, "random"),
        "clips": CLIPS,
        "settings": ExtractSettings(batch_clips=4, workers=1),
        "precision": "float32",
        "device": torch.device("cpu"),
        "progress": False,
    }
    return run(sources, cache, **(options | changes))


def features_of(cache: Path, video_id: str) -> np.ndarray:
    with FeatureCache(cache) as features:
        return features.read(video_id)


def replace_after(monkeypatch: pytest.MonkeyPatch, path: Path, others: list[Path]) -> None:
    """Put another file where one is, each time that its features have been encoded and not yet stored."""
    waiting = list(others)

    def encoded(*arguments: Any, **options: Any) -> Iterator[Any]:
        for item in encode_batches(*arguments, **options):
            if item.path == path and waiting:
                shutil.copy(waiting.pop(0), path.with_name("new"))
                path.with_name("new").replace(path)
            yield item

    monkeypatch.setattr(joined_module, "encode_batches", encoded)


def test_a_file_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (write(tmp_path / f"{name}.mp4", range(start, start + 30)) for name, start in (("a", 0), ("b", 500)))
    expected = features_of(extract({"b": two}, tmp_path / "b.h5", encoder).cache, "b")
    replace_after(monkeypatch, one, [two])
    report = extract({"a": one, "c": two}, tmp_path / "features.h5", encoder)
    assert sorted(report.done) == ["a", "c"] and report.failed == () and report.flawed == ()
    assert np.array_equal(features_of(report.cache, "a"), expected)
    with FeatureCache(report.cache) as features:
        meta = features.meta("a")
    assert (meta.source_bytes, meta.source_sha256) == (one.stat().st_size, file_sha256(one))
    assert meta.source_modified_ns == one.stat().st_mtime_ns


def test_a_file_that_breaks_because_it_is_replaced_is_read_again(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(tmp_path / "whole.mp4", range(100))
    path = broken_midway(tmp_path / "a.mp4")
    replace_after(monkeypatch, path, [whole])
    report = extract({"a": path}, tmp_path / "features.h5", encoder)
    assert report.done == ("a",) and report.failed == ()


def test_a_file_that_is_never_still_is_a_failure(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (write(tmp_path / f"{name}.mp4", range(30)) for name in "ab")
    replace_after(monkeypatch, one, [two] * 9)
    report = extract({"a": one}, tmp_path / "features.h5", encoder)
    assert report.done == () and "replaced each time while it was read" in report.failed[0].reason
    assert not (tmp_path / "features.h5").exists()


def test_a_file_replaced_by_an_older_one_of_the_same_size_is_extracted_anew(tmp_path: Path, encoder: Encoder) -> None:
    path = write(tmp_path / "a.mp4", range(30))
    report = extract({"a": path}, tmp_path / "features.h5", encoder)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # in its metadata
    path.write_bytes(content)
    os.utime(path, (0, 1000))
    assert extract({"a": path}, report.cache, encoder).done == ("a",)
    os.utime(path)
    assert extract({"a": path}, report.cache, encoder).skipped == ("a",)


def test_lost_frames_are_stored_listed_once_and_noted_after(reports: Path, tmp_path: Path, encoder: Encoder) -> None:
    cache = tmp_path / "features.h5"
    sources = {"bad": reports / "base_zero_sample.mp4", "good": write(tmp_path / "good.mp4", range(30))}
    report = extract(sources, cache, encoder, settings=ExtractSettings(batch_clips=2, workers=3))
    assert report.done == ("bad", "good") and report.failed == () and report.notes == ()
    (flaw,) = report.flawed
    assert flaw.video_id == "bad" and "1 frame could not be decoded" in flaw.reason
    with FeatureCache(cache) as features:
        assert (features.meta("bad").lost_frames, features.meta("good").lost_frames) == (1, 0)
        (note,) = features.reading_notes()
    assert "1 video lacks frames" in note and "bad (1)" in note
    again = extract(sources, cache, encoder)
    assert again.flawed == () and again.notes == (note,)


def test_a_video_shorter_than_annotated_is_listed_where_only_the_annotations_know(
    tmp_path: Path, encoder: Encoder
) -> None:
    sources = {name: write(tmp_path / name, range(50), codec=codec) for name, codec in NO_PROMISE.items()}
    sources["a.mp4"] = write(tmp_path / "a.mp4", range(50))
    report = extract(sources, tmp_path / "a.h5", encoder, stated_seconds=dict.fromkeys(sources, 2.4))
    assert not report.flawed and not report.failed
    report = extract(sources, tmp_path / "b.h5", encoder, stated_seconds=dict.fromkeys(sources, 3.0))
    assert [flaw.video_id for flaw in report.flawed] == ["a.mpg", "a.ts"] and len(report.done) == 3
    assert all("it lasts 2.0 s, the annotations say 3.0 s" in flaw.reason for flaw in report.flawed)


def test_features_of_older_rules_stay_where_today_reads_the_same(
    reports: Path, tmp_path: Path, encoder: Encoder
) -> None:
    cache = tmp_path / "features.h5"
    sources = {
        "plain": write(tmp_path / "plain.mp4", range(60), **B_FRAMES),
        "joined": reports / "cat_reset2.ts",
        "bad": reports / "base_zero_sample.mp4",
        "mirrored": reports / "hflip.mp4",
    }
    extract(sources, cache, encoder)
    before = features_of(cache, "plain")
    _make_old(cache)
    with FeatureCache(cache) as features:
        unsealed, note = features.reading_notes()
        digest = features.digest
    assert "4 videos of an older version of etad" in unsealed
    assert "4 videos read by older rules (version 1, now 2)" in note and "mirrored pictures" in note
    report = extract(sources, cache, encoder)
    assert report.skipped == ("plain",) and sorted(report.done) == ["bad", "joined", "mirrored"]
    assert any("1 read the same and stay, 3 are extracted again: bad, joined" in note for note in report.notes)
    assert np.array_equal(features_of(cache, "plain"), before) and verify(cache) == []
    with FeatureCache(cache) as features:
        assert all(features.meta(id).reading_rules == READING_RULES for id in features.ids)
        assert not any("older rules" in note for note in features.reading_notes())
        assert features.digest == digest
    assert extract(sources, cache, encoder).done == ()


def test_features_of_older_rules_at_other_times_or_damaged_are_made_again(tmp_path: Path, encoder: Encoder) -> None:
    cache = tmp_path / "features.h5"
    sources = {name: write(tmp_path / f"{name}.mp4", range(40)) for name in ("moved", "damaged", "plain")}
    extract(sources, cache, encoder)
    before = features_of(cache, "damaged")
    _make_old(cache)
    with h5py.File(cache, "r+") as file:
        file["videos/moved"].attrs["duration_seconds"] = 1.5
        file["videos/damaged/features"][0, 0] += 1
    report = extract(sources, cache, encoder)
    assert report.skipped == ("plain",) and sorted(report.done) == ["damaged", "moved"]
    assert np.array_equal(features_of(cache, "damaged"), before) and verify(cache) == []


def test_meta_is_rewritten_only_beside_sound_features(tmp_path: Path, encoder: Encoder) -> None:
    cache = extract({"a": write(tmp_path / "a.mp4", range(20))}, tmp_path / "features.h5", encoder).cache
    with FeatureCache(cache) as features:
        meta = features.meta("a")
    rewrite_meta(cache, "a", replace(meta, lost_frames=7))
    with FeatureCache(cache) as features:
        assert features.meta("a") == replace(meta, lost_frames=7)
    with pytest.raises(EtadError, match="'b'"):
        rewrite_meta(cache, "b", meta)


def test_a_packet_lost_between_clips_is_counted_too(tmp_path: Path, encoder: Encoder) -> None:
    whole = write(tmp_path / "whole.mp4", range(60))
    path = remux(whole, tmp_path / "bad.mp4", change={37: lambda content: bytes(len(content))})
    report = extract({"a": path}, tmp_path / "features.h5", encoder, clips=CLIPS.model_copy(update={"frame_step": 2}))
    assert len(report.flawed) == 1


def _make_old(cache: Path) -> None:
    """Take out of a packed file what versions before the rules did not write."""
    with h5py.File(cache, "r+") as file:
        for group in file["videos"].values():
            for name in ("reading_rules", "lost_frames", "source_modified_ns", "attributes_sha256"):
                del group.attrs[name]
        rows = file["index"][()]
        names = [name for name in rows.dtype.names if name not in ("reading_rules", "lost_frames")]
        old = np.empty(len(rows), dtype=[(name, file["index"].dtype[name]) for name in names])
        for name in names:
            old[name] = rows[name]
        del file["index"]
        file.create_dataset("index", data=old)


def test_encoded_videos_say_what_was_noticed(tmp_path: Path, encoder: Encoder) -> None:
    path = write(tmp_path / "late.mkv", range(30), first=50, sound_seconds=(0.0, 3.0))
    items = clip_batches({"a": path}, ClipPlan(**CLIPS.model_dump()), batch_clips=4, workers=0)
    (video,) = encode_batches(encoder.eval(), items, device=torch.device("cpu"), dtype=torch.float32)
    assert isinstance(video, EncodedVideo) and video.reading.lost_ticks == frozenset()
    assert video.reading.rules == ("begins later than its clock",) and video.reading.states_its_length


@pytest.mark.parametrize("bad", [{37}, {50, 51}, {12}, {5, 29, 61, 90}])
def test_frames_stand_in_alike_whatever_the_number_of_workers(tmp_path: Path, bad: set[int]) -> None:
    whole = write(tmp_path / "whole.mp4", range(150), **B_FRAMES)
    path = remux(whole, tmp_path / "bad.mp4", change=dict.fromkeys(bad, lambda content: bytes(len(content))))
    for stride, frame_step in ((1, 1), (5, 2), (9, 1)):
        plan = ClipPlan(**(CLIPS.model_dump() | {"stride_frames": stride, "frame_step": frame_step, "clip_frames": 2}))
        seen = []
        for workers in (0, 2, 3):
            items = list(clip_batches({"a": path}, plan, batch_clips=1, workers=workers))
            assert all(isinstance(item, ClipBatch) for item in items)
            seen.append([item.clips.tobytes() for item in items if isinstance(item, ClipBatch)])
        assert seen[0] == seen[1] == seen[2]
