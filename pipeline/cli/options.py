"""Options that mean the same everywhere, and how commands chain."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...data.errors import EtadError

if TYPE_CHECKING:
    from ..config import Config


class Number(click.FloatRange):
    """A number within bounds; nan and infinity are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


@dataclass(frozen=True)
class Common:
    """The shared options as they stand: a stage's hold for the later stages of a chain, until changed."""

    config: str | None = None
    out: Path | None = None
    sets: tuple[str, ...] = ()
    seed: int | None = None
    device: str | None = None
    workers: int | None = None

    def updated(
        self,
        config: str | None,
        out: Path | None,
        sets: tuple[str, ...],
        seed: int | None,
        device: str | None,
        workers: int | None,
    ) -> Common:
        return Common(
            config=self.config if config is None else config,
            out=self.out if out is None else out,
            sets=self.sets + sets,
            seed=self.seed if seed is None else seed,
            device=self.device if device is None else device,
            workers=self.workers if workers is None else workers,
        )

    def load(self, *sets: str, default: str | None = None) -> Config:
        """Read the config that these options ask for: the one named, else the one that the run folder knows.

        Parameters
        ----------
        sets
            Options of the stage's own, as overrides.
        default
            What is read where none is named and none known.
        """
        from ..config import load_config, settle
        from ..run_folder import RunFolder

        direct = {"seed": self.seed, "device": self.device, "workers": self.workers}
        known = RunFolder(self.out).known_config() if self.config is None and self.out is not None else None
        if known is not None:
            return settle(known, [*self.sets, *sets], where=str(self.out), **direct)
        return load_config(self.config or default, [*self.sets, *sets], **direct)

    def own_sets(self) -> list[str]:
        """The overrides alone, those with options of their own among them."""
        direct = {"device": self.device, "workers": self.workers}
        return [*self.sets, *(f"{key}={value}" for key, value in direct.items() if value is not None)]

    def run_folder(self, default: str | None = None) -> Path:
        """The run folder, or a usage error that says how to name one."""
        if self.out is None and default is None:
            raise click.UsageError("no run folder: name one with -o RUN, before or after the command.")
        return self.out or Path(default or "")


_OPTIONS = (
    click.option(
        "-c", "--config", metavar="NAME|FILE", help="Preset name or TOML file; by default what the run folder knows."
    ),
    click.option("-o", "--out", type=click.Path(path_type=Path), metavar="RUN", help="Run folder."),
    click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a config key; repeatable."),
    click.option("--seed", type=click.IntRange(min=0), help="Seed of all randomness."),
    click.option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N."),
    click.option("--workers", type=click.IntRange(min=0), help="Processes or threads that read ahead."),
)
# Thresholds that --tiou may list.
_MOST_THRESHOLDS = 1000
_CHAIN = "etad.stages"  # where the contexts of a chain's stages are kept
_NAMES = ("config", "out", "sets", "seed", "device", "workers")


# Commands that the processes of a job do together, and those that no such job can do; all others are the first one's.
_TOGETHER = ("train", "extract", "detect", "e2e")
_ALONE = ("demo", "pretrain", "profile", "reproduce")


def is_first_rank() -> bool:
    """Whether this process is alone, or the first of those that `torchrun` started."""
    return num_processes() == 1 or os.environ.get("RANK", "0") == "0"


def num_processes() -> int:
    """How many processes `torchrun` started together, without loading torch.

    Raises
    ------
    EtadError
        The variable that says so holds no number.
    """
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or not int(text):
        raise EtadError(f"WORLD_SIZE={text!r} is no number of processes. Start them with torchrun, or unset it.")
    return int(text)


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the shared options; it receives a `Common` as its first argument."""

    @functools.wraps(command)
    def with_common(*args: Any, **kwargs: Any) -> Any:
        context = click.get_current_context()
        before = context.find_root().obj or Common()
        common = before.updated(*(kwargs.pop(name) for name in _NAMES))
        context.find_root().obj = common
        if context.parent is not None and num_processes() > 1:
            if context.info_name in _TOGETHER:
                from ...data.ranks import current_ranks

                current_ranks().wait()  # until the first one has done what only it does
            elif context.info_name in _ALONE:
                raise click.UsageError(f"`{context.info_name}` works in one process: call it without torchrun.")
            elif not is_first_rank():
                return 0
        return command(common, *args, **kwargs)

    for option in reversed(_OPTIONS):
        with_common = option(with_common)
    return with_common


class StageCommand(click.Command):
    """A command that other stages may follow, each of which can know what comes after it."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        context = super().make_context(info_name, args, parent=parent, **extra)
        context.meta.setdefault(_CHAIN, []).append(context)
        return context


def later_stages(common: Common) -> Iterator[tuple[str, Common, dict[str, Any]]]:
    """Names, shared options and own options of the stages that follow in this chain."""
    context = click.get_current_context()
    chain: list[click.Context] = context.meta.get(_CHAIN, [])
    for later in chain[chain.index(context) + 1 :] if context in chain else ():
        common = common.updated(*(later.params[name] for name in _NAMES))
        yield str(later.info_name), common, later.params


class LastCommand(click.Command):
    """A command with positionals, which ends a chain.

    In a chain click stops at the first positional, so that options after it would be refused or swallowed; a command
    that ends the chain may take its words in any order.
    """

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        extra.pop("allow_extra_args", None)
        extra.pop("allow_interspersed_args", None)
        return super().make_context(info_name, args, parent=parent, **extra)


def path_sets(**paths: Path | None) -> list[str]:
    """Word a command's own path options as overrides of the config's `data`."""
    from ..config import toml_path

    return [f"data.{name}={toml_path(path)}" for name, path in paths.items() if path is not None]


def told_columns(pairs: tuple[str, ...]) -> dict[str, str]:
    """Read `--column ROLE=NAME`: which column of a table holds what."""
    found = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if not equals or not role.strip() or not name.strip():
            raise EtadError(f"--column {pair}: expected ROLE=NAME, as in --column video=Clip.")
        found[role.strip()] = name.strip()
    return found


def parse_tious(text: str) -> tuple[float, ...]:
    """Read thresholds: `0.3:0.1:0.7` (first, step, last) or `0.5,0.75,0.95`.

    Examples
    --------
    >>> parse_tious("0.3:0.1:0.7")
    (0.3, 0.4, 0.5, 0.6, 0.7)
    >>> parse_tious("0.3:0.25:0.7")
    (0.3, 0.55)
    """
    try:
        if ":" in text:
            first, step, last = (float(part) for part in text.split(":"))
            count = math.floor((last - first) / step + 1e-9) + 1  # none beyond the last one
            if count > _MOST_THRESHOLDS:
                raise ValueError(count)
            values = tuple(round(first + i * step, 6) for i in range(count))
        else:
            values = tuple(float(part) for part in text.split(","))
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise EtadError(
            f"--tiou {text}: expected FIRST:STEP:LAST such as 0.5:0.05:0.95, or a list 0.5,0.75."
        ) from error
    if not values:
        raise EtadError(f"--tiou {text}: no threshold lies in this range. Write the lowest first, as in 0.3:0.1:0.7.")
    if len(set(values)) < len(values):
        raise EtadError(
            f"--tiou {text}: a threshold stands twice, and would count twice in the average. Name each once."
        )
    wrong = [value for value in values if not 0 < value <= 1]
    if wrong:
        raise EtadError(
            f"--tiou {text}: thresholds lie above 0 and up to 1, and {wrong[0]:g} does not. Decimals take a point, a "
            "list commas: 0.5,0.75."
        )
    return values


def parse_shard(text: str) -> tuple[int, int]:
    """Read `i/n`, counted from 0.

    Examples
    --------
    >>> parse_shard("0/4")
    (0, 4)
    """
    first, slash, second = text.partition("/")
    if not (slash and first.isdecimal() and second.isdecimal() and int(first) < int(second)):
        raise EtadError(f"--shard {text}: expected I/N with I from 0 to N - 1, such as 0/4.")
    return int(first), int(second)
