"""Pickles of arrays: the one place that reads pickle, and it can make arrays, numbers, strings, lists and dicts alone.

A pickle is a program. This reader runs those instructions alone that data need, keeps numpy out of it (arrays are
checked and built here, from their shape, type and bytes), and refuses every other name by that name.

Checked against mmaction2 (tools/data/activitynet/activitynet_feature_postprocessing.py: an array or a list of one
vector a snippet), an excerpt of TSP (extract_features/merge_pkl_files_into_one_h5_feature_file.py: one array a file,
named after its video), and what numpy 1.26 and 2 write in protocols 0 to 5.
"""

from __future__ import annotations

import io
import mmap
import pickle
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import EtadError, listing, shown
from .stored import MOST_BYTES, StoredArray, require_numbers

# A list of numbers takes one instruction a number: 30 s at most.
_MOST_INSTRUCTIONS = 50_000_000
_NAMES = ("feats", "features", "feature", "feat")
_CODE = re.compile(r"([<>=|]?)([fiub])(\d{1,2})")
_FAULTS: tuple[type[Exception], ...] = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
)
_FAULTS += (KeyError, AttributeError, OverflowError, struct.error, MemoryError, AssertionError, RecursionError)


class _Refused(Exception):
    """Something that no features need; not to be taken for damage."""


class _TypeInFile:
    """A numpy dtype as a pickle spells it."""

    def __init__(self, code: object = None, align: object = False, copy: object = False) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(text, str) or not (found := _CODE.fullmatch(text)):
            raise _Refused(f"an array of {shown(text)}, expected plain numbers")
        self.text = f"{found[2]}{found[3]}"
        self.order = "="

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        order = order.decode("ascii") if isinstance(order, bytes) else order
        if order not in ("<", ">", "=", "|"):
            raise ValueError(f"a dtype of byte order {shown(order)}")
        self.order = str(order)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.text).newbyteorder("=" if self.order == "|" else self.order)  # type: ignore[arg-type]


class _ArrayInFile:
    """A numpy array as a pickle spells it: named first, its content put in later."""

    array: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise ValueError("an array without its content")
        shape, kind, is_fortran, content = state[-4:]
        self.array = _array(shape, kind, content, "F" if is_fortran else "C")


def _array(shape: object, kind: object, content: object, order: str) -> np.ndarray:
    if isinstance(content, list):
        raise _Refused("an array of Python objects, expected one of numbers")
    raw = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(kind, _TypeInFile) or not isinstance(raw, (bytes, bytearray)):
        raise ValueError("an array without type or content")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape) or len(shape) > 8:
        raise ValueError(f"an array of shape {shown(shape)}")
    require_numbers(shape, kind.dtype)
    return np.frombuffer(raw, dtype=kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(kind: object, shape: object, code: object) -> _ArrayInFile:
    if kind is not _ArrayInFile:
        raise ValueError("an array of no known class")
    return _ArrayInFile()


def _from_buffer(content: object, kind: object, shape: object, order: object) -> _ArrayInFile:
    made = _ArrayInFile()
    made.array = _array(shape, kind, content, str(order))
    return made


def _scalar(kind: object, content: object = None) -> int | float | bool:
    return _array((), kind, content, "C").item()


def _encode(text: object, encoding: object = "") -> bytes:
    """How protocols before 3 spell bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin1")


# Names that arrays of numpy are spelled with, and what stands in for them here.
_KNOWN: Mapping[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ArrayInFile,
    ("numpy", "dtype"): _TypeInFile,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}
_CALLED = (_TypeInFile, _encode, _reconstruct, _scalar, _from_buffer)

# Instructions that make numbers, strings, bytes, lists and dicts, and keep books.
_PLAIN = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
)


# The reader in Python: its table of instructions can be cut down, and its memory grows with what was really read.
class _DataUnpickler(pickle._Unpickler):
    """Reads data, and refuses all that could run anything."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")
        self.count = 0

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is None:
            raise _Refused(f"'{module}.{name}', which is neither an array nor a number, a string, a list or a dict")
        return known

    def persistent_load(self, pid: object) -> Any:
        raise _Refused("a reference to something outside of the file")


def _counting(instruction: Callable[[Any], None]) -> Callable[[Any], None]:
    def counted_instruction(reader: Any) -> None:
        reader.count += 1
        if reader.count > _MOST_INSTRUCTIONS:
            raise _Refused(f"more than {_MOST_INSTRUCTIONS} instructions, as no features take")
        instruction(reader)

    return counted_instruction


def _refusing(code: int) -> Callable[[Any], None]:
    def refuse(reader: Any) -> None:
        raise _Refused(f"the instruction {bytes([code])!r}, which data do not need")

    return refuse


def _load_tuple(size: int | None) -> Callable[[Any], None]:
    """Tuples are kept flat, but for the shapes and types in them: hashing deep ones would overflow the stack."""

    def load(reader: Any) -> None:
        items = reader.pop_mark() if size is None else [reader.stack.pop() for _ in range(size)][::-1]
        for item in items:
            if isinstance(item, tuple) and any(isinstance(each, tuple) for each in item):
                raise _Refused("tuples within tuples within tuples")
        reader.append(tuple(items))

    return load


def _load_reduce(reader: Any) -> None:
    arguments = reader.stack.pop()
    function = reader.stack[-1]
    if function not in _CALLED or not isinstance(arguments, tuple):
        raise _Refused("a call of something else than what makes arrays")
    reader.stack[-1] = function(*arguments)


def _load_build(reader: Any) -> None:
    state = reader.stack.pop()
    made = reader.stack[-1]
    if not isinstance(made, (_ArrayInFile, _TypeInFile)):
        raise _Refused("an object with a state of its own")
    made.__setstate__(state)


def _load_bytearray8(reader: Any) -> None:
    (size,) = struct.unpack("<Q", reader.read(8))
    reader.append(bytearray(reader.read(size)))


def _dispatch() -> dict[int, Callable[[Any], None]]:
    whole: dict[int, Callable[[Any], None]] = dict(pickle._Unpickler.dispatch)
    table = {code: _refusing(code) for code in whole}
    table |= {code: whole[code] for code in (getattr(pickle, name)[0] for name in _PLAIN)}
    table |= {getattr(pickle, name)[0]: whole[getattr(pickle, name)[0]] for name in ("GLOBAL", "STACK_GLOBAL")}
    table |= {pickle.TUPLE[0]: _load_tuple(None), pickle.EMPTY_TUPLE[0]: _load_tuple(0)}
    table |= {pickle.TUPLE1[0]: _load_tuple(1), pickle.TUPLE2[0]: _load_tuple(2), pickle.TUPLE3[0]: _load_tuple(3)}
    table |= {pickle.REDUCE[0]: _load_reduce, pickle.BUILD[0]: _load_build, pickle.BYTEARRAY8[0]: _load_bytearray8}
    return {code: _counting(instruction) for code, instruction in table.items()}


_DataUnpickler.dispatch = _dispatch()


def read_pkl_of_one(path: Path, video_id: str) -> StoredArray:
    """Read a pickle of one video: an array, one vector a snippet, or a dict in which one of them is named as such.

    Raises
    ------
    EtadError
        It is damaged, holds anything but plain data, or no features.
    """
    array = _read_one(path)
    return StoredArray(video_id, path, array.shape, array.dtype, partial(_read_one, path))


def read_pkl_of_all(path: Path) -> Iterator[tuple[str, StoredArray | EtadError]]:
    """Read a pickle of a dict with one entry a video; yields each video with its array, or with what is wrong with it.

    Raises
    ------
    EtadError
        It is damaged, or holds anything but a dict of plain data.
    """
    try:
        content = _load(path)
    except EtadError as error:
        raise EtadError(f"{path}: {error}.") from error
    if not isinstance(content, dict) or not content:
        what = "an empty dict" if isinstance(content, dict) else f"a {type(content).__name__.strip('_')}"
        raise EtadError(
            f"{path}: holds {what}, expected a dict of one array a video. Files of one video each go into a folder: "
            "name that folder."
        )
    for video_id, value in content.items():
        name = video_id if isinstance(video_id, str) else str(video_id)
        try:
            if isinstance(value, dict):
                named = [each for each in _NAMES if each in value]
                if not named:
                    raise EtadError(f"is a dict without '{_NAMES[0]}'")
                value = value[named[0]]
            array = _features(value)
            yield name, StoredArray(name, path, array.shape, array.dtype, partial(np.asarray, array))
        except EtadError as error:
            yield name, error


def _load(path: Path) -> Any:
    """Read a pickle's data; the words of what is wrong go behind the name of its file or video."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise EtadError("is empty")
            # A map of the file gives no more bytes than there are, whatever length the pickle claims.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _DataUnpickler(_Mapped(content)).load()
    except OSError as error:
        raise EtadError(f"cannot be read ({error.strerror})") from error
    except _Refused as error:
        raise EtadError(
            f"holds {error}; only arrays, numbers, strings, lists and dicts are read, since a pickle can run any code. "
            "Save the arrays with numpy.save, one file a video"
        ) from error
    except _FAULTS as error:
        raise EtadError(f"is no pickle, or a damaged one ({type(error).__name__}: {str(error)[:200]})") from error


class _Mapped(io.RawIOBase):
    """A mapped file, for reading alone."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content

    def read(self, size: int = -1) -> bytes:
        return self._content.read(size)

    def readline(self, size: int | None = -1) -> bytes:
        return self._content.readline()


def _read_one(path: Path) -> np.ndarray:
    content = _load(path)
    if isinstance(content, dict):
        names = list(content) if len(content) == 1 else [name for name in _NAMES if name in content][:1]
        if not names:
            inside = listing(map(shown, content)) or "nothing"
            raise EtadError(f"holds a dict of {inside}, expected features, or them as '{_NAMES[0]}'")
        content = content[names[0]]
    return _features(content)


def _features(content: Any, depth: int = 0) -> np.ndarray:
    """The array that a value is, or that its lists make up."""
    if isinstance(content, _ArrayInFile):
        if content.array is None:
            raise EtadError("holds an array without content")
        return content.array
    if isinstance(content, (list, tuple)) and content and depth < 3:
        if all(type(each) in (int, float) for each in content):
            try:
                return np.asarray(content, dtype=np.float64)
            except OverflowError as error:
                raise EtadError("holds a number that no float can be") from error
        first = _features(content[0], depth + 1)
        if first.nbytes * len(content) > MOST_BYTES:
            raise EtadError("claims more than features take")
        rows = [_features(each, depth + 1) for each in content]
        if any(row.shape != first.shape for row in rows):
            raise EtadError("holds a list whose entries have different lengths, expected one vector a snippet")
        return np.stack(rows)
    what = type(content).__name__.strip("_")
    raise EtadError(f"holds a {what}, expected an array [T, C] or a list of one vector a snippet")
