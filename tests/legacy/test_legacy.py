"""What an old version left on disk opens, goes on and infers the same; `make_run.py` says what the archive holds."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from etad.data.checkpoint import load_checkpoint
from etad.pipeline.cli import main as cli

ARCHIVE = Path(__file__).parent / "6b116ad.tar.xz"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, unpacked; tests copy the run that they change."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.11 before 3.11.4 has no filters.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


def test_the_cache_is_sound_and_nothing_of_it_is_extracted_again(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _copy(old / "run_done", tmp_path)
    assert cli.run(["verify", str(run / "features.h5")]) == 0
    assert "8 videos, all sound" in capsys.readouterr().out
    assert _etad(old, run, "extract") == 0
    assert "0 videos extracted, 8 there already, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["detect", "e2e"])
def test_detections_measure_as_they_did(old: Path, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    detections = old / "run_done" / stage / "detections.json"
    words = ["evaluate", str(detections), "--annotations", str(old / "annotations.json")]
    assert cli.run(["-c", str(old / "run_done" / "config.toml"), *words, "--json"]) == 0
    _check_metrics(json.loads(capsys.readouterr().out), _read(old / "expected" / "done" / stage / "metrics.json"))


def test_a_finished_pretraining_is_not_done_again(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _copy(old / "run_done", tmp_path)
    assert _etad(old, run, "pretrain") == 0
    assert capsys.readouterr().out.rstrip().endswith("done before")


@pytest.mark.parametrize("stage", ["detect", "e2e"])
def test_a_finished_training_is_skipped_and_its_detections_stay(
    old: Path, tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _copy(old / "run_done", tmp_path)
    assert _etad(old, run, stage) == 0
    printed = capsys.readouterr().out
    assert f"training skipped: {run / stage / 'checkpoints' / 'last.pt'} is done" in printed
    _check_results(run / stage, old / "expected" / "done" / stage)


def test_a_trained_detector_infers_the_same_elsewhere(old: Path, tmp_path: Path) -> None:
    assert _infer(old, tmp_path / "run", old / "run_done" / "features.h5") == 0
    _check_results(tmp_path / "run" / "detect", old / "expected" / "done" / "detect")


def test_features_extracted_anew_with_the_encoder_detect_the_same(old: Path, tmp_path: Path) -> None:
    encoder, run = old / "run_done" / "pretrain" / "encoder.pt", tmp_path / "run"
    assert _etad(old, run, "extract", "--weights", str(encoder), config=old / "run_done" / "config.toml") == 0
    assert _infer(old, run, run / "features.h5") == 0
    _check_results(run / "detect", old / "expected" / "done" / "detect")


def test_a_tuned_encoder_and_its_detector_infer_the_same(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _copy(old / "run_done", tmp_path)
    for name in ("detections.json", "metrics.json", "raw.h5", "inference.json"):
        (run / "e2e" / name).unlink()
    assert _etad(old, run, "e2e") == 0
    printed = capsys.readouterr().out
    assert "training skipped" in printed and "inference skipped" not in printed
    _check_results(run / "e2e", old / "expected" / "done" / "e2e")


def test_an_interrupted_pretraining_goes_on_to_the_same_end(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, expected = _copy(old / "run_interrupted" / "pretrain", tmp_path), old / "expected" / "interrupted" / "pretrain"
    assert _etad(old, run, "pretrain") == 0
    assert "done before" not in capsys.readouterr().out
    assert not (run / "pretrain" / "last.pt").exists()
    _check_encoder(run / "pretrain" / "encoder.pt", expected)
    found, wanted = _read(run / "pretrain" / "metrics.json"), _read(expected / "metrics.json")
    assert found["labels"] == wanted["labels"] and found["chance"] == wanted["chance"]
    assert found["accuracy"] == pytest.approx(wanted["accuracy"], abs=1 / 32 + 1e-9)  # one clip of them all


@pytest.mark.parametrize("stage", ["detect", "e2e"])
def test_an_interrupted_training_goes_on_to_the_same_end(
    old: Path, tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, expected = _copy(old / "run_interrupted" / stage, tmp_path), old / "expected" / "interrupted" / stage
    assert _etad(old, run, stage) == 0
    assert f"{run / stage / 'checkpoints' / 'last.pt'} (epoch 2, step 2)" in capsys.readouterr().out
    _check_log(run / stage / "log.jsonl", expected / "log.jsonl")
    _check_results(run / stage, expected)
    if stage == "e2e":
        _check_encoder(run / "e2e" / "encoder.pt", expected)


def _copy(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


def _etad(old: Path, run: Path, *words: str, config: Path | None = None) -> int:
    """Run a stage with a run's own config; only the data lie elsewhere."""
    data = [f"data.annotations={old / 'annotations.json'}", f"data.videos={old / 'videos'}"]
    sets = [word for each in data for word in ("--set", each)]
    return cli.run(["-c", str(config or run / "config.toml"), "-o", str(run), *sets, *words])


def _infer(old: Path, run: Path, features: Path) -> int:
    config, checkpoint = old / "run_done" / "config.toml", old / "run_done" / "detect" / "checkpoints" / "last.pt"
    words = ["--no-train", "--checkpoint", str(checkpoint), "--features", str(features)]
    return _etad(old, run, "detect", *words, config=config)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _check_results(found: Path, expected: Path) -> None:
    """Compare detections and metrics; detections of nearly the same score may come in any order."""
    results, wanted = (_read(folder / "detections.json")["results"] for folder in (found, expected))
    assert results.keys() == wanted.keys() and all(wanted.values())
    for id, detections in wanted.items():
        left = list(results[id])
        for detection in detections:
            same = next((each for each in left if _is_same(each, detection)), None)
            assert same is not None, (id, detection)
            left.remove(same)
        assert not left, id
    _check_metrics(_read(found / "metrics.json"), _read(expected / "metrics.json"))


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (
        one["label"] == other["label"]
        and one["score"] == pytest.approx(other["score"], abs=1e-4)
        and one["segment"] == pytest.approx(other["segment"], abs=1e-3)
    )


def _check_metrics(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["videos"] == expected["videos"]
    assert found["average_mAP"] == pytest.approx(expected["average_mAP"], abs=1e-6)
    for name in ("mAP", "AR@AN", "per_class"):
        assert found[name] == pytest.approx(expected[name], abs=1e-6)


def _check_log(found: Path, expected: Path) -> None:
    """Compare all but the time that epochs took, and the loss on the test subset, which is not measured any more."""
    lines, wanted = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in (found, expected)
    )
    assert [line["epoch"] for line in lines] == [line["epoch"] for line in wanted]
    for one, other in zip(lines, wanted):
        assert one["train"] == pytest.approx(other["train"], rel=1e-3)
        for name in {"lr", "encoder_lr"} & other.keys():
            assert one[name] == pytest.approx(other[name], rel=1e-3)


def _check_encoder(found: Path, expected: Path) -> None:
    tensors, wanted = load_checkpoint(found)["encoder"], _read(expected / "tensors.json")
    sizes = {name: tensor.double().square().mean().sqrt().item() for name, tensor in tensors.items()}
    assert sizes == pytest.approx(wanted, rel=1e-3)
