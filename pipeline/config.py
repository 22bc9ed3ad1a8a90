"""One config for all stages: TOML presets that inherit, read into the rooms' frozen settings."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from functools import reduce
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import AfterValidator, BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from ..data.errors import EtadError, nearest, shown
from ..data.files.toml_file import MOST_DEPTH, check_depth, parse_toml, read_toml
from ..data.settings import DataSettings, Mark, Settings, marks, rename_keys
from ..detect.settings import DetectSettings
from ..extract.settings import ClipSettings, EncoderSettings, ExtractSettings, PretrainSettings
from .settings import DemoSettings, E2eSettings

# What `release` chooses where the config does not: the released detector; augmentation by mmaction2's defaults.
_RELEASE: dict[str, Any] = {
    "detect": {"preset": "release"},
    "e2e": {
        "chunk": 4,
        "crop": "random",
        "flip_probability": 0.5,
        "per_video": True,
        "rand_augment": {"operations": 2, "magnitude": 9.0, "magnitude_std": 0.0},
        "colour_jitter": {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.1},
    },
}


_MOST_WORKERS = 128
# Keys that hold the name of a file or folder.
PATH_KEYS = ("data.annotations", "data.videos", "data.blocked", "encoder.weights")
# What pydantic calls the members of a union, which are no keys.
_TYPES = frozenset({"int", "float", "str", "bool", "constrained-int", "constrained-float", "constrained-str"})
# Known keys that one hint may name.
_MOST_MEANT = 4
# Kinds of pydantic's complaints, and what to say of them.
_EXPECTED = {
    **dict.fromkeys(("tuple_type", "list_type", "set_type"), "a list, such as [1, 2]"),
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("string_type", "path_type"), "a text, in quotes"),
}
# Characters of a value that a message repeats.
_MOST_SHOWN = 200


def _few_workers(workers: int) -> int:
    if workers > _MOST_WORKERS:
        raise ValueError(
            f"expected at most {_MOST_WORKERS}: each holds in memory what it reads ahead, and more of them than the "
            "machine has cores gain nothing"
        )
    return workers


class Config(Settings):
    """Everything a run depends on.

    Parameters
    ----------
    release
        Reproduce the authors' released model instead of the paper's text (docs/method.md).
    seed
        Where all randomness comes from.
    device
        `auto`, `cpu`, `cuda` or `cuda:N`.
    workers
        Processes or threads that read ahead, at most 128.
    tensorboard
        Write the logs of training as TensorBoard events, too; needs the extra `tensorboard`.
    """

    release: bool = False
    seed: int = Field(default=0, ge=0)
    device: Annotated[str, Mark.RUNTIME] = "auto"
    workers: Annotated[int, Mark.RUNTIME, AfterValidator(_few_workers)] = Field(default=2, ge=0)
    tensorboard: Annotated[bool, Mark.RUNTIME] = False
    data: DataSettings = DataSettings()
    clips: ClipSettings = ClipSettings()
    encoder: EncoderSettings = EncoderSettings()
    extract: ExtractSettings = ExtractSettings()
    pretrain: PretrainSettings = PretrainSettings()
    detect: DetectSettings = DetectSettings()
    e2e: E2eSettings = E2eSettings()
    demo: DemoSettings = DemoSettings()

    def to_tree(self) -> dict[str, Any]:
        """Nested settings as TOML holds them; those that are none are left out."""
        return _without_none(self.model_dump(mode="json"))

    def to_toml(self) -> str:
        return tomli_w.dumps(self.to_tree())


def load_config(name: str | None = None, sets: Iterable[str] = (), **direct: Any) -> Config:
    """Read a preset or a TOML file and apply overrides.

    Parameters
    ----------
    name
        Preset name or path; none: the defaults.
    sets
        `a.b=value` overrides, in order; a value is TOML, a bare word a string.
    direct
        Top-level values given by options of their own; none: not given.

    Raises
    ------
    EtadError
        There is no such preset or file, it does not parse, a key is unknown or a value does not fit.
    """
    return settle(read_tree(name) if name else {}, sets, where=name or "config", **direct)


def read_tree(name: str) -> dict[str, Any]:
    """Read a preset or a TOML file, and what it is based on, as nested keys.

    Raises
    ------
    EtadError
        There is no such preset or file, or it does not parse.
    """
    return _read(name, seen=())


def override(config: Config, *sets: str) -> Config:
    """The same config with a few keys changed, as `--set` changes them."""
    return settle(config.to_tree(), sets, where="config")


def settle(tree: dict[str, Any], sets: Iterable[str] = (), *, where: str, **direct: Any) -> Config:
    """Make a config of nested keys and overrides; see `load_config`."""
    for text in sets:
        _apply(tree, text)
    tree |= {key: value for key, value in direct.items() if value is not None}
    # A path given on the command line is relative to the place of the call; the run's config is read from elsewhere.
    _anchor(tree, Path.cwd())
    _refuse_beyond_numbers(tree, where)
    if str(tree.get("release")).lower() == "true":
        tree = _merge(_RELEASE, tree)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise EtadError(_sentence(error, where=where)) from error


def _refuse_beyond_numbers(tree: Any, where: str, key: str = "") -> None:
    """Refuse numbers that no setting can have, which would become infinite, or fail hours later."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            _refuse_beyond_numbers(value, where, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list):
        for value in tree:
            _refuse_beyond_numbers(value, where, key)
    elif isinstance(tree, int) and abs(tree) >= 2**63:
        raise EtadError(f"{where}: {key}={shown(tree)}: expected a number of at most 63 bits.")
    elif isinstance(tree, float) and not math.isfinite(tree):
        raise EtadError(f"{where}: {key}={tree}: expected a finite number.")


def toml_path(path: Path) -> str:
    """Word a path as a TOML value for an override.

    Examples
    --------
    >>> toml_path(Path("a b"))
    '"a b"'
    """
    return json.dumps(str(path))


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.name.removesuffix(".toml") for path in _presets().iterdir() if path.name.endswith(".toml"))


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Name keys whose values differ, as sentences' parts.

    Examples
    --------
    >>> differences({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}})
    ['a.b is 2, was 1', 'a.c is 3, was not set']
    """
    found = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            now, then = ("not set" if value is None else value for value in (new, old))
            found.append(f"{prefix}{key} is {now}, was {then}")
    return found


def _presets() -> Any:
    return files("etad.pipeline.configs")


def _read(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """Read a preset or file and what it is based on."""
    if name in seen:
        raise EtadError(f"config '{name}' is based on itself: {' -> '.join((*seen, name))}.")
    if len(seen) > MOST_DEPTH:
        raise EtadError(f"config '{name}': more than {MOST_DEPTH} configs are based on each other. Join some of them.")
    if name in preset_names():
        text = _presets().joinpath(f"{name}.toml").read_text(encoding="utf-8")
        tree, folder = parse_toml(text, where=name, what="a config"), None
    else:
        path = _usable_path(name, where="config")
        if not _is_file(path):
            known = preset_names()
            raise EtadError(
                f"'{name}' is neither a preset nor a TOML file.{nearest(name.lower(), known)} "
                f"Presets: {', '.join(known)}."
            )
        tree, folder = read_toml(path, what="a config"), path.parent
    if folder is not None:
        _anchor(tree, folder)
    tree = rename_keys(Config, tree)
    base = tree.pop("base", None)
    if not isinstance(base, str | None):
        raise EtadError(f"{name}: base={base!r}: expected the name of one preset or file.")
    return _merge(_read(base, (*seen, name)), tree) if base else tree


def _anchor(tree: dict[str, Any], folder: Path) -> None:
    """Paths in a config file are relative to the file, wherever the command is called."""
    for section, key in (each.split(".") for each in PATH_KEYS):
        value = tree.get(section, {}).get(key) if isinstance(tree.get(section), dict) else None
        if isinstance(value, str):
            tree[section][key] = str(folder / _usable_path(value, where=f"{section}.{key}"))
    also = tree["encoder"].get("also") if isinstance(tree.get("encoder"), dict) else None
    for number, each in enumerate(also if isinstance(also, list) else []):
        if isinstance(each, dict) and isinstance(each.get("weights"), str):
            each["weights"] = str(folder / _usable_path(each["weights"], where=f"encoder.also.{number}.weights"))


def _usable_path(text: str, *, where: str) -> Path:
    """The path that a text means; a home folder may be abbreviated."""
    if "\0" in text:
        raise EtadError(f"{where}={_cut(text)}: a path cannot hold the character NUL. Name another.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise EtadError(f"{where}={_cut(text)}: nobody of that name has a home folder here. Name another.") from error


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def _apply(tree: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    said = f"--set {_cut(text)}"
    if not equals or not key.strip():
        raise EtadError(f"{said}: expected KEY=VALUE, such as detect.training.epochs=8.")
    names = key.strip().split(".")
    if len(names) > MOST_DEPTH:
        raise EtadError(f"{said}: the key has more than {MOST_DEPTH} names, expected one such as detect.bins.")
    *path, last = _keys(rename_keys(Config, reduce(lambda below, name: {name: below}, reversed(names), {})))
    node = tree
    for name in path:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise EtadError(f"{said}: '{name}' holds a value, not a group of keys.")
    node[last] = _value(value, said)


def _value(text: str, said: str) -> Any:
    """A value as TOML has it; what is none is a string."""
    check_depth(text, where=said, what="a value")
    try:
        found = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return found["value"] if len(found) == 1 else text  # more lines are no value


def _keys(tree: Any) -> list[str]:
    """The path down a tree without branches."""
    return [name for key, below in tree.items() for name in (key, *_keys(below))] if isinstance(tree, Mapping) else []


def _sentence(error: ValidationError, *, where: str) -> str:
    """Word the first of pydantic's complaints; an unknown key gets the nearest known one."""
    first, *others = error.errors()
    place = _place(first)
    of_key = [first, *(each for each in others if _place(each)[: len(place)] == place)]
    if isinstance(first["input"], list):  # where a value or a list may stand, only the list's complaint is of use
        first = next((each for each in of_key if each["type"] not in _EXPECTED or _place(each) != place), first)
        of_key = [each for each in of_key if _place(each) == _place(first) and each["input"] is first["input"]]
        of_key = [first] if first["type"] not in _EXPECTED else of_key
    key = ".".join(str(part) for part in first["loc"] if _is_key(part))
    if first["type"] == "extra_forbidden":
        known = _fields_at(first["loc"][:-1])
        hint = _same_end(".".join([key, *_keys(first["input"])])) or nearest(str(first["loc"][-1]), known)
        return f"{where}: unknown key '{key}'.{hint}" + (f" Known here: {', '.join(known)}." if known else "")
    if first["type"] in ("model_type", "model_attributes_type", "dict_type") and key:
        known = [f"{key}.{name}" for name in _fields_at(first["loc"])] if first["type"] != "dict_type" else []
        meant = f"; set one of {', '.join(known)}" if known else ""
        return f"{where}: {key}={shown(first['input'])}: this is a group of settings{meant}."
    if key and all(each["type"] in _EXPECTED for each in of_key):  # several: a value may be of several kinds
        expected = " or ".join(dict.fromkeys(_EXPECTED[each["type"]] for each in of_key))
        return f"{where}: {key}={shown(first['input'])}: expected {expected}."
    if not key:
        return f"{where}: {first['msg'].removeprefix('Value error, ')}."
    if isinstance(first["input"], Mapping):  # keys that do not go together; the sentence names them
        return f"{where}: {key}: {first['msg'].removeprefix('Value error, ')}."
    return f"{where}: {key}={shown(first['input'])}: {first['msg'].removeprefix('Value error, ')}."


def _place(found: ErrorDetails) -> tuple[int | str, ...]:
    """Where a complaint is about, without the names of types that were tried there."""
    return tuple(part for part in found["loc"] if _is_key(part))


def _is_key(part: int | str) -> bool:
    """Whether part of a place is a key or a number, and not the name of a type that was tried for its value."""
    return isinstance(part, int) or (part.replace("-", "_").isidentifier() and part not in _TYPES and "[" not in part)


def _same_end(key: str) -> str:
    """Word a hint at the known keys that end as an unknown one does: `training.epochs` is detect's."""
    settings = [known for known, _ in marks(Config)]
    names = key.split(".")
    for first in range(len(names)):
        end = "." + ".".join(names[first:])
        found = [known for known in settings if f".{known}".endswith(end)]
        if 0 < len(found) < _MOST_MEANT:
            return f" Did you mean {' or '.join(map(repr, found))}?"
    return ""


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _is_file(path: Path) -> bool:
    """Whether a file lies there; what no file system could hold is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _fields_at(loc: Iterable[Any]) -> list[str]:
    model: type[BaseModel] = Config
    for name in loc:
        field = model.model_fields.get(str(name))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []  # inside a list
        model = field.annotation
    return sorted(model.model_fields)


def _without_none(tree: Mapping[str, Any]) -> dict[str, Any]:
    def settled(value: Any) -> Any:
        if isinstance(value, list):
            return [settled(each) for each in value]
        return _without_none(value) if isinstance(value, Mapping) else value

    return {key: settled(value) for key, value in tree.items() if value is not None}
