"""Training logs as TensorBoard events: the same figures, each epoch once, and a sentence without the extra."""

import json
from pathlib import Path

import miniature
import pytest
from miniature import complaint

from etad.detect.run_state import TrainingFiles
from etad.pipeline import events
from etad.pipeline.cli.main import run


def lines(*losses: float) -> str:
    epochs = enumerate(losses, start=1)
    return "".join(
        json.dumps({"epoch": n, "lr": 0.1, "train": {"loss": x}, "val_loss": None}) + "\n" for n, x in epochs
    )


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {
        name: [(each.step, round(each.value, 4)) for each in found.Scalars(name)] for name in found.Tags()["scalars"]
    }


def test_epochs_are_written_once_and_what_a_kill_undid_is_not_written_twice(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = TrainingFiles(tmp_path).log
    log.write_text(lines(3.0))
    first = events.TrainingEvents(TrainingFiles(tmp_path))
    first.update()
    log.write_text(lines(3.0, 2.0))
    first.update()
    first.update()
    assert read(first.folder) == {"lr": [(1, 0.1), (2, 0.1)], "train/loss": [(1, 3.0), (2, 2.0)]}
    log.write_text(lines(3.0, 2.5))  # the second epoch was killed before its checkpoint, and comes again
    events.TrainingEvents(TrainingFiles(tmp_path)).update()
    assert read(first.folder)["train/loss"] == [(1, 3.0), (2, 2.5)]


def test_training_writes_what_its_log_holds(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    _, annotations = miniature.make(tmp_path, num_videos=9)
    options = miniature.set_options("detect.training.epochs=1")
    command = ["detect", "-o", str(tmp_path), "--annotations", str(annotations), *options]
    assert run([*command, "--set", "tensorboard=true"]) == 0
    logged = [json.loads(line) for line in (tmp_path / "detect/log.jsonl").read_text().splitlines()]
    found = read(tmp_path / "detect/events")
    assert found["train/loss"] == [(line["epoch"], round(line["train"]["loss"], 4)) for line in logged]
    assert {"lr", "seconds"} <= set(found)


def test_a_missing_extra_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    _, annotations = miniature.make(tmp_path, num_videos=9)
    command = ["detect", "-o", str(tmp_path), "--annotations", str(annotations), *miniature.set_options()]
    assert "pip install 'etad[tensorboard]'" in complaint([*command, "--set", "tensorboard=true"], capsys)
    assert not (tmp_path / "detect").exists()
