"""What may be done to the text, the values or the arrays of an input; drawn by hypothesis."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tomli_w
import torch
from hypothesis import strategies as st

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.sampled_from([10**400, -(2**63), 2**63, 2**64, 1e308, 5e-324, 1e-9]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["", " ", "\x1b[2J", "\0", "../../x", "training", "validation", "jump ", "nan", "\u202e", "x" * 5000]
    ),
)
VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=6,
)
TENSORS = st.one_of(
    st.builds(
        torch.zeros, st.lists(st.integers(0, 4), max_size=4), dtype=st.sampled_from([torch.float32, torch.int64])
    ),
    st.sampled_from([torch.full((3,), float("nan")), torch.tensor([1 + 1j]), torch.zeros(0), torch.eye(3).to_sparse()]),
)
ARRAYS = st.one_of(
    st.builds(
        lambda shape, kind: np.zeros(shape, dtype=kind),
        st.lists(st.integers(0, 5), max_size=3),
        st.sampled_from(["f4", "f8", "i8", "u1", "?", "c8", "U3", "S3", "M8[s]", [("a", "f4")]]),
    ),
    st.sampled_from([np.full((2, 101), np.nan), np.full((2, 101), -1.0), np.full((2, 101), np.inf)]),
)


@dataclass(frozen=True)
class Step:
    """One change of a tree of values, at one of its places."""

    how: str
    place: int
    other: int
    value: Any


STEPS = st.lists(
    st.builds(
        Step,
        how=st.sampled_from(["replace", "replace", "remove", "rename", "swap", "repeat", "wrap"]),
        place=st.integers(0, 10**6),
        other=st.integers(0, 10**6),
        value=VALUES,
    ),
    min_size=1,
    max_size=3,
)
_PIECES = st.sampled_from(
    [b"[" * 3000, b'{"a":' * 3000, b"\xff\xfe", b"\0", b'"', b"\\ud800", b"1" * 5000, b"-", b"}", b"\xef\xbb\xbf"]
)
# Where bytes are cut or put in: (place, bytes that go, bytes that come).
CUTS = st.lists(
    st.tuples(
        st.integers(0, 10**6),
        st.one_of(st.integers(0, 3), st.integers(0, 10**6)),
        st.one_of(_PIECES, st.binary(max_size=3)),
    ),
    min_size=1,
    max_size=2,
)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a tree, as what holds it and its key, level by level."""
    left = [tree]
    for holder in left:
        pairs = list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder))
        for key, value in pairs:
            yield holder, key
            if isinstance(value, (dict, list)):
                left.append(value)


def changed(tree: Any, steps: list[Step]) -> Any:
    """A tree of values with some changes; the higher a place, the likelier it is met."""
    tree = copy.deepcopy(tree)
    for step in steps:
        places = list(_places(tree))
        if not places:
            return step.value
        # Half of the changes go to the highest places: the forms of files are there, below is more of the same.
        near = places[: 12 if step.other % 2 else len(places)]
        holder, key = near[step.place % len(near)]
        if step.how == "remove":
            del holder[key]
        elif step.how == "rename" and isinstance(holder, dict):
            holder[str(step.value)[:20]] = holder.pop(key)
        elif step.how == "swap":
            others, other = places[step.other % len(places)]
            holder[key], others[other] = copy.deepcopy(others[other]), copy.deepcopy(holder[key])
        elif step.how == "repeat" and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif step.how == "wrap":
            holder[key] = [holder[key]]
        else:
            holder[key] = step.value
    return tree


def cut(content: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    """Bytes with some taken out and others put in."""
    for place, gone, come in cuts:
        at = place % (len(content) + 1)
        content = content[:at] + come + content[at + gone :]
    return content


def as_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def as_toml(tree: Any) -> bytes:
    """TOML of a tree, as far as it has any: it knows no null."""
    try:
        return tomli_w.dumps(tree).encode()
    except (TypeError, ValueError, AttributeError):
        return f"value = {tree!r}".encode("utf-8", errors="replace")
