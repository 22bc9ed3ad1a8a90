"""Checkpoints: tensors and plain values in one file, which loading can never make run code."""

import collections
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from .errors import EtadError, nearest
from .files.atomic import replacing

# What `weights_only=True` lets back in. Exact types: numpy's float64 passes for a float and is refused on loading.
_PLAIN_TYPES = {type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device}
_MAPPING_TYPES = {dict, collections.OrderedDict}
_SEQUENCE_TYPES = {list, tuple, set}
_TENSOR_TYPES = {torch.Tensor, torch.nn.Parameter}


def save_checkpoint(path: Path | str, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path
        File to write or replace; its folder is made if missing.
    state
        Tensors, numbers, strings, None, and dicts, lists, tuples and sets of them.

    Raises
    ------
    EtadError
        The file cannot be written.
    TypeError
        The state holds something that could not be loaded back: our own mistake.
    """
    for where, value in _unexpected(dict(state), "state"):
        raise TypeError(f"{where} is a {type(value).__name__}: checkpoints hold only tensors and plain values")
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(dict(state), file)
        except RuntimeError as error:
            # torch covers a full disk's error with its own, about the archive it then could not close.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
    return Path(path)


def load_checkpoint(path: Path | str, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values; anything else in the file is refused, not run.

    Raises
    ------
    EtadError
        The file is missing, damaged (every byte's checksum is tested), or holds anything but a dict of tensors and
        plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise EtadError(_absence(path))
    _check_sums(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that other kinds of file have
            state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        # Damaged bytes can end in any exception of the unpickler; forbidden content in one that names it.
        forbidden = re.search(r"GLOBAL ([\w.<>]+)", str(error))
        if forbidden:
            raise EtadError(
                f"{path}: holds '{forbidden[1]}', which is neither a tensor nor a plain value, and loading it could "
                f"run code. Save the tensors alone (a state_dict) and name that file."
            ) from error
        raise EtadError(
            f"{path}: cannot be read as a checkpoint; it is damaged or of another kind. "
            f"Name a file that etad wrote, or train it again."
        ) from error
    if not isinstance(state, dict):
        raise EtadError(f"{path}: holds a {type(state).__name__}, a checkpoint is a dict. Name a file that etad wrote.")
    return state


def _unexpected(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if kind in _MAPPING_TYPES:
        for key, item in value.items():
            yield from _unexpected(key, f"a key of {where}")
            yield from _unexpected(item, f"{where}[{key!r}]")
    elif kind in _SEQUENCE_TYPES:
        for index, item in enumerate(value):
            yield from _unexpected(item, f"{where}[{index}]")
    elif kind not in _PLAIN_TYPES and kind not in _TENSOR_TYPES:
        yield where, value


def _absence(path: Path) -> str:
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("*.pt"))
        there = f"It has {', '.join(inside)}: name one." if inside else "Name the checkpoint file itself."
        return f"{path}: this is a folder, a checkpoint is a file. {there}"
    beside = sorted(file.name for file in path.parent.glob("*.pt"))
    return f"{path}: there is no such checkpoint.{nearest(path.name, beside)} Train first, or name another file."


def _check_sums(path: Path) -> None:
    # torch reads its zip archive without testing the checksums in it, so a flipped bit would pass for a weight.
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
        raise EtadError(f"{path}: this checkpoint is damaged ({error}). Copy it again, or train again.") from error
    if damaged is not None:
        raise EtadError(f"{path}: this checkpoint is damaged (in its part '{damaged}'). Copy it again, or train again.")
