"""Joined encoders: each sees its own pictures of the same snippets, and the cache knows all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etad.data.cache.cache import FeatureCache
from etad.data.cache.merge import merge
from etad.data.errors import EtadError
from etad.data.video.container import VideoFile
from etad.data.video.video import write_video
from etad.extract.clips import ClipBatch, ClipPlan, clip_batches
from etad.extract.encode import encode_clips
from etad.extract.encoders.encoder import Encoder
from etad.extract.encoders.transnetv2 import transnetv2_stages
from etad.extract.joined import Encoders, FurtherEncoder
from etad.extract.run import ExtractReport, run
from etad.extract.settings import ClipSettings, ExtractSettings

CLIPS = ClipSettings(num_snippets=5, clip_frames=4, resize=(40, 32), crop=32)
WIDE = {"resize": (48, 27), "crop": (48, 27)}


def encoder(seed: int) -> Encoder:
    torch.manual_seed(seed)
    stages = transnetv2_stages(channels=2)
    return Encoder(stages, channels=576, mean=(0, 0, 0), std=(255, 255, 255)).freeze(4)


@pytest.fixture
def films(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "films").mkdir()
    generator = np.random.default_rng(0)
    files = {name: tmp_path / "films" / f"{name}.mp4" for name in "ab"}
    for path in files.values():
        write_video(path, generator.integers(0, 256, (24, 48, 64, 3), dtype=np.uint8), fps=10)
    return files


def extract(films: dict[str, Path], cache: Path, encoders: Encoders, clips: ClipSettings = CLIPS) -> ExtractReport:
    settings = ExtractSettings(batch_clips=3, workers=1, store_dtype="float32")
    how: dict[str, Any] = {"precision": "float32", "device": torch.device("cpu"), "progress": False}
    return run(films, cache, encoders=encoders, clips=clips, settings=settings, **how)


def test_joined_features_are_those_of_each_encoder_side_by_side(films: dict[str, Path], tmp_path: Path) -> None:
    first, second = encoder(0), encoder(1)
    joined = Encoders("one", first, "aa", [FurtherEncoder("two", second, "bb", **WIDE)])
    report = extract(films, tmp_path / "joined.h5", joined)
    assert report.done == ("a", "b") and not report.failed
    shares: list[float] = []
    how = {"batch_clips": 3, "workers": 1, "device": torch.device("cpu"), "dtype": torch.float32}
    assert len(list(joined.encode(films, ClipPlan(**CLIPS.model_dump()), report=shares.append, **how))) == 2
    # Five snippets by three, of each encoder, of each of two videos: a bar moves within a video.
    assert shares == pytest.approx(2 * [0.6, 1.0])
    extract(films, tmp_path / "one.h5", Encoders("one", first, "aa"))
    extract(films, tmp_path / "two.h5", Encoders("two", second, "bb"), CLIPS.model_copy(update=WIDE))
    caches = [FeatureCache(tmp_path / f"{name}.h5") for name in ("joined", "one", "two")]
    for video_id in films:
        found, one, two = (cache.read(video_id) for cache in caches)
        assert found.shape == (5, 2 * 576) and not np.array_equal(one, two)
        assert np.array_equal(found, np.concatenate([one, two], axis=1))
        meta = caches[0].meta(video_id)
        assert (meta.encoder, meta.weights_sha256) == ("one+two", "aa+bb")
        also = {"name": "two", "weights_sha256": "bb", "resize": [48, 27], "crop": [48, 27]}
        assert meta.transform["also"] == [also] and meta.transform["crop"] == 32


def test_a_video_is_decoded_once_for_all_encoders(
    films: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    to_rgb = VideoFile.to_rgb
    monkeypatch.setattr(
        VideoFile, "to_rgb", lambda self, frame, *size: (decoded.append(size), to_rgb(self, frame, *size))[1]
    )
    opened = []
    decode_all = VideoFile.decode_all
    monkeypatch.setattr(VideoFile, "decode_all", lambda self: (opened.append(self.path), decode_all(self))[1])
    extract(films, tmp_path / "one.h5", Encoders("one", encoder(0), "aa"))
    frames, passes = len(decoded), len(opened)
    decoded.clear(), opened.clear()
    same = {"resize": (40, 32), "crop": 16}  # the first one's size, of which another part is cut out
    two, three = (FurtherEncoder(name, encoder(0), name, **how) for name, how in (("two", WIDE), ("three", same)))
    extract(films, tmp_path / "all.h5", Encoders("one", encoder(0), "aa", [two, three]))
    assert len(opened) == passes
    assert decoded.count((40, 32)) == decoded.count((48, 27)) == frames > 0


def test_a_video_that_fails_does_so_once_and_the_others_go_on(films: dict[str, Path], tmp_path: Path) -> None:
    films["a"].write_bytes(b"no video")
    joined = Encoders("one", encoder(0), "aa", [FurtherEncoder("two", encoder(1), "bb", **WIDE)])
    report = extract(films, tmp_path / "joined.h5", joined)
    assert report.done == ("b",) and [failure.video_id for failure in report.failed] == ["a"]


def test_a_cache_knows_every_encoder_that_made_it(films: dict[str, Path], tmp_path: Path) -> None:
    first, second = encoder(0), encoder(1)
    alone, cache = {"a": films["a"]}, tmp_path / "joined.h5"
    extract(alone, cache, Encoders("one", first, "aa", [FurtherEncoder("two", second, "bb", **WIDE)]))
    for further, said in (
        ([], r"has encoder 'one', but video 'a' has 'one\+two'"),
        ([FurtherEncoder("two", second, "cc", **WIDE)], r"weights_sha256 'aa\+cc'"),
        ([FurtherEncoder("two", second, "bb", resize=(48, 27), crop=16)], "has transform"),
    ):
        other = Encoders("one", first, "aa", further)
        with pytest.raises(EtadError, match=said):
            extract(films, cache, other)
        extract({"b": films["b"]}, tmp_path / "other.h5", other)
        with pytest.raises(EtadError, match="a cache holds features of one kind"):
            merge(tmp_path / "both.h5", [cache, tmp_path / "other.h5"])
        (tmp_path / "other.h5").unlink()


def test_a_further_encoder_may_see_some_frames_of_each_clip(films: dict[str, Path], tmp_path: Path) -> None:
    first, second = encoder(0), encoder(1)
    further = FurtherEncoder("two", second, "bb", **WIDE, frames=2)
    assert further.seen_frames(10) == [2, 7] and further.seen_frames(4) == [1, 3] and further.seen_frames(2) is None
    extract(films, tmp_path / "joined.h5", Encoders("one", first, "aa", [further]))
    cache = FeatureCache(tmp_path / "joined.h5")
    assert cache.meta("a").transform["also"][0]["frames"] == 2
    # The same by hand: pictures 1 and 3 of each clip of four, through the second encoder alone.
    plan = ClipPlan(**CLIPS.model_copy(update=WIDE).model_dump())
    (batch,) = clip_batches({"a": films["a"]}, plan, batch_clips=8, workers=0)
    assert isinstance(batch, ClipBatch)
    with torch.inference_mode():
        expected = encode_clips(second.eval(), torch.from_numpy(batch.clips[:, [1, 3]]), torch.float32)
    found = cache.read("a")[:, first.channels :]
    assert torch.allclose(torch.as_tensor(found), expected, atol=1e-5)
