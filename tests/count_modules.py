"""Which of our modules one command goes through: those of which it executes a function; `detect/kernels` counts as one.

Run `python tests/count_modules.py NAME` with extract-command, extract, first-step, train or e2e.
"""

from __future__ import annotations

import functools
import inspect
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import miniature
import miniature_e2e
import torch

from etad.data.annotations import read_annotations
from etad.data.cache.cache import FeatureCache
from etad.data.checkpoint import save_checkpoint
from etad.detect.run_state import TrainState
from etad.detect.train import Trainer
from etad.detect.windows import make_windows
from etad.extract.encoders.encoder import build_encoder
from etad.extract.joined import Encoders
from etad.extract.weights.load import encoder_checkpoint
from etad.pipeline.cli.main import run
from etad.pipeline.config import load_config
from etad.pipeline.run_folder import RunFolder
from etad.pipeline.stages.extract import extract_with_all, load_encoder

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("data", "extract", "detect", "pipeline")
AS_ONE = "detect/kernels/"


@contextmanager
def functions_executed() -> Iterator[set[str]]:
    """Yield a set that gets every module of ours of which a function runs, in any thread that starts meanwhile.

    What runs while a module is imported (its own statements, class bodies, decorators) is no part of the way.
    """
    found: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            module = _module(frame.f_code.co_filename)
            if module and module not in found and not _is_importing(frame):
                found.add(module)

    before = sys.getprofile(), threading.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before[0])
        threading.setprofile(before[1])


@functools.cache
def _module(file: str) -> str:
    """A module of the package by its path below the root; empty for others, such as an environment in that folder."""
    path = Path(file)
    if path.suffix != ".py" or not path.is_relative_to(ROOT):
        return ""
    inside = path.relative_to(ROOT)
    return inside.as_posix() if inside.parts[0] in ROOMS else ""


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return frame is not None and bool(_module(frame.f_code.co_filename))


def counted(found: set[str]) -> list[str]:
    """The modules as they count, sorted."""
    return sorted({AS_ONE if name.startswith(AS_ONE) else name for name in found})


def extract_command(folder: Path) -> set[str]:
    """`etad extract` on a video, with weights from a file: command line, config and run folder included."""
    video, weights = _video_and_weights(folder)
    sets = [word for each in (*miniature_e2e.SETS, "workers=2", "encoder.init=weights") for word in ("--set", each)]
    with functions_executed() as found:
        assert (
            run(["-o", str(folder / "run"), *sets, "extract", "--videos", str(video.parent), "--weights", str(weights)])
            == 0
        )
    return found


def extraction(folder: Path) -> set[str]:
    """One video from its file into the feature cache."""
    video, weights = _video_and_weights(folder)
    config = load_config(None, [*miniature_e2e.SETS, "workers=2", "encoder.init=weights"])
    encoder, sha256, _ = load_encoder(config, RunFolder(folder / "run"), weights)
    how = dict(config=config, cache=folder / "features.h5", shard=None, device=torch.device("cpu"))
    with functions_executed() as found:
        encoders = Encoders(config.encoder.name, encoder, sha256)
        report = extract_with_all(encoders, files={video.stem: video}, **how)
    assert report.done == (video.stem,)
    return found


def first_step(folder: Path) -> set[str]:
    """The first training step of a detector, whose features are read from the cache."""
    trainer = _trainer(folder)
    with functions_executed() as found:
        trainer.step(next(trainer.epoch_batches()))
    return found


def training_step(folder: Path) -> set[str]:
    """A training step of a detector whose features lie in memory, as they do after the first epoch."""
    trainer = _trainer(folder)
    for batch in trainer.epoch_batches():
        trainer.step(batch)
    trainer.state = TrainState(epoch=1)
    with functions_executed() as found:
        trainer.step(next(trainer.epoch_batches()))
    return found


def e2e_step(folder: Path) -> set[str]:
    """An end-to-end training step, frames included."""
    trainer = miniature_e2e.trainer(miniature_e2e.make(folder), folder / "run", "e2e.ratio=0.3", "workers=2")
    with functions_executed() as found:
        trainer.step(next(trainer.epoch_batches()))
    return found


def _video_and_weights(folder: Path) -> tuple[Path, Path]:
    videos = miniature_e2e.make(folder / "set").parent / "videos"
    first, *others = sorted(videos.iterdir())
    for path in others:
        path.unlink()
    torch.manual_seed(0)
    encoder = build_encoder("tsm_tiny", clip_frames=2)
    return first, save_checkpoint(folder / "weights.pt", encoder_checkpoint(encoder, name="tsm_tiny"))


def _trainer(folder: Path) -> Trainer:
    path, annotated = miniature.make(folder)
    settings, cache = load_config(None, miniature.SETS).detect, FeatureCache(path)
    learned = read_annotations(annotated).subset("training")
    windows, _ = make_windows(learned, cache, settings=settings, classes=miniature.LABELS, training=True)
    return Trainer(
        settings,
        train_windows=windows,
        val_windows=[],
        cache=cache,
        classes=miniature.LABELS,
        source={},
        config_digest="",
        made_from={},
        folder=folder / "run",
        device=torch.device("cpu"),
        seed=0,
        workers=0,
    )


COMMANDS: dict[str, Callable[[Path], set[str]]] = {
    "extract-command": extract_command,
    "extract": extraction,
    "first-step": first_step,
    "train": training_step,
    "e2e": e2e_step,
}


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        raise SystemExit(__doc__)
    name = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        modules = counted(COMMANDS[name](Path(folder)))
    print(*modules, sep="\n")
    print(f"{len(modules)} modules: {COMMANDS[name].__doc__}")


if __name__ == "__main__":
    main()
