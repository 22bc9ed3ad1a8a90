"""Files of weights: read without running anything in them, whoever wrote them."""

from __future__ import annotations

import argparse
import itertools
import pickletools
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...data.digest import file_sha256
from ...data.errors import EtadError, listing, nearest
from ...data.files.archive import damage_of

# Under which of these a checkpoint keeps its weights, beside an optimiser, arguments and the like; the first one that
# is there counts, an average over training steps where there is nothing else.
_INNER_NAMES = (
    "encoder",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "state_dict_ema",
    "model_ema",
)

# What of a checkpoint belongs to its training, by name.
_OF_TRAINING = re.compile(r"optim|sched|scaler", re.IGNORECASE)

# First bytes of what people name instead of a checkpoint.
_OTHER_FILES = {
    b"<": "a web page, saved in place of the file",
    b"version https://git-lfs": "a pointer to the file in git LFS, not the file itself",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive",
    b"{": "a JSON file",
}


@dataclass(frozen=True)
class WeightsFile:
    """What a file of weights holds.

    Parameters
    ----------
    path, num_bytes, sha256
        The file, its size and the digest of its bytes.
    tensors
        Every tensor of its state dict, by the name it has there.
    encoder_name
        What the file says about itself, where etad wrote it.
    adapter, frozen
        The same of a file that holds adapters alone: their kind, and what tells the weights that they stand beside.
    """

    path: Path
    num_bytes: int
    sha256: str
    tensors: Mapping[str, Tensor]
    encoder_name: str | None
    adapter: str | None = None
    frozen: Mapping[str, Any] | None = None


def read_weights(path: Path | str) -> WeightsFile:
    """Read a state dict, alone or inside a checkpoint.

    TSP's checkpoints hold their training arguments as an `argparse.Namespace`: that one class is let in.

    Raises
    ------
    EtadError
        The file is missing, of another kind, damaged, holds objects that loading would have to run code for, or holds
        no tensors.
    """
    path = Path(path)
    _check_kind(path)
    content = _load(path)
    tensors = _state_dict(content)
    if not tensors:
        found = f" It holds {listing([str(key) for key in content], 6)}." if isinstance(content, Mapping) else ""
        raise EtadError(
            f"{path}: holds no tensors by name, neither at its top nor under {', '.join(_INNER_NAMES)}.{found} "
            "Name a file of weights, or save its state dict alone."
        )
    told = content if isinstance(content, Mapping) else {}
    name, adapter = (told.get(key) if isinstance(told.get(key), str) else None for key in ("encoder_name", "adapter"))
    frozen = None if adapter is None else told.get("frozen")
    return WeightsFile(path, path.stat().st_size, file_sha256(path), tensors, name, adapter, frozen)


def _check_kind(path: Path) -> None:
    if path.is_dir():
        raise EtadError(f"{path}: this is a folder. Name the file of weights in it.")
    if not path.is_file():
        beside = [file.name for file in path.parent.glob("*.pt*")]
        raise EtadError(f"{path}: there is no such file of weights.{nearest(path.name, beside)}")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise EtadError(f"{path}: cannot be read ({error.strerror}).") from error
    if not start:
        raise EtadError(f"{path}: this file is empty. Get it again.")
    for mark, kind in _OTHER_FILES.items():
        if start.lstrip().startswith(mark):
            raise EtadError(f"{path}: this is {kind}, not a checkpoint of PyTorch. Get the file itself again.")


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a JSON text, and that text."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _load_safetensors(path: Path) -> Any:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            return {"state_dict": tensors, **(file.metadata() or {})}
    except (SafetensorError, OSError) as error:
        raise EtadError(f"{path}: this file is damaged or cut short ({error}). Get it again.") from error


def _load(path: Path) -> Any:
    if _is_safetensors(path):
        return _load_safetensors(path)
    damaged = f"{path}: this file is damaged or cut short, or no checkpoint of PyTorch at all. Get it again."
    try:
        damage = damage_of(path)
        if damage is not None:
            raise EtadError(f"{path}: this file is damaged or cut short ({damage}). Get it again.")
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # of the protocols that other kinds of file have
            return torch.load(path, map_location="cpu", weights_only=True)
    except EtadError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        pickled = _plain_pickle(path)
        if pickled is not None:
            raise EtadError(f"{path}: this is {pickled}") from error
        # Damaged bytes can end in any exception of the unpickler; forbidden content in one that names it.
        forbidden = re.search(r"(?:GLOBAL|class|function) '?([\w]+(?:\.[\w<>]+)+|getattr|eval|exec)", str(error))
        if forbidden:
            raise EtadError(
                f"{path}: holds '{forbidden[1]}' beside its tensors, and loading that could run code. "
                f"Save its state_dict alone, on a machine where you trust the file, and name that."
            ) from error
        raise EtadError(damaged) from error


def _plain_pickle(path: Path) -> str | None:
    """Say what a pickle of no PyTorch holds, by the first words in it; nothing of it is run."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start.startswith((b"\x80", b"(", b"}", b"]")):
        return None
    words = set()
    try:
        for number, (_, word, _) in enumerate(itertools.islice(pickletools.genops(start), 40)):
            if number < 2 and word == torch.serialization.MAGIC_NUMBER:
                return None
            if isinstance(word, str):
                words.add(word)
    except Exception:  # pickletools raises whatever damaged bytes lead to
        if not words:
            return None
    if "blobs" in words:
        return (
            "a checkpoint of Caffe2, whose arrays go by other names than PyTorch's. Get PyTorchVideo's file of the "
            "same network (.pyth), or load this one in PySlowFast (CHECKPOINT_TYPE caffe2) and save its state dict."
        )
    return (
        "a plain pickle, not a checkpoint of PyTorch, and loading it could run code. Where you trust it, load it and "
        "save its tensors with torch.save."
    )


def _state_dict(content: Any) -> dict[str, Tensor]:
    """Find the tensors: at the top, else under a name that checkpoints use for their weights, else under the only one.

    Single numbers, such as counters and scores, tell nothing of where the weights are.
    """
    if not isinstance(content, Mapping):
        return {}
    known = [content, *(content[name] for name in _INNER_NAMES if isinstance(content.get(name), Mapping))]
    known += [place[name] for place in known[1:] for name in _INNER_NAMES if isinstance(place.get(name), Mapping)]
    others = [
        place for name, place in content.items() if isinstance(place, Mapping) and not _OF_TRAINING.search(str(name))
    ]
    others += [each for place in others for each in place.values() if isinstance(each, Mapping)]
    for fewest_axes in (1, 0):
        found = [_tensors(place) for place in known if _holds_several(place, fewest_axes)]
        if not found:
            found = [_tensors(place) for place in others if _holds_several(place, fewest_axes)]
            found = found if len(found) == 1 else []
        if found:
            return found[0]
    return {}


def _tensors(place: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {key: value for key, value in place.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _holds_several(place: Mapping[Any, Any], fewest_axes: int) -> bool:
    return sum(tensor.ndim >= fewest_axes for tensor in _tensors(place).values()) > 1
