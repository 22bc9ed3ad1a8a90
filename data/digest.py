"""SHA-256 of what results depend on: it tells whether what was made of them before is still good."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import EtadError

if TYPE_CHECKING:
    from torch import Tensor


def digest_of(chunks: Iterable[bytes | memoryview]) -> str:
    """Digest bytes that come in pieces (hexadecimal); where one piece ends does not matter.

    Examples
    --------
    >>> digest_of([b"a", b"bc"]) == digest_of([b"abc"])
    True
    """
    total = hashlib.sha256()
    for chunk in chunks:
        total.update(chunk)
    return total.hexdigest()


def values_digest(values: Mapping[str, Any]) -> str:
    """Digest nested values, independent of the order of keys.

    Examples
    --------
    >>> values_digest({"a": 1, "b": [2]}) == values_digest({"b": [2], "a": 1})
    True
    """
    return digest_of([json.dumps(values, sort_keys=True, default=str).encode()])


def tensor_chunks(tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    """Names and elements of tensors, in the order in which they come, for `digest_of`."""
    for name, tensor in tensors.items():
        yield name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Digest named tensors, such as a network's state, independent of their order."""
    return digest_of(tensor_chunks(dict(sorted(tensors.items()))))


def file_sha256(path: Path | str) -> str:
    """Digest a file's bytes, reading it piece by piece.

    Raises
    ------
    EtadError
        The file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EtadError(f"{path}: the file cannot be read ({error.strerror}).") from error
