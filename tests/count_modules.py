"""Which of our modules one command goes through: those of which it executes a function; `detect/kernels` counts as one.

python tests/count_modules.py extract|train|e2e
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import miniature_e2e
import torch

from etad.data.checkpoint import save_checkpoint
from etad.extract.encoders.encoder import build_encoder
from etad.extract.weights.load import encoder_checkpoint
from etad.pipeline.cli.main import run

ROOT = Path(__file__).resolve().parents[1]
AS_ONE = "detect/kernels/"


@contextmanager
def functions_executed() -> Iterator[set[str]]:
    """Yield a set that gets every module of ours of which a function runs, in any thread that starts meanwhile.

    What runs while a module is imported (its own statements, class bodies, decorators) is no part of the way.
    """
    found: set[str] = set()
    ours: dict[str, str] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            return
        name = frame.f_code.co_filename
        if name not in ours:
            path = Path(name)
            inside = path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "tests")
            ours[name] = path.relative_to(ROOT).as_posix() if inside and path.suffix == ".py" else ""
        if ours[name] and ours[name] not in found and not _is_importing(frame):
            found.add(ours[name])

    before = sys.getprofile(), threading.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before[0])
        threading.setprofile(before[1])


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") != "__main__"


def counted(found: set[str]) -> list[str]:
    """The modules as they count, sorted."""
    return sorted({AS_ONE if name.startswith(AS_ONE) else name for name in found})


def extraction(folder: Path) -> set[str]:
    """Extract the videos of a small set with weights from a file, as the command does."""
    dataset = miniature_e2e.make(folder)
    torch.manual_seed(0)
    encoder = build_encoder("tsm_tiny", clip_frames=2)
    save_checkpoint(folder / "weights.pt", encoder_checkpoint(encoder, name="tsm_tiny"))
    options = miniature_e2e.options(dataset, folder / "run", "workers=2", "encoder.init=weights")
    with functions_executed() as found:
        assert run([*options, "extract", "--weights", str(folder / "weights.pt")]) == 0
    return found


COMMANDS: dict[str, Callable[[Path], set[str]]] = {"extract": extraction}


def main() -> None:
    (name,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        modules = counted(COMMANDS[name](Path(folder)))
    print(*modules, sep="\n")
    print(f"{name}: {len(modules)} modules")


if __name__ == "__main__":
    main()
