"""The commented settings that `etad init` writes: what was chosen, and why."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import tomli_w

from .choose import Setting

_WIDTH = 118


def settings_text(head: Sequence[str], settings: Sequence[Setting]) -> str:
    """Word settings as TOML, the reason of each above it.

    Parameters
    ----------
    head
        Paragraphs that come first.
    settings
        Sections stand in the order of their first setting.

    Examples
    --------
    >>> print(settings_text(["Mine."], [Setting("a.b", 1, "Few."), Setting("seed", 0), Setting("a.c", "x")]), end="")
    # Mine.
    seed = 0
    <BLANKLINE>
    [a]
    # Few.
    b = 1
    c = "x"
    """
    sections: dict[str, list[Setting]] = {"": []}
    for setting in settings:
        sections.setdefault(setting.key.rpartition(".")[0], []).append(setting)
    lines = [line for paragraph in head for line in _comment(paragraph)]
    for section, chosen in sections.items():
        lines += ["", f"[{section}]"] if section else []
        for key, value, why in chosen:
            lines += _comment(why)
            lines.append(f"{key.rpartition('.')[2]} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH, break_on_hyphens=False, break_long_words=False)]


def _value(value: object) -> str:
    """A value on one line, lists and tables too."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_value(each)}' for key, each in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return tomli_w.dumps({"value": value}).partition("=")[2].strip()
