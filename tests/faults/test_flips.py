"""A flipped bit in any file of a run is said, or changes neither features nor weights nor detections.

What is said stops the command; with the file put back, the same command comes to what it would have come to.
ETAD_FAULT_SEED and ETAD_FAULT_FLIPS (of each kind of file) say what is tried; `make faults` tries more.
"""

from __future__ import annotations

import functools
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults import chain
from faults.children import Child, run
from faults.table import Tally, count, some

from etad.data.cache.parts import parts_folder

FLIPS = count("FLIPS", 1)


@dataclass(frozen=True)
class State:
    """A run that stopped somewhere, and the command that goes on to where an undisturbed one comes."""

    folder: Path
    words: Callable[[Path], list[str]]
    stages: tuple[str, ...]
    expected: object


# A state of a run -> the files in it that are damaged.
KINDS = {
    "pretraining stopped": ("pretrain/last.pt", ".pretrain.toml"),
    "pretrained": ("pretrain/encoder.pt", "pretrain/metrics.json"),
    "extracted in shards": ("features.h5.parts/*.h5", ".extract.toml"),
    "extracted": ("features.h5",),
    "detector half trained": (
        *("detect/checkpoints/last.pt", "detect/checkpoints/best.pt", "detect/log.jsonl", "detect/raw.h5"),
        *(".detect.toml", "config.toml", "manifest.json", "annotations.json"),
    ),
    "detector trained": ("detect/raw.h5", "detect/detections.json", "detect/metrics.json"),
    "classifier trained": ("detect/classifier.pt", "detect/classifier.digest", "annotations.json"),
    "end-to-end training half done": (
        *("e2e/checkpoints/last.pt", "e2e/log.jsonl", "e2e/raw.h5", "e2e/inference.json", "e2e/encoder.pt"),
        *(".e2e.toml", "detect/checkpoints/last.pt"),
    ),
    "end-to-end training done": ("e2e/checkpoints/last.pt", "e2e/detections.json", "e2e/inference.json"),
}


def _stopped_pretraining(videos: Path, to: Path) -> Path:
    folder = chain.copy(videos, to)
    child = Child(chain.words(folder, "pretrain"), to.parent)
    while not (folder / "pretrain" / "last.pt").exists() and not child.is_over_after(0.005):
        pass
    child.send(signal.SIGKILL)
    child.end()
    assert not (folder / "pretrain" / "encoder.pt").exists()
    return folder


def _less(whole: Path, to: Path, *gone: str) -> Path:
    """A copy of a run in which some stages have not begun."""
    folder = chain.copy(whole, to)
    for stage in gone:
        (folder / f".{stage}.toml").unlink()
        if stage == "extract":
            (folder / "features.h5").unlink()
        else:
            shutil.rmtree(folder / stage)
    return folder


def _done(folder: Path, *words: str) -> Path:
    ended = run(words, folder.parent)
    assert ended.status == 0, ended.said
    return folder


def make_state(name: str, videos: Path, whole: chain.Undisturbed, scratch: Path) -> State:
    start = scratch / "start"
    if name == "pretraining stopped":
        stages: tuple[str, ...] = ("pretrain",)
        folder = _stopped_pretraining(videos, start)
    elif name in ("pretrained", "extracted in shards"):
        stages = ("extract",)
        folder = _less(whole.folder, start, "e2e", "detect", "extract")
        if name != "pretrained":
            for shard in ("0/2", "1/2"):
                _done(folder, *chain.words(folder, "extract", "--shard", shard))
            assert list(parts_folder(folder / "features.h5").glob("*"))
    elif name in ("extracted", "detector half trained", "detector trained"):
        stages = ("detect",)
        folder = _less(whole.folder, start, "e2e", *(["detect"] if name != "detector trained" else []))
        if name == "detector half trained":
            _done(folder, *chain.words(folder, "detect", sets=("detect.training.epochs=1",)))
    elif name == "classifier trained":
        chain.make_features(start)
        folder = _done(start, *chain.words_on_features(start, "detect.training.epochs=1"))
        undisturbed = chain.copy(folder, scratch / "whole")
        _done(undisturbed, *chain.words_on_features(undisturbed))
        return State(folder, chain.words_on_features, ("detect",), chain.came_to(undisturbed, ("detect",)))
    else:
        stages = ("e2e",)
        is_half = name == "end-to-end training half done"
        folder = _less(whole.folder, start, *(["e2e"] if is_half else []))
        if is_half:
            _done(folder, *chain.words(folder, "e2e", sets=("e2e.epochs=1",)))
    return State(folder, lambda folder: chain.words(folder, *stages), stages, chain.came_to(whole.folder, stages))


def flip(path: Path, chance: random.Random) -> tuple[int, bytes]:
    """Flip a bit of a file; returns its place and the bytes before."""
    before = path.read_bytes()
    content = bytearray(before)
    place = chance.randrange(len(content))
    content[place] ^= 1 << chance.randrange(8)
    path.unlink()
    path.write_bytes(content)
    return place, before


@pytest.mark.slow
@pytest.mark.parametrize("name", some("FLIPS", list(KINDS), 3))
def test_a_flipped_bit_in_any_file_of_a_run_is_said_or_changes_nothing(
    name: str, videos: Path, whole: chain.Undisturbed, tmp_path: Path
) -> None:
    state, tallies = make_state(name, videos, whole, tmp_path), []
    for pattern in some("FLIPS", KINDS[name], 1):
        tally = Tally(f"flips in {pattern}, {name}")
        tallies.append(tally)
        chance, paths = tally.chance, sorted(state.folder.glob(pattern))
        assert paths, pattern
        for _ in range(FLIPS):
            folder = chain.copy(state.folder, tmp_path / "run")
            damaged = folder / chance.choice(paths).relative_to(state.folder)
            place, before = flip(damaged, chance)
            flipped = damaged.read_bytes()
            note = f"{damaged.name}, byte {place} of {len(before)}"
            ended = run(state.words(folder), tmp_path)
            # Who is in no subset is left out by right, so it is a note that says so; all other damage stops the stage.
            is_said = ended.status != 0 or (
                damaged.name == "annotations.json" and "in none of the subsets" in ended.said
            )
            if ended.fault is None and is_said:
                assert not damaged.exists() or damaged.read_bytes() == flipped, (note, ended.said)
                damaged.write_bytes(before)
                said = ended.said
                ended = run(state.words(folder), tmp_path)
                note += f", after {said.splitlines()[-1:]}"
            tally.add_resumed(ended, functools.partial(chain.came_to, folder, state.stages), state.expected, note)
            shutil.rmtree(folder)
    for tally in tallies:
        tally.require_survival()
