"""SIGKILL at any moment: the same command comes to the same features, weights and detections.

ETAD_FAULT_SEED and ETAD_FAULT_KILLS say what is tried; `make faults` tries more.
"""

from __future__ import annotations

import functools
import shutil
import signal
from pathlib import Path

import pytest
from faults import chain
from faults.table import Tally, count

KILLS = count("KILLS", 2)
# What is killed, and its share of the kills.
JOBS = {
    "all stages in one call": 0.6,
    "end-to-end training": 0.1,
    "extraction": 0.1,
    "detection with a classifier": 0.2,
}


def job(name: str, videos: Path, whole: chain.Undisturbed, scratch: Path) -> chain.Undisturbed:
    if name == "all stages in one call":
        return whole
    if name == "extraction":
        encoded = chain.copy(videos, scratch / "data")
        shutil.copytree(whole.folder / "pretrain", encoded / "pretrain")
        return chain.undisturbed(encoded, scratch / "whole", ("extract",))
    if name == "end-to-end training":
        detected = chain.copy(whole.folder, scratch / "data")
        shutil.rmtree(detected / "e2e")
        (detected / ".e2e.toml").unlink()
        return chain.undisturbed(detected, scratch / "whole", ("e2e",))
    chain.make_features(scratch / "data")
    return chain.undisturbed(scratch / "data", scratch / "whole", ("detect",), chain.words_on_features)


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_killed_at_any_moment_the_same_command_comes_to_the_same(
    name: str, videos: Path, whole: chain.Undisturbed, tmp_path: Path
) -> None:
    tally = Tally(f"SIGKILL in {name}")
    chance, undisturbed = tally.chance, job(name, videos, whole, tmp_path)
    for number in range(max(1, round(KILLS * JOBS[name]))):
        folder = chain.copy(undisturbed.data, tmp_path / "run")
        moment = chance.uniform(0, 1) * undisturbed.seconds
        child = undisturbed.begin(folder)
        if not child.is_over_after(moment):
            child.send(signal.SIGKILL)
            child.end()
        note = f"{number}, after {moment:.3f} s"
        tally.add_resumed(
            undisturbed.again(folder), functools.partial(undisturbed.came_to, folder), undisturbed.outcome, note
        )
        shutil.rmtree(folder)
    tally.require_survival()
