"""Kills and damaged bytes over the detect stage, seeded: nothing is lost, wrong, or a traceback.

ETAD_FAULT_SEED, ETAD_FAULT_KILLS and ETAD_FAULT_FLIPS (of each kind of file) say what is tried; `make faults` tries
more.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import miniature
import pytest

from etad.data.checkpoint import load_checkpoint
from etad.data.digest import tensors_digest
from etad.pipeline.cli import main as cli
from etad.pipeline.show.report import table

SEED, KILLS, FLIPS = (
    int(os.environ.get(f"ETAD_FAULT_{name}", few)) for name, few in [("SEED", 0), ("KILLS", 3), ("FLIPS", 1)]
)
HANGS_AFTER_SECONDS = 120


@dataclass
class Tally:
    """What became of the faults of one kind; all but the first two must be 0."""

    fault: str
    tried: int = 0
    survived: int = 0
    lost: int = 0
    tracebacks: int = 0
    hangs: int = 0
    wrong: int = 0

    def require_survival(self) -> None:
        print("\n" + table([astuple(self)], heads=[field.name for field in fields(self)]))
        assert (self.lost, self.tracebacks, self.hangs, self.wrong) == (0, 0, 0, 0)
        assert self.survived == self.tried > 0


def detect(folder: Path) -> list[str]:
    options = miniature.set_options("detect.labels.source=classifier", "workers=0")
    return ["detect", "-o", str(folder), "--annotations", str(folder / "annotations.json"), *options]


def outcome(folder: Path) -> tuple[str, bytes]:
    """Digest of the final weights, and the detections."""
    weights = load_checkpoint(folder / "detect" / "checkpoints" / "last.pt")["model"]
    return tensors_digest(weights), (folder / "detect" / "detections.json").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    miniature.make(folder)
    # In a process of its own, as those that are killed: sums in another number of threads round otherwise.
    os.environ["OMP_NUM_THREADS"] = "1"
    subprocess.run([sys.executable, "-m", "etad", *detect(folder)], check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_comes_to_the_same(undisturbed: Path, tmp_path: Path) -> None:
    chance, tally = random.Random(SEED), Tally("SIGKILL in detect")
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("features.h5", "annotations.json"):
            shutil.copy(undisturbed / name, folder / name)
        tally.tried += 1
        command = [sys.executable, "-m", "etad", *detect(folder)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, **quiet) as process:
            try:
                process.wait(chance.uniform(1.0, 8.0))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_AFTER_SECONDS)
        except subprocess.TimeoutExpired:
            tally.hangs += 1
            continue
        if "Traceback" in done.stderr or done.returncode == 70:
            tally.tracebacks += 1
        elif done.returncode != 0:
            tally.lost += 1
        elif outcome(folder) != outcome(undisturbed):
            tally.wrong += 1
        else:
            tally.survived += 1
    tally.require_survival()


@pytest.mark.slow
def test_a_flipped_bit_in_any_file_of_a_run_is_said_or_changes_nothing(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    chance, tally, expected = random.Random(SEED), Tally("flipped bits"), outcome(undisturbed)
    names = [path.relative_to(undisturbed) for path in sorted(undisturbed.rglob("*")) if path.is_file()]
    kinds = [name for name in names if name.name != "annotations.json" and name.suffix != ".png"]
    assert {".h5", ".pt", ".toml", ".json", ".jsonl"} <= {name.suffix for name in kinds}

    def hang(*_: object) -> None:
        raise TimeoutError

    bad = []
    before = signal.signal(signal.SIGALRM, hang)
    for name in kinds * FLIPS:
        folder = tmp_path / "run"
        shutil.copytree(undisturbed, folder)
        content = bytearray((folder / name).read_bytes())
        place = chance.randrange(len(content))
        content[place] ^= 1 << chance.randrange(8)
        (folder / name).write_bytes(content)
        tally.tried += 1
        signal.alarm(HANGS_AFTER_SECONDS)
        status = cli.run(detect(folder))
        signal.alarm(0)
        said = capsys.readouterr().err
        if "TimeoutError" in said:
            tally.hangs += 1
        elif status == 70 or "Traceback" in said:
            tally.tracebacks += 1
        elif status == 0 and outcome(folder)[1] != expected[1]:
            tally.wrong += 1
        else:
            tally.survived += 1
            shutil.rmtree(folder)
            continue
        bad.append(f"{name}, byte {place}: {said.splitlines()[-1:]}")
        shutil.rmtree(folder)
    signal.signal(signal.SIGALRM, before)
    with capsys.disabled():
        print("", *bad, sep="\n")
        tally.require_survival()
