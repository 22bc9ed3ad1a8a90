"""The stage `detect`: what it takes from the config, and what from a checkpoint."""

import json
from pathlib import Path

import miniature
import pytest
import torch

from etad.data.cache.cache import FeatureCache, pack, write_part
from etad.data.checkpoint import load_checkpoint, save_checkpoint
from etad.pipeline.cli.main import run
from etad.pipeline.run_folder import RunFolder


def test_a_checkpoint_infers_in_the_dtype_that_the_config_names(tmp_path: Path) -> None:
    cache, annotations = miniature.make(tmp_path)
    trained, again = tmp_path / "trained", tmp_path / "again"
    checkpoint = ["--no-train", "--checkpoint", str(trained / "detect" / "checkpoints" / "last.pt")]

    def detections(folder: Path, precision: str, *more: str) -> bytes:
        options = miniature.set_options("detect.training.epochs=1", f"detect.precision={precision}")
        data = ["--features", str(cache), "--annotations", str(annotations)]
        assert run(["detect", "-o", str(folder), *data, *options, *more]) == 0
        return (folder / "detect" / "detections.json").read_bytes()

    whole = detections(trained, "float32")
    assert detections(again, "bfloat16", *checkpoint) != whole
    assert detections(again, "float32", *checkpoint) == whole


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """Options that name a cache and its annotations, of which two videos are set apart for validation."""
    cache, annotations = miniature.make(tmp_path)
    tree = json.loads(annotations.read_text())
    for id in ("v00", "v01"):
        tree["database"][id]["subset"] = "apart"
    annotations.write_text(json.dumps(tree))
    return ["--features", str(cache), "--annotations", str(annotations)]


def detect(data: list[str], out: Path, *sets: str, more: tuple[str, ...] = ()) -> int:
    return run(["detect", "-o", str(out), *data, *miniature.set_options(*sets), *more])


def model(out: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_checkpoint(out / "detect" / "checkpoints" / f"{name}.pt")["model"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_more_epochs_go_on_to_what_they_would_have_come_to_at_once(
    data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect(data, tmp_path / "parts", "detect.training.epochs=1") == 0
    assert detect(data, tmp_path / "parts", "detect.training.epochs=3") == 0
    assert "training went on from" in capsys.readouterr().out
    assert detect(data, tmp_path / "whole", "detect.training.epochs=3") == 0
    assert same(model(tmp_path / "parts"), model(tmp_path / "whole"))
    for name in ("detections.json", "metrics.json"):
        assert (tmp_path / "parts/detect" / name).read_bytes() == (tmp_path / "whole/detect" / name).read_bytes()
    assert detect(data, tmp_path / "whole", "detect.training.epochs=2") == 2
    assert "trained for 3 epochs" in capsys.readouterr().err


def test_a_change_of_inference_does_inference_again_and_nothing_else(
    data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect(data, tmp_path / "run") == 0
    folder = tmp_path / "run" / "detect"
    trained = (folder / "checkpoints" / "last.pt").read_bytes()
    detections, raw = (folder / "detections.json").read_bytes(), (folder / "raw.h5").read_bytes()
    for changed, from_raw in (("detect.inference.sigma=0.9", True), ("detect.sampling.inference_ratio=0.3", False)):
        capsys.readouterr()
        assert detect(data, tmp_path / "run", changed) == 0
        printed = capsys.readouterr().out
        assert "training skipped" in printed and ("inference skipped" in printed) == from_raw
        assert (folder / "checkpoints" / "last.pt").read_bytes() == trained
        assert (folder / "detections.json").read_bytes() != detections
        assert ((folder / "raw.h5").read_bytes() == raw) == from_raw
    # What a call told is known to the run from then on; told otherwise, all is as it was.
    assert detect(data, tmp_path / "run", "detect.inference.sigma=0.35", "detect.sampling.inference_ratio=1") == 0
    assert (folder / "detections.json").read_bytes() == detections


def test_the_best_checkpoint_is_chosen_on_videos_set_apart_and_never_on_tested_ones(
    data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def losses(out: Path) -> list[float | None]:
        return [json.loads(line)["val_loss"] for line in (out / "detect/log.jsonl").read_text().splitlines()]

    plain, chosen = tmp_path / "plain", tmp_path / "chosen"
    assert detect(data, plain) == 0
    assert losses(plain) == [None, None]
    assert detect(data, chosen, "data.validation_subset=apart") == 0
    measured = losses(chosen)
    assert all(measured)
    state = load_checkpoint(chosen / "detect/checkpoints/last.pt")["position"]
    assert (state["best_loss"], state["best_of"]) == (min(each for each in measured if each), "validation")
    assert same(model(plain), model(chosen))
    for subset, key in (("validation", "test_subset"), ("train", "train_subset")):
        assert detect(data, tmp_path / "refused", f"data.validation_subset={subset}") == 2
        assert f"is data.{key}, too" in capsys.readouterr().err


def test_two_that_detect_in_one_folder_take_turns_or_one_is_refused(
    data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert detect(data, out) == 0
    last = str(out / "detect" / "checkpoints" / "last.pt")
    with RunFolder(out).hold("detect"):
        assert detect(data, out) == 2
        assert detect(data, out, more=("--no-train", "--checkpoint", last)) == 2
    assert capsys.readouterr().err.count("holds this lock") == 2
    assert detect(data, out, more=("--no-train", "--checkpoint", last)) == 0


def test_detections_follow_the_measured_duration_and_the_contradiction_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, annotations = miniature.make(tmp_path)
    tree = json.loads(annotations.read_text())
    wrong = tmp_path / "wrong.json"
    for video in tree["database"].values():
        video["duration"] *= 1.25
    wrong.write_text(json.dumps(tree))

    def detections(folder: str, annotated: Path) -> bytes:
        words = ["--features", str(cache), "--annotations", str(annotated)]
        options = miniature.set_options("detect.training.epochs=1")
        assert run(["detect", "-o", str(tmp_path / folder), *words, *options]) == 0
        return (tmp_path / folder / "detect" / "detections.json").read_bytes()

    expected = detections("right", annotations)
    assert "annotated duration" not in capsys.readouterr().out
    assert detections("wrong", wrong) == expected
    out = capsys.readouterr().out
    assert "training: 8 annotated durations are not the measured one, which counts: v00 (" in out
    assert "validation: 4 annotated durations are not the measured one, which counts: v08 (" in out


def test_a_checkpoint_infers_again_by_the_kernels_that_the_config_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, annotations = miniature.make(tmp_path)

    def scores(kernels: str) -> list[float]:
        options = miniature.set_options(
            "detect.training.epochs=1", "detect.precision=float32", f"detect.kernels={kernels}"
        )
        data = ["--features", str(cache), "--annotations", str(annotations)]
        assert run(["detect", "-o", str(tmp_path / "run"), *data, *options]) == 0
        found = json.loads((tmp_path / "run" / "detect" / "detections.json").read_text())["results"]
        return sorted(each["score"] for video in found.values() for each in video)

    fast = scores("fast")
    capsys.readouterr()
    assert scores("reference") == pytest.approx(fast, abs=1e-3)
    assert "inference skipped" not in capsys.readouterr().out
    scores("reference")
    assert "inference skipped" in capsys.readouterr().out


def test_a_branch_that_the_detector_does_not_have_is_refused(
    data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect(data, tmp_path / "run", "detect.labels.source=classifier") == 0
    last = str(tmp_path / "run" / "detect" / "checkpoints" / "last.pt")
    assert detect(data, tmp_path / "again", more=("--no-train", "--checkpoint", last)) == 2
    assert "this detector was trained without a class branch" in capsys.readouterr().err


def test_features_of_other_weights_or_frames_than_trained_on_are_refused_with_both(
    data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect(data, tmp_path / "run") == 0
    capsys.readouterr()
    checkpoint = ["--no-train", "--checkpoint", str(tmp_path / "run/detect/checkpoints/last.pt")]
    other = tmp_path / "other.h5"
    for id in FeatureCache(data[1]).ids:
        features = FeatureCache(data[1]).read(id)
        write_part(other, id, features, miniature.meta(30.0, weights_sha256="1" * 64), "float16")
    pack(other)
    options = miniature.set_options()
    words = ["detect", "-o", str(tmp_path / "again"), "--features", str(other), *data[2:], *options, *checkpoint]
    said = miniature.complaint(words, capsys)
    assert "0" * 64 in said and "1" * 64 in said and str(other) in said

    state = load_checkpoint(checkpoint[-1])
    state["source"]["weights_sha256"], state["source"]["transform"] = (
        "1" * 64,
        json.dumps({"interpolation": "cubic", "mode": 1}),
    )
    save_checkpoint(tmp_path / "third" / "checkpoints" / "last.pt", state)
    third = tmp_path / "third.h5"
    meta = miniature.meta(30.0, weights_sha256="1" * 64, transform={"interpolation": "bilinear"})
    write_part(third, "v00", FeatureCache(other).read("v00"), meta, "float16")
    pack(third)
    words = [*words[:4], str(third), *words[5:-1], str(tmp_path / "third/checkpoints/last.pt")]
    said = miniature.complaint(words, capsys)
    assert "interpolation=bilinear" in said and "interpolation=cubic" in said


def test_what_an_end_to_end_training_lacked_is_said_where_its_checkpoint_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, annotations = miniature.make(tmp_path)
    sets = [part for each in (*miniature.SETS, "detect.training.epochs=1") for part in ("--set", each)]
    given = ["--features", str(features), "--annotations", str(annotations), *sets]
    assert run(["detect", "-o", str(tmp_path / "a"), *given]) == 0
    checkpoint = tmp_path / "a" / "detect" / "checkpoints" / "last.pt"
    state = load_checkpoint(checkpoint)
    infer = ["detect", "-o", str(tmp_path / "b"), *given, "--no-train", "--checkpoint", str(checkpoint)]
    capsys.readouterr()
    save_checkpoint(checkpoint, state | {"lost_ticks": {"v01": [3, 4], "v02": [], "v03": [1]}})
    assert run(infer) == 0
    said = "trained on 2 videos of which frames could not be decoded (v01: 2, v03: 1)"
    assert said in "".join(capsys.readouterr())
    save_checkpoint(checkpoint, state | {"lost_ticks": {"v01": 3}})
    assert run(infer) == 2
    assert "does not fit" in capsys.readouterr().err
