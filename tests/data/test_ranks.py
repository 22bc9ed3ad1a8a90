"""Several real processes come to what one comes to; the arithmetic of sharing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import miniature
import miniature_e2e
import pytest
import rank_worker
import torch

from etad.data.checkpoint import load_checkpoint
from etad.data.ranks import ALONE, Ranks

WORKER = Path(rank_worker.__file__)
BASELINE = (
    "detect.bmn.num_samples=4 detect.bmn.width_1d=16 detect.bmn.width_2d=8 detect.bmn.width_3d=16 "
    "detect.tcanet.width=16 detect.tcanet.boundary_samples=4 detect.tcanet.action_samples=8 "
    "detect.tcanet.training_proposals=12 detect.tcanet.dropout=0.3"
)


def torchrun(processes: int, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script or module in several processes that know of each other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *words]
    if processes == 1:
        command = [sys.executable, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    if check and done.returncode:
        pytest.fail(done.stdout + done.stderr)
    return done


def test_counts_and_shares_cover_everything_once() -> None:
    for total in range(9):
        for size in range(1, 5):
            counts = ALONE.counts(total) if size == 1 else Ranks(0, size).counts(total)
            assert sum(counts) == total and max(counts) - min(counts) <= 1
            shares = [Ranks(rank, size).share(list(range(total))) for rank in range(size)]
            assert [each for share in shares for each in share] == list(range(total))
            dealt = [Ranks(rank, size).deal({str(i): float(i % 3) for i in range(total)}) for rank in range(size)]
            assert sum(len(each) for each in dealt) == total == len(set().union(*dealt))


def test_long_videos_are_dealt_first_so_that_all_have_as_much() -> None:
    sizes = {f"v{i}": float(size) for i, size in enumerate([90, 50, 40, 30, 20, 10])}
    loads = [sum(sizes[id] for id in Ranks(rank, 3).deal(sizes)) for rank in range(3)]
    assert sorted(loads) == [70, 80, 90]


@pytest.mark.slow
def test_three_processes_have_the_gradient_of_one(tmp_path: Path) -> None:
    miniature.make(tmp_path)
    runs = [
        "detect.sampling.strategy=random",
        "detect.sampling.strategy=fps batch=4 detect.preset=release",
        "detect.sampling.strategy=dpp detect.labels.source=classifier batch=2",  # the third process has none
        f"{BASELINE} detect.model=bmn+tcanet batch=2",
        f"{BASELINE} detect.model=bmn batch=4",
    ]
    runs = [f"{sets} detect.precision=float32" for sets in runs]  # the validation is not in float64
    torchrun(3, str(WORKER), "cached", str(tmp_path), *runs)
    for number, sets in enumerate(runs):
        one, three = rank_worker.cached(tmp_path, sets.split(), ALONE), _saved(tmp_path, number)
        assert one.keys() == three.keys() and "part loss" in one
        for name in one.keys() - {"validation"}:
            assert torch.allclose(three[name], one[name], rtol=1e-10, atol=1e-10), (sets, name)
        assert three["validation"].item() == pytest.approx(one["validation"].item(), rel=1e-5)


@pytest.mark.slow
def test_an_end_to_end_step_of_two_processes_has_the_gradient_of_one(tmp_path: Path) -> None:
    miniature_e2e.make(tmp_path)
    runs = [f"e2e.strategy={strategy}" for strategy in ("random", "fps", "gradnorm", "coreset")]
    runs.append(f"{BASELINE} detect.model=bmn")
    runs.append("encoder.name=videomae_tiny encoder.adapter=series clips.clip_frames=4 e2e.recompute=true")
    runs.append("e2e.cache_frozen=1 e2e.crop=centre encoder.frozen_stages=2")
    runs += [f"e2e.strategy={strategy} e2e.batch=1" for strategy in ("gradnorm", "coreset")]  # one has no video
    torchrun(2, str(WORKER), "e2e", str(tmp_path), *runs)
    for number, sets in enumerate(runs):
        one, two = rank_worker.end_to_end(tmp_path, sets.split(), ALONE), _saved(tmp_path, number)
        assert one.keys() == two.keys() and any(name.startswith("encoder") for name in one)
        for name in one:
            assert torch.allclose(two[name], one[name], rtol=1e-10, atol=1e-10), (sets, name)


@pytest.mark.slow
def test_two_processes_keep_outputs_of_frozen_stages_as_one_does(tmp_path: Path) -> None:
    path = miniature_e2e.make(tmp_path)
    tree = json.loads(path.read_text())
    next(each for each in tree["database"].values() if each["subset"] == "training")["subset"] = "apart"
    path.write_text(json.dumps(tree))
    sets = ("e2e.cache_frozen=1", "e2e.crop=centre", "encoder.frozen_stages=2", "e2e.epochs=3")
    exact = ("detect.precision=float32", "encoder.precision=float32")
    apart = (
        *exact,
        "e2e.validate_epochs=true",
        "data.validation_subset=apart",
        "e2e.encoder_lr=1e-4",
        "e2e.detector_lr=1e-3",
    )
    losses = {}
    for processes in (1, 2):
        run = tmp_path / str(processes)
        printed = torchrun(processes, "-m", "etad", "e2e", *miniature_e2e.options(path, run, *sets, *apart)).stdout
        assert "(36 snippets x 1 draw + 12 of validation)" in printed and "one that read them" in printed
        assert not list((run / "e2e" / "frozen").rglob("*.maps"))
        lines = [json.loads(line) for line in (run / "e2e" / "log.jsonl").read_text().splitlines()]
        losses[processes] = [(line["train"]["loss"], line["val_loss"]) for line in lines]
    assert len(losses[1]) == 3
    for one, two in zip(losses[1], losses[2], strict=True):
        assert two == pytest.approx(one, rel=2e-3)
    first, second, third = (of_validation for _, of_validation in losses[2])
    assert abs(first - second) > 0.01 * first and abs(second - third) > 0.01 * first


@pytest.mark.slow
def test_the_command_trains_and_infers_in_two_processes_as_in_one(tmp_path: Path) -> None:
    cache, annotations = miniature.make(tmp_path)
    sets = miniature.set_options("workers=0", "detect.precision=float32")
    words = ["--features", str(cache), "--annotations", str(annotations), *sets]
    printed = {}
    for processes in (1, 2):
        printed[processes] = torchrun(
            processes, "-m", "etad", "detect", "-o", str(tmp_path / str(processes)), *words
        ).stdout
    one, two = (tmp_path / str(n) / "detect" for n in (1, 2))
    assert printed[2].count("mAP %") == printed[1].count("mAP %") == 1  # one of them tells
    manifests = [json.loads((folder.parent / "manifest.json").read_text())["stages"]["detect"] for folder in (one, two)]
    assert [entry["processes"] for entry in manifests] == [1, 2]
    ours, theirs = (load_checkpoint(folder / "checkpoints" / "last.pt") for folder in (one, two))
    assert ours["position"]["epoch"] == theirs["position"]["epoch"] == 2
    for name, tensor in ours["model"].items():
        assert torch.allclose(tensor, theirs["model"][name], rtol=1e-3, atol=1e-4), name
    found, wanted = (json.loads((folder / "detections.json").read_text())["results"] for folder in (two, one))
    assert found.keys() == wanted.keys()
    # The same raw predictions, from the same weights, whoever infers.
    again = torchrun(
        2, "-m", "etad", "detect", "-o", str(tmp_path / "again"), *words,
        "--no-train", "--checkpoint", str(one / "checkpoints" / "last.pt"),
    )  # fmt: skip
    assert "average" in again.stdout
    assert (tmp_path / "again" / "detect" / "detections.json").read_bytes() == (one / "detections.json").read_bytes()


@pytest.mark.slow
def test_a_process_that_dies_ends_the_job_and_the_same_command_goes_on_to_the_same_end(tmp_path: Path) -> None:
    cache, annotations = miniature.make(tmp_path)
    sets = miniature.set_options("workers=0", "detect.training.epochs=10", "detect.training.checkpoint_seconds=1e-9")
    words = ["--features", str(cache), "--annotations", str(annotations), *sets]

    def command(out: str) -> list[str]:
        return ["-m", "etad", "detect", "-o", str(tmp_path / out), *words]

    last = tmp_path / "killed" / "detect" / "checkpoints" / "last.pt"
    job = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *command("killed")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not last.exists():
        assert job.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, error = job.communicate(timeout=120)
    assert (job.returncode != 0 and "SIGKILL" in error) or "Signal 9" in error
    assert load_checkpoint(last)["position"]["epoch"] < 10
    assert "training went on from" in torchrun(2, *command("killed")).stdout
    torchrun(2, *command("whole"))
    ended, whole = (load_checkpoint(tmp_path / out / "detect/checkpoints/last.pt") for out in ("killed", "whole"))
    assert all(torch.equal(tensor, whole["model"][name]) for name, tensor in ended["model"].items())


def _saved(folder: Path, number: int) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"{number}.pt", weights_only=True)
