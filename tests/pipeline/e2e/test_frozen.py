"""Outputs of frozen stages are paid for once, and change nothing but by rounding to half precision."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature_e2e import changed, run, trainer, weights
from torch import Tensor

from etad.data.errors import EtadError
from etad.extract.clips import ClipBatch, Failure, read_clips
from etad.extract.encode import EncodedVideo
from etad.extract.encoders.encoder import Encoder
from etad.extract.frozen import FrozenCache
from etad.pipeline.e2e import clips as e2e_clips
from etad.pipeline.e2e import features as e2e_features
from etad.pipeline.e2e.features import KeptVideos
from etad.pipeline.e2e.setup import E2eSetup
from etad.pipeline.e2e.train import E2eTrainer

TSM = ("e2e.cache_frozen=1", "encoder.frozen_stages=2", "e2e.crop=centre")
ADAPTERS = (
    "e2e.cache_frozen=1",
    "e2e.crop=centre",
    "encoder.name=videomae_tiny",
    "encoder.adapter=series",
    "encoder.frozen_stages=2",
    "clips.clip_frames=4",
    "clips.resize=[32, 32]",
    "clips.crop=32",
)
SIDE = (*ADAPTERS, "encoder.adapter=side")
KINDS = pytest.mark.parametrize("sets", [TSM, ADAPTERS, SIDE], ids=["tsm", "series", "side"])


class Killed(Exception):
    pass


def files(folder: Path) -> list[Path]:
    return sorted((folder / "e2e" / "frozen").glob("*.maps"))


def plain_maps(encoder: Encoder, frames: Tensor) -> Tensor:
    with torch.no_grad():
        return encoder.run_stages(encoder.normalise(frames), 0, encoder.frozen_stages + 1).permute(0, 2, 3, 4, 1)


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    reads: list[Path] = []
    plain = e2e_clips.read_clips

    def counted(path: Path, *args: object, **kwargs: object) -> object:
        reads.append(path)
        return plain(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(e2e_clips, "read_clips", counted)
    return reads


def keys(found: E2eTrainer) -> list[str]:
    return [found.clips._key(number, 0) for number in range(len(found.clips.windows))]


@KINDS
def test_kept_maps_are_the_frozen_stages_outputs_in_half_precision(
    dataset: Path, tmp_path: Path, sets: tuple[str, ...]
) -> None:
    kept, plain = trainer(dataset, tmp_path / "kept", *sets), trainer(dataset, tmp_path, *sets, "e2e.cache_frozen=0")
    cold, warm = (next(kept.clips.of([[0, 1]], 0)) for _ in range(2))
    for frames, first, again in zip(next(plain.clips.of([[0, 1]], 0)), cold, warm, strict=True):
        assert isinstance(frames, Tensor) and isinstance(first, Tensor) and isinstance(again, Tensor)
        assert first.dtype == torch.float16 and torch.equal(first, again)
        torch.testing.assert_close(first.float(), plain_maps(plain.encoder, frames), rtol=1e-3, atol=1e-4)


@KINDS
def test_gradients_are_those_of_ordinary_back_propagation_from_the_rounded_maps(
    dataset: Path, tmp_path: Path, sets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = trainer(dataset, tmp_path / "kept", *sets, "e2e.ratio=1", "e2e.micro_batch=5")
    plain = trainer(dataset, tmp_path / "plain", *sets, "e2e.cache_frozen=0", "e2e.memory=full")
    kept._step([0, 1], next(kept.clips.of([[0, 1]], 0)))
    ordinary = Encoder.run_stages

    def rounded(self: Encoder, x: Tensor, start: int, stop: int, *, recompute: bool = False) -> Tensor:
        for stage in range(start, stop):
            x = ordinary(self, x, stage, stage + 1, recompute=recompute)
            if stage == self.frozen_stages:
                x = x.half().float()
        return x

    monkeypatch.setattr(Encoder, "run_stages", rounded)
    plain._step([0, 1], next(plain.clips.of([[0, 1]], 0)))
    trained = [(name, each) for name, each in kept.encoder.named_parameters() if each.requires_grad]
    expected = dict(plain.encoder.named_parameters())
    assert trained
    for name, each in trained:
        other = expected[name].grad
        assert each.grad is not None and other is not None, name
        assert (each.grad - other).norm() <= 2e-3 * other.norm() + 1e-7, name


@KINDS
def test_the_second_epoch_decodes_nothing(
    dataset: Path, tmp_path: Path, sets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = count_reads(monkeypatch)
    found = trainer(dataset, tmp_path, *sets, "e2e.batch=1")
    found.run()
    assert len(reads) == len(found.clips.windows) == len(files(tmp_path))


def test_as_many_random_crops_are_kept_as_were_asked_for(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = count_reads(monkeypatch)
    found = trainer(dataset, tmp_path, "e2e.cache_frozen=2", "e2e.epochs=5", "e2e.batch=1")
    found.run()
    assert len(reads) == 2 * len(found.clips.windows) == len(files(tmp_path))
    first, second, third = (next(found.clips.of([[0]], epoch))[0] for epoch in range(3))
    assert isinstance(first, Tensor) and isinstance(second, Tensor) and isinstance(third, Tensor)
    assert torch.equal(first, third) and not torch.equal(first, second)


@KINDS
@pytest.mark.parametrize("warm", [True, False])
def test_a_killed_run_resumes_bit_for_bit_whether_the_cache_is_there_or_not(
    dataset: Path, tmp_path: Path, sets: tuple[str, ...], warm: bool
) -> None:
    often = [*sets, "e2e.checkpoint_seconds=1e-9"]
    whole = trainer(dataset, tmp_path / "whole", *often)
    whole.run()

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 4:
            raise Killed

    with pytest.raises(Killed):
        trainer(dataset, tmp_path / "parts", *often).run(stop)
    if not warm:
        for path in files(tmp_path / "parts"):
            path.unlink()
    again = trainer(dataset, tmp_path / "parts", *often)
    assert again.resume()
    again.run()
    assert changed(weights(whole), weights(again)) == set()


def test_the_run_says_what_it_gained_and_removes_what_it_kept(dataset: Path, tmp_path: Path) -> None:
    lines = run(dataset, tmp_path, *TSM, "e2e.epochs=3").notes
    assert any("s an epoch that kept their outputs" in line for line in lines)
    assert files(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "other"])
def test_a_damaged_file_is_computed_again(dataset: Path, tmp_path: Path, damage: str) -> None:
    found = trainer(dataset, tmp_path, *TSM)
    expected = next(found.clips.of([[0, 1]], 0))
    path, other = (found.clips.frozen._path(key) for key in keys(found)[:2])  # type: ignore[union-attr]
    good = content = path.read_bytes()
    changes = {
        "cut": content[:-2],
        "flipped": content[:-1] + bytes([content[-1] ^ 1]),
        "emptied": b"",
        "other": other.read_bytes(),
    }
    path.write_bytes(changes[damage])
    assert found.clips.frozen is not None and found.clips.frozen.load(keys(found)[0]) is None
    again = next(found.clips.of([[0]], 0))[0]
    assert isinstance(again, Tensor) and isinstance(expected[0], Tensor) and torch.equal(again, expected[0])
    assert path.read_bytes() == good


def test_other_weights_videos_or_clips_are_another_entry(dataset: Path, tmp_path: Path) -> None:
    base = trainer(dataset, tmp_path, *TSM)
    same, clips, crop = (
        trainer(dataset, tmp_path, *TSM, each) for each in ("e2e.ratio=0.5", "clips.resize=[24, 24]", "e2e.crop=random")
    )
    assert keys(base) == keys(same)
    assert not set(keys(base)) & {*keys(clips), *keys(crop)}
    cache = base.clips.frozen
    assert cache is not None
    how = {"window": (0, 12), "sample": "v 0", "draw": 0}
    before = cache.entry("a" * 64, **how)  # type: ignore[arg-type]
    assert before != cache.entry("b" * 64, **how)  # type: ignore[arg-type]
    encoder = base.encoder
    for stage, is_other in ((3, False), (1, True)):
        with torch.no_grad():
            next(encoder.stages[stage].parameters()).add_(1)
        again = FrozenCache(
            encoder, cache.folder, source=cache._made_by["source"], micro_batch=cache.micro_batch, autocast=None
        )
        assert (before != again.entry("a" * 64, **how)) == is_other  # type: ignore[arg-type]


def test_what_is_stale_is_removed(dataset: Path, tmp_path: Path) -> None:
    next(trainer(dataset, tmp_path, *TSM).clips.of([[0, 1]], 0))
    before = files(tmp_path)
    trainer(dataset, tmp_path, *TSM)
    assert files(tmp_path) == before and len(before) == 2
    trainer(dataset, tmp_path, *TSM, "encoder.frozen_stages=1")
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("e2e.cache_frozen_gib=1e-6",), "e2e.cache_frozen_gib allows"),
        (("e2e.epochs=1",), "would be read again"),
        (("e2e.cache_frozen=2", "e2e.epochs=3"), "no augmentation is on"),
        (("e2e.memory=full",), "memory='sgs' alone"),
    ],
)
def test_what_does_not_fit_or_loses_is_refused(
    dataset: Path, tmp_path: Path, sets: tuple[str, ...], words: str
) -> None:
    with pytest.raises(EtadError, match=words):
        run(dataset, tmp_path, *TSM, *sets)


VALIDATED = ("e2e.validate_epochs=true", "data.validation_subset=apart")


def validation_reads(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Videos that each validation decodes."""
    reads: list[list[str]] = []
    plain = e2e_features.clip_batches

    def counted(sources: Mapping[str, Path], *args: object, **kwargs: object) -> object:
        reads.append(list(sources))
        return plain(sources, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(e2e_features, "clip_batches", counted)
    return reads


@KINDS
def test_videos_that_are_validated_on_are_decoded_once_for_the_same_losses(
    kept_apart: Path, tmp_path: Path, sets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = (*sets, *VALIDATED, "extract.batch_clips=5", "e2e.epochs=3")
    sets += ("encoder.precision=float32", "detect.precision=float32")
    with monkeypatch.context() as patch:  # the same training, and validation from the frames
        patch.setattr(E2eSetup, "validated_snippets", lambda *_: 0)
        run(kept_apart, tmp_path / "plain", *sets)
    reads = validation_reads(monkeypatch)
    result = run(kept_apart, tmp_path / "kept", *sets)
    assert [len(each) for each in reads[:3]] == [1, 0, 0]  # what comes after is inference
    assert any("+ 12 of validation" in line for line in result.notes)
    kept, plain = (
        [json.loads(line)["val_loss"] for line in (tmp_path / name / "e2e" / "log.jsonl").read_text().splitlines()]
        for name in ("kept", "plain")
    )
    assert len(set(kept)) == 3 and kept == pytest.approx(plain, rel=1e-3)
    assert not list((tmp_path / "kept" / "e2e" / "frozen").rglob("*.maps"))


def test_a_resumed_run_validates_to_the_same_losses(kept_apart: Path, tmp_path: Path) -> None:
    sets = (*TSM, *VALIDATED)
    run(kept_apart, tmp_path / "whole", *sets, "e2e.epochs=4")
    for epochs in (2, 4):
        run(kept_apart, tmp_path / "parts", *sets, f"e2e.epochs={epochs}")
    losses = [
        [json.loads(line)["val_loss"] for line in (tmp_path / name / "e2e" / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def encoded(kept: KeptVideos, files: Mapping[str, Path], found: E2eTrainer) -> list[EncodedVideo | Failure]:
    return list(kept.encode(files, found.clips.plan, batch_clips=5, workers=0, report=lambda share: None))


@pytest.mark.parametrize("fault", ["cut", "gone", "replaced"])
def test_what_is_kept_of_a_validated_video_is_made_anew_where_it_is_damaged_or_stale(
    dataset: Path, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trainer(dataset, tmp_path, *TSM)
    found.encoder.eval()
    videos = {}
    for name in list(found.clips.files)[:2]:
        videos[name] = tmp_path / f"{name}.mp4"
        shutil.copy(found.clips.files[name], videos[name])
    kept = KeptVideos(FrozenCache(found.encoder, tmp_path / "maps", source={}, micro_batch=3))
    before = encoded(kept, videos, found)
    reads = validation_reads(monkeypatch)
    some = sorted((tmp_path / "maps").glob("*.maps"))
    assert len(some) == 6  # three batches a video
    if fault == "cut":
        some[0].write_bytes(some[0].read_bytes()[:-1])
    elif fault == "gone":
        some[0].unlink()
    else:
        first, second = videos.values()
        first.write_bytes(second.read_bytes())
    after = encoded(kept, videos, found)
    assert [len(each) for each in reads] == [1]
    assert not any(isinstance(each, Failure) for each in (*before, *after))
    by_id, again = ({each.video_id: each for each in some} for some in (before, after))  # type: ignore[union-attr]
    changed_one = next(iter(videos)) if fault == "replaced" else None
    for name, video in by_id.items():
        same = again[name].features.shape == video.features.shape and (again[name].features == video.features).all()
        assert same == (name != changed_one)
    plain = FrozenCache(found.encoder, tmp_path / "other", source={}, micro_batch=3)
    for video in after:
        assert isinstance(video, EncodedVideo)
        clips, _ = read_clips(
            videos[video.video_id], found.clips.plan, augment=None, generator=np.random.default_rng(0)
        )
        expected = plain.finish(plain_maps(found.encoder, torch.from_numpy(clips)).half())
        torch.testing.assert_close(torch.from_numpy(video.features), expected, rtol=1e-5, atol=1e-5)


def test_what_was_noticed_of_a_validated_video_is_still_known_when_it_is_not_decoded(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trainer(dataset, tmp_path, *TSM)
    found.encoder.eval()
    plain = e2e_features.clip_batches

    def flawed(*args: object, **kwargs: object) -> Iterator[ClipBatch | Failure]:
        for item in plain(*args, **kwargs):  # type: ignore[arg-type]
            assert isinstance(item, ClipBatch)
            noticed = replace(item.reading, lost_ticks=frozenset({item.first_snippet}), states_its_length=False)
            yield replace(item, reading=noticed)

    monkeypatch.setattr(e2e_features, "clip_batches", flawed)
    kept = KeptVideos(FrozenCache(found.encoder, tmp_path / "maps", source={}, micro_batch=3))
    files = dict(list(found.clips.files.items())[:1])
    first, again = (encoded(kept, files, found)[0] for _ in range(2))
    assert isinstance(first, EncodedVideo) and isinstance(again, EncodedVideo)
    assert first.reading == again.reading and first.reading.lost_ticks == {0, 5, 10}
    assert not again.reading.states_its_length


def test_a_validated_video_that_cannot_be_read_fails_each_time_alone(dataset: Path, tmp_path: Path) -> None:
    found = trainer(dataset, tmp_path, *TSM)
    found.encoder.eval()
    files = dict(list(found.clips.files.items())[:2])
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    files["broken"] = broken
    kept = KeptVideos(FrozenCache(found.encoder, tmp_path / "maps", source={}, micro_batch=3))
    for _ in range(2):
        items = encoded(kept, files, found)
        assert [isinstance(each, Failure) for each in items] == [False, False, True]


def test_outputs_too_large_for_half_precision_are_refused(dataset: Path, tmp_path: Path) -> None:
    found = trainer(dataset, tmp_path, *TSM)
    with torch.no_grad():
        for module in found.encoder.stages[2].modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.add_(1e6)
    with pytest.raises(EtadError, match="too large for half precision"):
        next(found.clips.of([[0]], 0))
