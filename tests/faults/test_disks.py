"""A full disk ends a command with one sentence and status 2; with room, the same command goes on to the same end.

ETAD_FAULT_SEED and ETAD_FAULT_SIZES (of the disk) say what is tried; `make faults` tries more.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import chain
from faults.children import run
from faults.table import Tally, count, some

SIZES = count("SIZES", 1)
_PAGE_BYTES = 4096
# What is done, and what its features are like.
JOBS = {
    "extraction of small features": (("extract",), ()),
    "extraction of large features": (
        ("extract",),
        ("extract.store_dtype=float32", "clips.num_snippets=400", "detect.num_snippets=400", "detect.max_duration=400"),
    ),
    "pretraining": (("pretrain",), ()),
    "detection": (("detect",), ()),
    "end-to-end training": (("e2e",), ()),
}
_DONE_BEFORE = {
    "pretrain": (),
    "extract": ("pretrain",),
    "detect": ("pretrain", "extract"),
    "e2e": ("pretrain", "extract", "detect"),
}


@contextlib.contextmanager
def disk(place: Path, num_bytes: int) -> Iterator[None]:
    """A disk in memory of some size, at a folder."""
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "none", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(
            f"no disk can be mounted here, which takes the right to: {done.stderr.decode(errors='replace').strip()}"
        )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        place.rmdir()


def bytes_of(folder: Path) -> int:
    """Room that a folder takes on a disk in memory."""
    return sum(-(-path.stat().st_size // _PAGE_BYTES) * _PAGE_BYTES for path in folder.rglob("*") if path.is_file())


def before(stage: str, whole: chain.Undisturbed, to: Path) -> Path:
    """A run folder that is ready for a stage, without its videos."""
    to.mkdir()
    for done in _DONE_BEFORE[stage]:
        if done == "extract":
            shutil.copy2(whole.folder / "features.h5", to)
        else:
            shutil.copytree(whole.folder / done, to / done)
        shutil.copy2(whole.folder / f".{done}.toml", to)
    return to


@pytest.mark.slow
@pytest.mark.parametrize("name", some("SIZES", list(JOBS), 2))
def test_a_full_disk_ends_with_a_sentence_and_loses_nothing(
    name: str, videos: Path, whole: chain.Undisturbed, tmp_path: Path
) -> None:
    stages, sets = JOBS[name]
    ready = before(stages[0], whole, tmp_path / "ready")

    def command(folder: Path) -> list[str]:
        words = chain.words(videos, *stages, sets=sets)
        words[words.index("-o") + 1] = str(folder)
        return words

    undisturbed = chain.undisturbed(ready, tmp_path / "whole", stages, command)
    tally = Tally(f"full disk in {name}")
    chance, least, most = tally.chance, bytes_of(ready), bytes_of(undisturbed.folder)
    for number in range(SIZES):
        # From no room at all to all that is needed, and more of the small sizes; what is written twice takes more.
        share = (number + chance.random()) / SIZES
        size = least + int((1.3 * most - least) * share**2) // _PAGE_BYTES * _PAGE_BYTES + 2 * _PAGE_BYTES
        place = tmp_path / "disk"
        with disk(place, size):
            folder = Path(shutil.copytree(ready, place / "run"))
            note = f"{size} bytes of {least} to {most}"
            ended = run(command(folder), tmp_path)
            if ended.fault is not None or ended.status not in (0, 2):
                # A full disk is no fault of a video's: it ends the command, and is not counted for each of them.
                tally.add(ended.fault or "wrong", note, ended.said)
                continue
            if ended.status == 2 and not any(word in ended.said for word in ("No space left", "room")):
                tally.add("wrong", f"{note}, another sentence", ended.said)
                continue
            subprocess.run(["mount", "-o", f"remount,size={4 * most + 2**26}", str(place)], check=True)
            again = run(command(folder), tmp_path)
            tally.add_resumed(again, functools.partial(undisturbed.came_to, folder), undisturbed.outcome, note)
    tally.require_survival()
