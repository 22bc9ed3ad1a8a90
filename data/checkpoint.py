"""Checkpoints: tensors and plain values in one file, which loading can never make run code."""

import collections
import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from .errors import EtadError, nearest
from .files.archive import damage_of
from .files.atomic import replacing
from .interrupts import holding_signals

# What `weights_only=True` lets back in. Exact types: numpy's float64 passes for a float and is refused on loading.
_PLAIN_TYPES = {type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device}
_MAPPING_TYPES = {dict, collections.OrderedDict}
_SEQUENCE_TYPES = {list, tuple, set}
_TENSOR_TYPES = {torch.Tensor, torch.nn.Parameter}

# No checkpoint of etad comes near: a tenth of this depth, a tenth of that many values.
_MOST_DEPTH, _MOST_VALUES = 100, 500_000

_ADVICE = "It is damaged or of another version of etad: name one that is whole, or train again."

# Forms of parts of checkpoints, for `require_form`.
TENSORS: Mapping[Any, Any] = {str: torch.Tensor}
OPTIMIZER: Mapping[Any, Any] = {"state": dict, "param_groups": [dict]}


def save_checkpoint(path: Path | str, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint, whole or not at all; a signal that comes meanwhile ends the run after it.

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
    # torch would report what a signal leaves of its archive as a mistake of its own.
    with holding_signals(), replacing(path) as temporary, temporary.open("wb") as file:
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
    damage = damage_of(path)
    if damage is not None:
        raise EtadError(f"{path}: this checkpoint is damaged ({damage}). Copy it again, or train again.")
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
    _check_contents(path, state)
    return state


def require_form(path: Path | str, state: Mapping[str, Any], form: Mapping[str, Any]) -> None:
    """Refuse a checkpoint in which a key is missing or holds another type.

    Parameters
    ----------
    form
        The type of each key that must be there: a type, `[type]` for a list of such, a dict for a dict with those keys,
        `{str: type}` for one with any keys. A float may be an int.

    Raises
    ------
    EtadError
        Something does not fit; the message names it.

    Examples
    --------
    >>> require_form("last.pt", {"epoch": 3, "classes": ["run"]}, {"epoch": int, "classes": [str]})
    """
    misfit = _misfit(state, form, "the checkpoint")
    if misfit is not None:
        raise EtadError(f"{path}: {misfit}. {_ADVICE}")


@contextlib.contextmanager
def naming_contents(path: Path | str) -> Iterator[None]:
    """Say in a sentence that what a checkpoint holds does not fit what it is put into.

    Raises
    ------
    EtadError
        The block failed as code does that is given values of another kind.
    """
    try:
        yield
    except (torch.OutOfMemoryError, NotImplementedError):
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        reason = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) and error.args else str(error)
        words = " ".join(reason.split())
        raise EtadError(f"{path}: what this checkpoint holds does not fit ({words[:300]}). {_ADVICE}") from error


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


def _check_contents(path: Path, state: Any) -> None:
    """Refuse values that are small in the file and endless in use: nested, shared over and over, or repeated."""
    left, count = [(state, 0)], 0
    while left:
        value, depth = left.pop()
        count += 1
        if depth > _MOST_DEPTH or count > _MOST_VALUES:
            raise EtadError(
                f"{path}: holds values nested more than {_MOST_DEPTH} deep or more than {_MOST_VALUES} of them, no "
                f"checkpoint of etad does. Name a file that etad wrote."
            )
        if isinstance(value, Mapping):
            left += [(each, depth + 1) for item in value.items() for each in item]
        elif type(value) in _SEQUENCE_TYPES:
            left += [(each, depth + 1) for each in value]
        elif isinstance(value, torch.Tensor) and not value.is_sparse:
            claimed, held = value.numel() * value.element_size(), value.untyped_storage().nbytes()
            if claimed > held:
                raise EtadError(
                    f"{path}: a tensor of shape {list(value.shape)} has {held} of its {claimed} bytes. "
                    f"Name a file that etad wrote."
                )


def _misfit(value: Any, form: Any, where: str) -> str | None:
    """Where a value is not of a form, as a clause; see `require_form`."""
    if isinstance(form, Mapping):
        if not isinstance(value, Mapping):
            return f"{where} is a {type(value).__name__}, expected dict"
        if str in form:
            pairs = [(name, form[str]) for name in value]
        else:
            absent = [name for name in form if name not in value]
            if absent:
                return f"'{absent[0]}' is missing from {where}"
            pairs = list(form.items())
        found = (_misfit(value[name], each, f"'{name}' of {where}") for name, each in pairs)
    elif isinstance(form, list):
        if not isinstance(value, (list, tuple)):
            return f"{where} is a {type(value).__name__}, expected list"
        found = (_misfit(each, form[0], f"entry {number} of {where}") for number, each in enumerate(value))
    else:
        kinds = (int, float) if form is float else (form,)
        if isinstance(value, kinds) and not (isinstance(value, bool) and form is not bool):
            return None
        return f"{where} is a {type(value).__name__}, expected {form.__name__}"
    return next(filter(None, found), None)
