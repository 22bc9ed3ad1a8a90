"""SIGTERM and SIGINT end a run with one sentence and a status of their own; what is left goes on."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import miniature
import pytest
import torch

from etad.data.checkpoint import load_checkpoint, save_checkpoint
from etad.data.files.atomic import TEMPORARY_PREFIX
from etad.data.interrupts import holding_signals, received_signal, watching_signals
from etad.detect.loop import run_training
from etad.pipeline.cli import main as cli


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "etad", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def detect(folder: Path, *sets: str) -> list[str]:
    return [
        "detect",
        "-o",
        str(folder),
        "--annotations",
        str(folder / "annotations.json"),
        *miniature.set_options(*sets),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "to_group"), [(0, False), (1, True)])
def test_sigterm_ends_training_with_a_checkpoint_a_sentence_and_status_143(
    tmp_path: Path, workers: int, to_group: bool
) -> None:
    # A batch system's warning may reach the processes that read ahead, too.
    miniature.make(tmp_path)
    sets = ["detect.training.epochs=100000", f"workers={workers}", "detect.training.checkpoint_seconds=10000"]
    process = start(*detect(tmp_path, *sets, *(["detect.training.memory_gib=0"] if workers else [])))
    log, last = tmp_path / "detect" / "log.jsonl", tmp_path / "detect" / "checkpoints" / "last.pt"
    wait_for(log.exists, process)
    (os.killpg if to_group else os.kill)(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 143, said
    assert "etad: terminated; the same command goes on from here." in said
    assert "Traceback" not in said
    position = load_checkpoint(last)["position"]
    assert position["epoch"] >= len(log.read_text().splitlines()) - 1
    assert not list(tmp_path.rglob(TEMPORARY_PREFIX + "*"))
    assert not list(tmp_path.glob(".*.lock"))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.15, 0.6, 1.2])
def test_a_signal_while_libraries_are_imported_leaves_no_traceback(tmp_path: Path, seconds: float) -> None:
    process = start(*detect(tmp_path, "detect.training.epochs=1"))
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    # 2: it was quicker, and found no annotations; -2: and was just leaving.
    assert process.returncode in (130, 2, -signal.SIGINT), said
    assert "Traceback" not in said


def test_a_signal_within_an_import_ends_the_run_once_the_import_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a library written in C++ does, which an exception of a signal ends with "terminate called".
    (tmp_path / "brittle.py").write_text(
        "import os, signal, time\n"
        "is_whole = False\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "time.sleep(0.2)\n"
        "is_whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt), watching_signals():
        importlib.import_module("brittle")
        time.sleep(5)
    assert sys.modules["brittle"].is_whole and received_signal() == signal.SIGINT


class Counting:
    """A training whose steps count, and which is told to end by a signal to its own process."""

    num_steps = 5

    def __init__(self, at: str) -> None:
        self.at, self.position, self.saved, self.ended = at, 0, [], False

    @property
    def is_done(self) -> bool:
        return self.ended

    def _reach(self, place: str) -> None:
        if place == self.at:
            os.kill(os.getpid(), signal.SIGTERM)

    def epoch_batches(self):
        for number in range(self.position, self.num_steps):
            self._reach(f"read {number}")
            yield number

    def step(self, batch: int) -> float:
        self._reach(f"step {batch}")
        self.position += 1
        self._reach(f"stepped {batch}")
        return 0.0

    def end_epoch(self, *, seconds: float, steps: int) -> None:
        self._reach("end")
        self.ended = True

    def save(self) -> None:
        self.saved.append(self.position)


@pytest.mark.parametrize(
    ("at", "saved"), [("read 2", [3]), ("step 2", [3]), ("stepped 2", [3]), ("step 4", [5]), ("end", [])]
)
def test_a_step_is_finished_and_saved_before_a_signal_ends_the_training(
    monkeypatch: pytest.MonkeyPatch, at: str, saved: list[int]
) -> None:
    training = Counting(at)

    def train(**_: object) -> None:
        run_training(training, checkpoint_seconds=1e9, progress=lambda *_: None)

    monkeypatch.setattr(cli.cli, "main", train)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.run([]) == 143
    assert training.saved == saved
    assert signal.getsignal(signal.SIGTERM) is before
    # The same again goes on, to its end.
    training.at = ""
    assert cli.run([]) == 0
    assert (training.position, training.ended) == (5, True)


def test_a_second_signal_does_not_wait_for_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Counting("step 1")
    monkeypatch.setattr(training, "_reach", lambda place: [os.kill(os.getpid(), signal.SIGTERM) for _ in range(2)])
    monkeypatch.setattr(cli.cli, "main", lambda **_: run_training(training, checkpoint_seconds=1e9, progress=print))
    assert cli.run([]) == 143
    assert training.position == 0


def test_a_step_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etad.data.interrupts._PATIENCE_SECONDS", 0.05)
    training = Counting("step 0")
    monkeypatch.setattr(training, "step", lambda batch: (training._reach("step 0"), time.sleep(20)))
    monkeypatch.setattr(cli.cli, "main", lambda **_: run_training(training, checkpoint_seconds=1e9, progress=print))
    started = time.monotonic()
    assert cli.run([]) == 143
    assert time.monotonic() - started < 5
    assert training.saved == [0]  # the state before it


def test_what_a_step_changes_is_changed_whole_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Counting("")

    def step(batch: int) -> float:
        with holding_signals():
            for _ in range(4):
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            training.position += 1
        raise AssertionError("it ends after what it changes")

    monkeypatch.setattr(training, "step", step)
    monkeypatch.setattr(cli.cli, "main", lambda **_: run_training(training, checkpoint_seconds=1e9, progress=print))
    assert cli.run([]) == 143
    assert (training.position, training.saved) == (1, [1])


def test_a_checkpoint_is_saved_whole_whatever_comes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = torch.save

    def interrupted(*arguments: object) -> None:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        write(*arguments)

    monkeypatch.setattr(torch, "save", interrupted)
    with watching_signals(), pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "last.pt", {"weights": torch.ones(3)})
    assert torch.equal(load_checkpoint(tmp_path / "last.pt")["weights"], torch.ones(3))


def test_patience_ends_with_the_signal_that_did_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etad.data.interrupts._PATIENCE_SECONDS", 0.05)
    training = Counting("")

    def step(batch: int) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    def save() -> None:
        time.sleep(0.2)  # longer than the patience
        training.saved.append(training.position)

    monkeypatch.setattr(training, "step", step)
    monkeypatch.setattr(training, "save", save)
    monkeypatch.setattr(cli.cli, "main", lambda **_: run_training(training, checkpoint_seconds=1e9, progress=print))
    assert cli.run([]) == 143
    assert training.saved == [0]


def test_what_a_killed_run_left_goes_at_the_next_one(tmp_path: Path) -> None:
    miniature.make(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    name = f"{TEMPORARY_PREFIX}{socket.gethostname()[:64]}-{gone.pid}-00000000"
    places = [tmp_path, tmp_path / "detect", tmp_path / "detect" / "checkpoints", tmp_path / "plots"]
    for place in places:
        place.mkdir(exist_ok=True)
        (place / name).write_bytes(b"half")
    assert cli.run(detect(tmp_path, "detect.training.epochs=1")) == 0
    assert not list(tmp_path.rglob(TEMPORARY_PREFIX + "*"))


def test_an_empty_folder_of_parts_goes_unless_it_was_made_just_now(tmp_path: Path) -> None:
    from etad.data.cache.parts import parts_folder
    from etad.pipeline.run_folder import RunFolder

    run = RunFolder(tmp_path)
    parts = parts_folder(run.cache)
    parts.mkdir()
    with run.hold("extract"):
        assert parts.exists()
    os.utime(parts, (1, 1))
    with run.hold("extract"):
        assert not parts.exists()
