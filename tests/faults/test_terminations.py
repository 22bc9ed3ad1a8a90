"""SIGTERM, a batch system's warning, to real commands: status 143, a sentence, and the same command goes on.

ETAD_FAULT_SEED and ETAD_FAULT_TERMINATIONS say what is tried; `make faults` tries more.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import chain
from faults.children import HANGS_AFTER_SECONDS, Ended
from faults.table import Tally, count

TERMINATIONS = count("TERMINATIONS", 1)
# More work than elsewhere, so that there is a middle of it.
SETS = {
    "extract": ("clips.num_snippets=200", "detect.num_snippets=200", "detect.max_duration=200"),
    "e2e": ("e2e.epochs=4", "detect.training.epochs=1"),
}
# What lies in the run folder once a stage is under way, and for how long it then is, at the least.
UNDER_WAY = {"extract": "features.h5.parts/*.h5", "e2e": "e2e/checkpoints/last.pt"}
_GOES_ON_SECONDS = 0.5
# Stage and number of processes; real commands take long to begin, so that the quick form tries one.
CASES = [("extract", 1), ("e2e", 1), ("extract", 2), ("e2e", 2)][
    : None if "ETAD_FAULT_TERMINATIONS" in os.environ else 1
]


def command(stage: str, folder: Path, processes: int) -> list[str]:
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    words = chain.words(folder, stage, sets=SETS[stage])
    return [sys.executable, "-m", *(launcher if processes > 1 else []), "etad", *words]


def start(words: list[str]) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    return subprocess.Popen(words, text=True, env=alone, start_new_session=True, **pipes)  # type: ignore[call-overload]


def end(process: subprocess.Popen[str], *allowed: int) -> Ended:
    try:
        said = process.communicate(timeout=HANGS_AFTER_SECONDS)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return Ended(None, process.communicate()[1])
    return Ended(process.returncode, said, (0, 1, 2, *allowed))


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "processes"), CASES)
def test_sigterm_leaves_with_status_143_and_the_same_command_goes_on_to_the_same(
    stage: str, processes: int, whole: chain.Undisturbed, tmp_path: Path
) -> None:
    data = chain.copy(whole.folder, tmp_path / "data")
    for later in ("e2e",) if stage == "e2e" else ("e2e", "detect"):
        shutil.rmtree(data / later)
    if stage == "extract":
        (data / "features.h5").unlink()
        (data / ".extract.toml").unlink()
    undisturbed = chain.copy(data, tmp_path / "undisturbed")
    ended = end(start(command(stage, undisturbed, processes)))
    assert ended.status == 0, ended.said
    expected = chain.came_to(undisturbed, (stage,))
    tally = Tally(f"SIGTERM in {stage}, {'torchrun' if processes > 1 else 'one process'}")
    chance = tally.chance
    for number in range(TERMINATIONS):
        folder = chain.copy(data, tmp_path / "run")
        process = start(command(stage, folder, processes))
        while process.poll() is None and not list(folder.glob(UNDER_WAY[stage])):
            time.sleep(0.005)
        time.sleep(chance.uniform(0, _GOES_ON_SECONDS))
        # A batch system warns every process of a job.
        os.killpg(process.pid, signal.SIGTERM)
        # torchrun tells of its own end by a traceback and a status of its own; what etad says stands before them.
        ended = end(process, 143)
        sentence = "etad: terminated; the same command goes on from here."
        note = f"{number}, status {ended.status}"
        is_right = ended.status == 143 if processes == 1 else ended.status != 0 and "our own error" not in ended.said
        if ended.status is None or not is_right or sentence not in ended.said:
            tally.add("hangs" if ended.status is None else "wrong", note, ended.said)
        else:
            again = end(start(command(stage, folder, processes)))
            tally.add_resumed(again, functools.partial(chain.came_to, folder, (stage,)), expected, note)
        shutil.rmtree(folder)
    tally.require_survival()
