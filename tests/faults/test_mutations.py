"""Inputs that anybody may have written: each ends in a sentence or is taken, within seconds.

ETAD_FAULT_SEED and ETAD_FAULT_MUTATIONS say what is tried; `make faults` tries more. One process takes them all.
"""

from __future__ import annotations

import json
import shutil
import tomllib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import chain, children, mutate
from faults.children import Ended
from faults.table import SEED, Tally, count
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from etad.data.checkpoint import load_checkpoint

MUTATIONS = count("MUTATIONS", 48)
KINDS = ("annotations", "configs", "scores", "detections", "blocked", "checkpoints")
_HANGS_AFTER_SECONDS = 60.0
_MOST_SAID = 20_000


def _serve(connection: Connection, said: Path) -> None:
    """Run one command after another, and answer each with its status and what it printed."""
    from etad.pipeline.cli import main as cli

    children.settle(said)
    while True:
        words = connection.recv()
        with said.open("r+b") as file:
            file.truncate(0)
        status = cli.run(words)
        connection.send((status, said.read_text(encoding="utf-8", errors="replace").replace("\0", "")))


@dataclass
class Server:
    """A process that runs commands; one that hangs or dies is replaced."""

    scratch: Path
    process: Any = None
    connection: Any = None
    number: int = field(default=0)

    def run(self, words: list[str]) -> Ended:
        if self.process is None:
            self.number += 1
            self.connection, far = children.pipe()
            self.process = children.worker(_serve, far, self.scratch / f"said-{self.number}.txt")
            far.close()
        self.connection.send(words)
        try:
            if self.connection.poll(_HANGS_AFTER_SECONDS):
                return Ended(*self.connection.recv())
            status = None
        except EOFError:
            self.process.join()
            status = self.process.exitcode
        self.stop()
        return Ended(status, "the process ended" if status is not None else "")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


@pytest.fixture(scope="module")
def finished(whole: chain.Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that commands may look at, with class scores in both forms."""
    folder = chain.copy(whole.folder, tmp_path_factory.mktemp("finished") / "run")
    ids = sorted(path.stem for path in (folder / "videos").iterdir())
    annotations = json.loads((folder / "annotations.json").read_text())["database"]
    labels = sorted({each["label"] for video in annotations.values() for each in video["annotations"]})
    scores = {"labels": labels, "scores": {id: [0.5] * len(labels) for id in ids}}
    (folder / "scores.json").write_text(json.dumps(scores))
    (folder / "blocked.txt").write_text("\n".join(ids[:3]) + "\n")
    return folder


def contents(kind: str, folder: Path) -> st.SearchStrategy[tuple[str, bytes]]:
    """File names and contents of a kind of input, mutated."""
    if kind == "checkpoints":
        return st.none().map(lambda _: ("", b""))
    name = {
        "annotations": "annotations.json",
        "configs": "config.toml",
        "scores": "scores.json",
        "detections": "detect/detections.json",
        "blocked": "blocked.txt",
    }[kind]
    before = (folder / name).read_bytes()
    cuts = st.builds(mutate.cut, st.just(before), mutate.CUTS)
    if kind == "blocked":
        made = st.one_of(cuts, st.binary(max_size=50), st.text(max_size=50).map(lambda text: text.encode()))
    elif kind == "configs":
        made = st.one_of(
            cuts, st.builds(mutate.changed, st.just(tomllib.loads(before.decode())), mutate.STEPS).map(mutate.as_toml)
        )
    else:
        tree = json.loads(before)
        made = st.one_of(cuts, *[st.builds(mutate.changed, st.just(tree), mutate.STEPS).map(mutate.as_json)] * 2)
    return made.map(lambda content: (f"mutated{Path(name).suffix}", content))


def commands(kind: str, folder: Path, mutated: Path) -> list[list[str]]:
    """Commands that read a kind of input."""
    options, results = chain.words(folder), str(folder / "detect" / "detections.json")
    subset = ["--subset", "validation"]
    if kind == "annotations":
        return [
            ["evaluate", results, *subset, *options, "--annotations", str(mutated)],
            ["check", "--no-probe", *options, "--annotations", str(mutated)],
        ]
    if kind == "configs":
        return [["check", "--no-probe", "-c", str(mutated), "-o", str(folder)]]
    if kind == "scores":
        detector = str(folder / "detect" / "checkpoints" / "last.pt")
        return [["detect", *options, "--scores", str(mutated), "--checkpoint", detector, "--no-train"]]
    if kind == "detections":
        return [
            ["evaluate", str(mutated), *subset, *options],
            ["plot", "qualitative", "--results", str(mutated), *options],
        ]
    return [["evaluate", results, *subset, *options, "--blocked", str(mutated)]]


def verdict(ended: Ended) -> str:
    """What is wrong with how a command took an input that nobody vouches for."""
    if ended.fault is not None:
        return ended.fault
    # A terminal obeys control characters, whoever wrote them.
    obeyed = {letter for letter in ended.said if unicodedata.category(letter) == "Cc"} - set("\n\r\t")
    return "wrong" if obeyed or len(ended.said) > _MOST_SAID else "survived"


def try_all(kind: str, made: st.SearchStrategy[Any], attempt: Callable[[Any, Tally], None]) -> None:
    tally = Tally(f"mutated {kind}")
    number = max(1, MUTATIONS // len(KINDS))

    @seed(SEED)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(made)
    def each(drawn: Any) -> None:
        attempt(drawn, tally)

    each()
    assert tally.tried >= number // 2, "hypothesis found no more to draw"
    tally.require_survival()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[:-1])
def test_a_mutated_input_is_taken_or_refused_with_a_sentence(kind: str, finished: Path, tmp_path: Path) -> None:
    server = Server(tmp_path)

    def attempt(drawn: tuple[str, bytes], tally: Tally) -> None:
        name, content = drawn
        mutated = tmp_path / name
        mutated.write_bytes(content)
        choice = commands(kind, finished, mutated)
        ended = server.run(choice[tally.tried % len(choice)])
        became = verdict(ended)
        if became != "survived":
            shutil.copy2(mutated, tmp_path / f"{tally.tried}-{name}")
        assert mutated.read_bytes() == content
        tally.add(became, f"{tmp_path}/{tally.tried}-{name}", ended.said)

    made = contents(kind, finished)
    if kind == "scores":
        made = st.one_of(made, mutate.ARRAYS.map(lambda array: ("mutated.npy", _npy(array, tmp_path))))
    try_all(kind, made, attempt)
    server.stop()


def _npy(array: np.ndarray, scratch: Path) -> bytes:
    np.save(scratch / "array.npy", array)
    return (scratch / "array.npy").read_bytes()


@pytest.mark.slow
def test_a_checkpoint_of_another_structure_is_taken_or_refused_with_a_sentence(finished: Path, tmp_path: Path) -> None:
    server = Server(tmp_path)
    names = ("detect/checkpoints/last.pt", "pretrain/encoder.pt", "e2e/checkpoints/last.pt")
    states = {name: load_checkpoint(finished / name) for name in names}
    options, mutated = chain.words(finished), tmp_path / "mutated.pt"
    uses = {
        names[0]: [["detect", *options, "--checkpoint", str(mutated), "--no-train"]],
        names[1]: [
            ["weights", str(mutated)],
            ["extract", *options, "-o", str(tmp_path / "new"), "--weights", str(mutated)],
        ],
        names[2]: [["detect", *options, "--checkpoint", str(mutated), "--no-train"], ["weights", str(mutated)]],
    }

    def attempt(drawn: tuple[str, list[mutate.Step], int], tally: Tally) -> None:
        name, steps, use = drawn
        # What training alone needs is large, and is not read here.
        state = {key: value for key, value in states[name].items() if key != "optimizer"}
        torch.save(mutate.changed(state, steps), mutated)
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        ended = server.run(uses[name][use % len(uses[name])])
        tally.add(verdict(ended), f"{name}, {steps}"[:400], ended.said)

    steps = mutate.STEPS | st.lists(
        st.builds(mutate.Step, st.just("replace"), st.integers(0, 10**6), st.integers(0, 10**6), mutate.TENSORS),
        min_size=1,
        max_size=2,
    )
    try_all("checkpoints", st.tuples(st.sampled_from(names), steps, st.integers(0, 1)), attempt)
    server.stop()
