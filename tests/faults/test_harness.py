"""Kills over all stages and damaged bytes of a detector's run, seeded: nothing is lost, wrong, or a traceback.

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
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import miniature
import miniature_e2e
import pytest
import torch

from etad.data.cache.cache import FeatureCache
from etad.data.checkpoint import load_checkpoint
from etad.data.digest import tensors_digest
from etad.pipeline.cli import main as cli
from etad.pipeline.show.report import table

SEED, KILLS, FLIPS = (
    int(os.environ.get(f"ETAD_FAULT_{name}", few)) for name, few in [("SEED", 0), ("KILLS", 2), ("FLIPS", 1)]
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
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "etad", *detect(folder)], check=True, capture_output=True, env=alone)
    return folder


def chain(folder: Path) -> list[str]:
    """All stages that train or encode, in one call, on videos."""
    sets = ["pretrain.source=synthetic", "pretrain.steps=12", "pretrain.batch_clips=4", "pretrain.held_out_clips=4"]
    sets += [f"{stage}.checkpoint_seconds=1e-9" for stage in ("pretrain", "detect.training", "e2e")]
    return [*miniature_e2e.options(folder / "annotations.json", folder, *sets), "pretrain", "extract", "detect", "e2e"]


def outcome_of_chain(folder: Path) -> tuple[object, ...]:
    """Digests of all weights and features, and the detections of both stages."""
    encoder = load_checkpoint(folder / "pretrain" / "encoder.pt")["encoder"]
    states = [load_checkpoint(folder / stage / "checkpoints" / "last.pt") for stage in ("detect", "e2e")]
    with FeatureCache(folder / "features.h5") as cache:
        features = {id: torch.from_numpy(cache.read(id)) for id in cache.ids}
    return (
        *(tensors_digest(each) for each in (encoder, features, states[0]["model"], states[1]["model"])),
        tensors_digest(states[1]["encoder"]),
        *((folder / stage / "detections.json").read_bytes() for stage in ("detect", "e2e")),
    )


@pytest.mark.slow
@pytest.mark.parametrize("what", ["detect", "pretrain, extract, detect, e2e"])
def test_killed_at_any_moment_the_same_command_comes_to_the_same(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, came_to, make = (
        (detect, outcome, miniature.make) if what == "detect" else (chain, outcome_of_chain, miniature_e2e.make)
    )
    # In processes of one thread each: sums in another number of threads round otherwise.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")

    def command(name: str) -> tuple[Path, list[str]]:
        folder = Path(shutil.copytree(tmp_path / "data", tmp_path / name))
        return folder, [sys.executable, "-m", "etad", *words(folder)]

    whole, begin = command("undisturbed")
    started = time.monotonic()
    subprocess.run(begin, check=True, capture_output=True)
    seconds, expected = time.monotonic() - started, came_to(whole)
    chance, tally = random.Random(SEED), Tally(f"SIGKILL in {what}")
    for number in range(KILLS):
        folder, begin = command(str(number))
        tally.tried += 1
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(begin, **quiet) as process:
            try:
                process.wait(chance.uniform(0.1, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        try:
            done = subprocess.run(begin, capture_output=True, text=True, timeout=HANGS_AFTER_SECONDS)
        except subprocess.TimeoutExpired:
            tally.hangs += 1
            continue
        if "Traceback" in done.stderr or done.returncode == 70:
            tally.tracebacks += 1
        elif done.returncode != 0:
            tally.lost += 1
        elif came_to(folder) != expected:
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
