"""Make the archive of what an old version left on disk; run with etad at commit 6b116ad installed.

    python make_run.py FOLDER ARCHIVE.tar.xz

FOLDER must not exist. It gets a small synthetic set, a finished run, three interrupted ones, and what the old code
makes of them; `EXPLANATION`, below, lists them. Everything goes through the old command line. Two things keep the
archive small: encoder and detector are trained with most of their weights zero, and every checkpoint is rewritten with
rounded tensors before the old code goes on from it. So what is expected is what the old code itself makes of the very
files in the archive.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

from etad.data.checkpoint import load_checkpoint, save_checkpoint
from etad.data.synthetic import SyntheticSpec, make_dataset
from etad.pipeline import cli

SETS = (
    "encoder.name=tsm_tiny",
    "encoder.frozen_stages=1",
    "encoder.precision=float32",
    "clips.clip_frames=4",
    "clips.num_snippets=12",
    "clips.resize=[20, 20]",
    "clips.crop=16",
    "demo.size=24",
    "pretrain.source=synthetic",
    "pretrain.steps=40",
    "pretrain.batch_clips=8",
    "pretrain.lr=3e-3",
    "pretrain.warmup_steps=4",
    "pretrain.held_out_clips=32",
    "detect.num_snippets=12",
    "detect.max_duration=12",
    "detect.bins=4",
    "detect.num_stages=1",
    "detect.enhancement=conv",
    "detect.precision=float32",
    "detect.tious=[0.3, 0.5, 0.7]",
    "detect.sampling.ratio=0.3",
    "detect.training.batch=2",
    "detect.training.epochs=3",
    "detect.training.decay_after=2",
    "detect.inference.keep=20",
    "e2e.batch=2",
    "e2e.epochs=2",
    "e2e.decay_after=1",
    "e2e.ratio=0.5",
    "e2e.encoder_lr=1e-3",
    "e2e.precision=float32",
    "workers=0",
)
# Save after every step, to be interrupted after any.
OFTEN = (
    "pretrain.checkpoint_seconds=1e-9",
    "detect.training.checkpoint_seconds=1e-9",
    "e2e.checkpoint_seconds=1e-9",
)

# Larger tensors are thinned to so many of a hundred weights, smaller ones are only rounded.
SMALL = 4096
DETECTOR_PER_CENT, ENCODER_PER_CENT, MOMENT_PER_CENT = 2.0, 8.0, 0.25

# The places that training passes through once a step, and the step that is interrupted, counted from 0.
STEPS = {
    "pretrain": ("etad.pipeline.pretrain._Trainer.learn", 30),
    "detect": ("etad.detect.train.Trainer._step", 4),
    "e2e": ("etad.pipeline.e2e_train.E2eTrainer._step", 4),
}

# Files' times, in seconds: what vouches for features and detections looks at a video's. Videos are older than the rest.
VIDEOS_TIME, OTHERS_TIME = 1_750_000_000, 1_760_000_000

EXPLANATION = """\
Made by etad at commit 6b116ad with make_run.py; tensors thinned and rounded so that it is small.

videos/, annotations.json   a synthetic set: six videos to learn from, two to test on
run_done/                   pretrain, extract, detect, e2e, all finished; labels from the video classifier
run_interrupted/pretrain/   stopped after 30 of 40 steps
run_interrupted/detect/     stopped after step 1 of 3 of epoch 2 of 3; labels from the class branch
run_interrupted/e2e/        stopped after step 1 of 3 of epoch 2 of 2; starts from the detector and encoder of run_done
expected/done/              what the old code says of run_done: the same files as in its folders
expected/interrupted/       what the old code ended with, resumed from the very files in run_interrupted
expected/**/tensors.json    root mean square of each tensor of the encoder

best.pt and plots/ are left out; every inference takes last.pt. The config.toml of each run names the annotations and
videos where they lay when this was made. Take it with -c and override both:

  etad -c run_done/config.toml -o run_done --set data.annotations=annotations.json --set data.videos=videos detect
"""


def main(folder: Path, archive: Path) -> None:
    folder.mkdir(parents=True)
    folder = folder.resolve()
    torch.set_num_threads(1)
    spec = SyntheticSpec(num_videos=8, shortest_seconds=8, longest_seconds=12, size=24, validation_share=0.25)
    make_dataset(folder, spec)
    for path in (folder / "videos").iterdir():
        os.utime(path, (VIDEOS_TIME, VIDEOS_TIME))
    done, interrupted = folder / "run_done", folder / "run_interrupted"
    _make_done(folder, done)
    _make_interrupted(folder, done, interrupted)
    for path in (*folder.rglob("best.pt"), *folder.rglob("plots")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    # What the old code makes of it, in a copy, so that the archive keeps what it started from.
    expected, copy = folder / "expected", folder.with_name(f"{folder.name}-copy")
    for stage in ("pretrain", "detect", "e2e"):
        _record(done / stage, expected / "done" / stage)
    shutil.copytree(folder, copy)
    for stage in STEPS:
        run = copy / "run_interrupted" / stage
        _etad(copy, run, [], stage, config=run / "config.toml")
        _record(run / stage, expected / "interrupted" / stage)
    (expected / "README").write_text(EXPLANATION, encoding="utf-8")
    shutil.rmtree(copy)
    _pack(folder, archive)
    print(f"{archive}: {archive.stat().st_size} bytes")


def _make_done(data: Path, run: Path) -> None:
    """Train each stage, round what it left, and let it infer from that."""
    with _sparse():
        _etad(data, run, SETS, "pretrain")
    _rewrite(run / "pretrain" / "encoder.pt")
    _etad(data, run, SETS, "extract")
    for stage in ("detect", "e2e"):
        with _sparse():
            _etad(data, run, SETS, stage)
        _rewrite(run / stage / "checkpoints" / "last.pt")
        _etad(data, run, SETS, stage)


def _make_interrupted(data: Path, done: Path, folder: Path) -> None:
    branch = (*SETS, "detect.labels.source=branch")
    before = {
        "pretrain": (SETS, []),
        "detect": (branch, ["pretrain", "features.h5", ".pretrain.toml", ".extract.toml"]),
        "e2e": (SETS, ["pretrain", "features.h5", "detect", ".pretrain.toml", ".extract.toml", ".detect.toml"]),
    }
    for stage, (sets, names) in before.items():
        run = folder / stage
        run.mkdir(parents=True)
        for name in names:
            copy = shutil.copytree if (done / name).is_dir() else shutil.copy2
            copy(done / name, run / name)
        with _sparse(), _interrupted(*STEPS[stage]):
            _etad(data, run, (*sets, *OFTEN), stage, status=cli.INTERRUPTED)
        _rewrite(run / ("pretrain/last.pt" if stage == "pretrain" else f"{stage}/checkpoints/last.pt"))


def _etad(
    data: Path, run: Path, sets: tuple[str, ...] | list[str], stage: str, *, config: Path | None = None, status: int = 0
) -> None:
    words = ["-c", str(config)] if config is not None else []
    sets = [*sets, f"data.annotations={data / 'annotations.json'}", f"data.videos={data / 'videos'}"]
    words += ["-o", str(run), *(word for each in sets for word in ("--set", each)), stage]
    found = cli.run(words)
    assert found == status, (words, found)


@contextlib.contextmanager
def _interrupted(place: str, step: int) -> Iterator[None]:
    """Raise what Ctrl-C raises instead of taking a step."""
    owner, _, name = place.rpartition(".")
    original = getattr(_find(owner), name)
    taken = 0

    def interrupted(self: Any, *words: Any) -> Any:
        nonlocal taken
        if taken == step:
            raise KeyboardInterrupt
        taken += 1
        return original(self, *words)

    with mock.patch(place, interrupted):
        yield


@contextlib.contextmanager
def _sparse() -> Iterator[None]:
    """Let trainers begin with most weights zero and keep them so."""
    places: dict[str, Callable[[Any], list[tuple[nn.Module, float]]]] = {
        "etad.pipeline.pretrain._Trainer": lambda it: [(it.encoder, ENCODER_PER_CENT)],
        "etad.detect.train.Trainer": lambda it: [(it.detector, DETECTOR_PER_CENT)],
        "etad.pipeline.e2e_train.E2eTrainer": lambda it: [
            (it.encoder, ENCODER_PER_CENT),
            (it.detector, DETECTOR_PER_CENT),
        ],
    }
    with contextlib.ExitStack() as stack:
        for place, parts in places.items():
            stack.enter_context(mock.patch(f"{place}.__init__", _then_sparse(_find(place).__init__, parts)))
        yield


def _then_sparse(
    original: Callable[..., None], parts: Callable[[Any], list[tuple[nn.Module, float]]]
) -> Callable[..., None]:
    def init(self: Any, *words: Any, **named: Any) -> None:
        original(self, *words, **named)
        for module, per_cent in parts(self):
            for parameter in module.parameters():
                if parameter.numel() > SMALL and parameter.requires_grad:
                    _keep_sparse(parameter, per_cent)

    return init


def _keep_sparse(parameter: nn.Parameter, per_cent: float) -> None:
    with torch.no_grad():
        if (parameter != 0).float().mean() > 2 * per_cent / 100:
            thin = _largest(parameter, per_cent)
            parameter.copy_(thin * (parameter.norm() / thin.norm()))
        mask = (parameter != 0).to(parameter.dtype)
    parameter.register_hook(lambda grad: grad * mask)


def _find(place: str) -> Any:
    module, _, name = place.rpartition(".")
    return getattr(__import__(module, fromlist=[name]), name)


def _rewrite(path: Path) -> None:
    """Round a checkpoint's tensors; keys, shapes and dtypes stay."""
    save_checkpoint(path, _thinned(load_checkpoint(path), ""))


def _thinned(value: Any, key: Any) -> Any:
    if isinstance(value, dict):
        return type(value)((name, _thinned(item, name)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_thinned(item, key) for item in value)
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.numel() == 1:
        return value
    if value.numel() > SMALL and key == "exp_avg":
        value = _largest(value, MOMENT_PER_CENT)
    elif value.numel() > SMALL and key == "exp_avg_sq":
        value = value.flatten(1).mean(dim=1).view(-1, *[1] * (value.dim() - 1)).expand_as(value)
    return value.detach().bfloat16().to(value.dtype).contiguous()


def _largest(value: Tensor, per_cent: float) -> Tensor:
    flat = value.detach().flatten()
    kept = flat.abs().topk(max(1, round(len(flat) * per_cent / 100))).indices
    return torch.zeros_like(flat).index_copy(0, kept, flat[kept]).view_as(value)


def _record(stage: Path, into: Path) -> None:
    into.mkdir(parents=True)
    for name in ("detections.json", "metrics.json", "log.jsonl"):
        if (stage / name).exists():
            shutil.copy(stage / name, into / name)
    if (stage / "encoder.pt").exists():
        tensors = load_checkpoint(stage / "encoder.pt")["encoder"]
        sizes = {name: tensor.double().square().mean().sqrt().item() for name, tensor in tensors.items()}
        (into / "tensors.json").write_text(json.dumps(sizes, indent=1), encoding="utf-8")


def _pack(folder: Path, archive: Path) -> None:
    # Runs share files, tens of MB apart: a window over all of them finds that.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 128 << 20}]
    with lzma.open(archive, "wb", filters=filters) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                info = tar.gettarinfo(path, arcname=path.relative_to(folder).as_posix())
                info.uid, info.gid, info.uname, info.gname, info.mode = 0, 0, "", "", 0o644
                info.mtime = VIDEOS_TIME if path.parent.name == "videos" else OTHERS_TIME
                with path.open("rb") as file:
                    tar.addfile(info, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
