"""The reference of all settings, read off the settings models: key, type, default, what it undoes, meaning."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ...data.errors import EtadError, nearest
from ...data.settings import Mark, Settings, marks
from ..config import Config

_WHEN_CHANGED = {
    Mark.WEIGHTS: "refused once something is made with it",
    Mark.INFERENCE: "inference is done again",
    Mark.RUNTIME: "free",
}
_HEAD = """\
# Settings

Written by `etad config --markdown` from the settings themselves. `etad config KEY` explains one or a group of them,
`etad config NAME` shows what a preset or a file comes to. A config holds them as TOML
(`[detect.training]`, `epochs = 8`); `--set detect.training.epochs=8` overrides one. *When changed* says what
becomes of a run that has made something with another value.
"""


@dataclass(frozen=True)
class SettingRow:
    """One setting.

    Parameters
    ----------
    key
        Dotted.
    type, default
        As a reader of TOML writes them; a default that is none: "-".
    mark
        What a change undoes.
    meaning
        Its paragraph of the model's docstring.
    """

    key: str
    type: str
    default: str
    mark: Mark
    meaning: str

    @property
    def when_changed(self) -> str:
        return _WHEN_CHANGED[self.mark]


def setting_rows() -> list[SettingRow]:
    """Every setting, in the order of the models."""
    undoes = dict(marks(Config))
    return [
        SettingRow(key, _type_text(model.model_fields[name].annotation), _default_text(model, name), undoes[key], text)
        for key, model, name, text in _fields(Config, "")
    ]


def rows_of(key: str) -> list[SettingRow]:
    """One setting, or those of a group.

    Raises
    ------
    EtadError
        There is no such key.
    """
    rows = setting_rows()
    found = [row for row in rows if row.key == key or row.key.startswith(f"{key}.")]
    if not found:
        known = {row.key for row in rows} | {row.key.rpartition(".")[0] for row in rows if "." in row.key}
        ending = sorted(each for each in known if each.endswith(f".{key}"))
        hint = f" Did you mean {' or '.join(map(repr, ending[:3]))}?" if ending else nearest(key, sorted(known))
        raise EtadError(f"there is no preset, no file and no setting '{key}'.{hint} `etad config` lists all settings.")
    return found


def markdown() -> str:
    """The whole reference as a page."""
    parts = [_HEAD]
    groups: dict[str, list[SettingRow]] = {}
    for row in setting_rows():
        groups.setdefault(row.key.rpartition(".")[0], []).append(row)
    for group, rows in groups.items():
        title = f"`[{group}]`" if group else "Top level"
        parts.append(f"## {title}\n\n{_summary(group)}\n\n| key | type | default | meaning | when changed |")
        parts[-1] += "\n|---|---|---|---|---|\n" + "\n".join(_line(row, group) for row in rows) + "\n"
    return "\n".join(parts)


def _line(row: SettingRow, group: str) -> str:
    cells = [f"`{row.key.removeprefix(f'{group}.')}`", row.type, f"`{row.default}`", row.meaning, row.when_changed]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _summary(group: str) -> str:
    """The first paragraph of a group's docstring."""
    model: type[Settings] = Config
    for name in filter(None, group.split(".")):
        below = _group_of(model.model_fields[name].annotation)
        assert below is not None
        model = below
    return " ".join(inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].split())


def _fields(model: type[Settings], prefix: str) -> Iterator[tuple[str, type[Settings], str, str]]:
    meanings = _meanings(model)
    for name, field in model.model_fields.items():
        below = _group_of(field.annotation)
        if below is None:
            yield f"{prefix}{name}", model, name, meanings.get(name, "")
        else:
            yield from _fields(below, f"{prefix}{name}.")


def _meanings(model: type[Settings]) -> dict[str, str]:
    """What a docstring says of each parameter; names that share a paragraph share it here."""
    text = inspect.cleandoc(model.__doc__ or "")
    _, _, listed = text.partition("Parameters\n----------\n")
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", listed.partition("\n\n")[0]):
        names, _, meaning = block.partition("\n")
        for name in names.split(","):
            found[name.strip()] = " ".join(meaning.split())
    return found


def _group_of(annotation: Any) -> type[Settings] | None:
    return annotation if inspect.isclass(annotation) and issubclass(annotation, Settings) else None


def _type_text(annotation: Any) -> str:
    """Word a type as a reader of TOML knows it.

    Examples
    --------
    >>> _type_text(int | None), _type_text(typing.Literal["a", "b"]), _type_text(tuple[int, int] | int)
    ('whole number', "'a' | 'b'", '[whole number, whole number] | whole number')
    """
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_text(parts[0])
    if origin is typing.Literal:
        return " | ".join(map(repr, parts))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_text(part) for part in parts if part is not type(None))
    if origin is tuple:
        if parts[-1] is Ellipsis:
            return f"list of {_type_text(parts[0])}s"
        return f"[{', '.join(map(_type_text, parts))}]"
    if origin is list:
        return f"list of {_type_text(parts[0])}s"
    if _group_of(annotation) is not None:
        return "table"
    names = {bool: "true | false", int: "whole number", float: "number", str: "text", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default_text(model: type[Settings], name: str) -> str:
    value = model().model_dump(mode="json")[name]
    if value is None:
        return "-"
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"value": value}).partition("=")[2].strip() if not isinstance(value, dict) else str(value)
