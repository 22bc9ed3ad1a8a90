"""Files and folders without rights are said in a sentence; with rights, the same command goes on to the same end."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
from faults import chain
from faults.children import run
from faults.table import Tally, count, some

# Root may do anything, unless it goes without that right, as these commands do.
NOT_WRITABLE, NOT_ACCESSIBLE = 0o555, 0o000
RIGHTS = {NOT_WRITABLE: "not writable", NOT_ACCESSIBLE: "not accessible"}
# All that is spoilt before a command that does all stages; by default some of them.
PLACES = (
    *(".", "videos", "videos/target_0000.mp4", "annotations.json", "config.toml", "manifest.json", "plots"),
    *("pretrain", "pretrain/encoder.pt", "features.h5", ".extract.toml", ".pretrain.toml"),
    *("detect", "detect/checkpoints", "detect/checkpoints/last.pt", "detect/log.jsonl", "detect/raw.h5"),
    *("detect/detections.json", "detect/metrics.json", ".detect.toml"),
    *("e2e", "e2e/checkpoints", "e2e/checkpoints/last.pt", "e2e/log.jsonl", "e2e/inference.json", ".e2e.toml"),
)
CASES = count("RIGHTS", 1)
# What else works in a run folder, and has only to end with a sentence.
OTHERS = {
    "check": (),
    "verify": ("features.h5",),
    "verify --repair": ("features.h5",),
    "merge": ("features.h5",),
    "evaluate": ("detect/detections.json",),
    "plot curves": (),
    "plot qualitative": (),
}


@pytest.mark.slow
def test_without_rights_a_run_stops_with_a_sentence_and_goes_on_when_it_has_them(
    whole: chain.Undisturbed, tmp_path: Path
) -> None:
    half = chain.copy(whole.folder, tmp_path / "half")
    shutil.rmtree(half / "e2e")
    ended = run(chain.words(half, "e2e", sets=("e2e.epochs=1",)), tmp_path)
    assert ended.status == 0, ended.said
    stages, expected = ("extract", "detect", "e2e"), chain.came_to(whole.folder, ("extract", "detect", "e2e"))
    tally = Tally("files and folders without rights")
    cases = [(place, mode) for place in PLACES for mode in RIGHTS]
    for place, mode in tally.chance.sample(cases, min(CASES, len(cases))):
        folder = chain.copy(half, tmp_path / "run")
        spoilt, before = folder / place, (folder / place).stat().st_mode
        if before & 0o777 and spoilt.is_file():
            content = spoilt.read_bytes()  # what is linked would lose its rights everywhere
            spoilt.unlink()
            spoilt.write_bytes(content)
        spoilt.chmod(mode)
        note = f"{place} is {RIGHTS[mode]}"
        ended = run(chain.words(folder, *stages), tmp_path, bound_by_rights=True)
        if spoilt.exists():
            spoilt.chmod(before)
        if ended.fault is not None:
            tally.add(ended.fault, note, ended.said)
        else:
            again = run(chain.words(folder, *stages), tmp_path)
            tally.add_resumed(
                again, functools.partial(chain.came_to, folder, stages), expected, f"{note}: {ended.said[-300:]}"
            )
        shutil.rmtree(folder)
    tally.require_survival()


@pytest.mark.slow
def test_without_rights_every_command_ends_with_a_sentence(whole: chain.Undisturbed, tmp_path: Path) -> None:
    tally = Tally("other commands without rights")
    for name in some("RIGHTS", list(OTHERS), 3):
        files = OTHERS[name]
        for place in (".", *files):
            for mode in RIGHTS:
                folder = chain.copy(whole.folder, tmp_path / "run")
                spoilt, before = folder / place, (folder / place).stat().st_mode
                spoilt.chmod(mode)
                command = [*name.split(), *(str(folder / file) for file in files)]
                if not files or name == "evaluate":
                    command += chain.words(folder)
                ended = run(command, tmp_path, bound_by_rights=True)
                spoilt.chmod(before)
                tally.add_ended(ended, f"{name}: {place} is {RIGHTS[mode]}")
                shutil.rmtree(folder)
    tally.require_survival()
