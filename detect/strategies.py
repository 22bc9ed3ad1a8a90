"""The one table of sampling strategies: settings, samplers and the memory plan read it. It loads no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from ..data.errors import EtadError, nearest


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How a few of many are chosen to learn from: snippets of a sequence, or proposals of a lattice.

    Parameters
    ----------
    name
        As the settings spell it.
    needs
        What the choice depends on. Gradients are there once a detector has gone backward, so what needs them chooses
        snippets alone.
    function
        `module:function` of `detect/sampling`, imported on use. It takes a `Population` and, by keyword, `count`,
        `ratio` and `generator`, and returns rows, (B, k) int64 ascending. One that needs gradients takes those of each
        video, its features and counts, by keyword `own`, `generator` and `ranks`, and returns each video's rows and
        what goes into the encoder at them.
    same_for_all
        Every video's sample is the same one.
    rounds_up
        Shares of items that are no whole number are rounded up, not down.
    """

    name: str
    needs: Literal["nothing", "features", "gradients"]
    function: str
    same_for_all: bool = False
    rounds_up: bool = False

    def load(self) -> Callable[..., Any]:
        """Import the function."""
        module, name = self.function.split(":")
        function: Callable[..., Any] = getattr(importlib.import_module(f"{__package__}.sampling.{module}"), name)
        return function


STRATEGIES = {
    row.name: row
    for row in (
        Strategy(name="random", needs="nothing", function="positions:sample_random"),
        Strategy(name="grid", needs="nothing", function="positions:sample_grid", same_for_all=True),
        Strategy(name="block", needs="nothing", function="positions:sample_block"),
        Strategy(name="fps", needs="features", function="fps:sample_by_distance", rounds_up=True),
        Strategy(name="dpp", needs="features", function="kdpp:sample_by_diversity"),
        Strategy(name="gradnorm", needs="gradients", function="gradnorm:sample_weighted"),
        Strategy(name="coreset", needs="gradients", function="coreset:sample_representatives"),
    )
}


def find_strategy(name: str, *, gradients: bool) -> Strategy:
    """Look a strategy up.

    Parameters
    ----------
    gradients
        Whether there will be gradients to choose by.

    Raises
    ------
    EtadError
        None has this name, or it needs gradients; tells which there are.

    Examples
    --------
    >>> find_strategy("fps", gradients=False).needs
    'features'
    """
    known = {row.name: row for row in STRATEGIES.values() if gradients or row.needs != "gradients"}
    if name not in known:
        reason = "chooses by gradients, which only snippets have" if name in STRATEGIES else "is unknown"
        hint = "" if name in STRATEGIES else nearest(name, known)
        raise EtadError(f"the sampling strategy {name!r} {reason}.{hint} Known here: {', '.join(known)}.")
    return known[name]


def _check(name: str, *, gradients: bool) -> str:
    try:
        return find_strategy(name, gradients=gradients).name
    except EtadError as error:
        raise ValueError(str(error).removesuffix(".")) from error


# Settings of these types take every name of the table, or every one that does without gradients.
SnippetStrategy = Annotated[str, AfterValidator(lambda name: _check(name, gradients=True))]
ProposalStrategy = Annotated[str, AfterValidator(lambda name: _check(name, gradients=False))]
