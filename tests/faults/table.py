"""The table of what became of the faults, and how many are tried."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from faults.children import Ended

from etad.data.errors import EtadError
from etad.pipeline.show.report import table

HEADS = ("fault", "tried", "survived", "lost", "tracebacks", "hangs", "wrong")
TALLIES: list[Tally] = []
Case = TypeVar("Case")


def count(name: str, few: int) -> int:
    """How many faults of a kind are tried: ETAD_FAULT_NAME, or a few."""
    return int(os.environ.get(f"ETAD_FAULT_{name}", few))


def some(name: str, cases: Sequence[Case], few: int) -> list[Case]:
    """All cases where ETAD_FAULT_NAME says how often each is tried; else a few of them, which the seed draws."""
    return list(cases) if f"ETAD_FAULT_{name}" in os.environ else random.Random(f"{SEED} {name}").sample(cases, few)


SEED = count("SEED", 0)


@dataclass
class Tally:
    """What became of the faults of one kind; all but the first two numbers must be 0."""

    fault: str
    tried: int = 0
    became: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HEADS[2:], 0))
    notes: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        TALLIES.append(self)

    @property
    def chance(self) -> random.Random:
        """Random numbers of this kind of fault alone, so that each can be tried by itself."""
        return random.Random(f"{SEED} {self.fault}")

    def add(self, became: str, note: str, said: str = "") -> None:
        """Count one fault; `note` says which it was, where it was not survived."""
        self.tried += 1
        self.became[became] += 1
        self.seconds = time.monotonic() - self.began
        if became != "survived":
            last = " | ".join(said.splitlines()[-3:])
            self.notes.append(f"{self.fault}: {became}: {note}: {last[-600:]}")

    def add_ended(self, ended: Ended, note: str) -> None:
        """Count a command that had only to end with a sentence or well."""
        self.add(ended.fault or "survived", note, ended.said)

    def add_resumed(self, ended: Ended, came_to: Callable[[], object], expected: object, note: str) -> None:
        """Count a command that had to go on to what an undisturbed one comes to."""
        found = None
        if ended.fault is None and ended.status == 0:
            try:
                found = came_to()
            except (EtadError, OSError) as error:
                self.add("lost", note, str(error))
                return
        if ended.fault is not None:
            became = ended.fault
        elif ended.status != 0:
            became = "lost"
        else:
            became = "survived" if found == expected else "wrong"
        self.add(became, note, ended.said)

    def require_survival(self) -> None:
        assert not self.notes, "\n".join(self.notes)
        assert self.became["survived"] == self.tried > 0

    def row(self) -> list[str]:
        return [self.fault, *(str(number) for number in (self.tried, *self.became.values())), f"{self.seconds:.0f}"]


def whole_table() -> str:
    """The table of all that was tried, with its sum."""
    sums = [sum(tally.became[head] for tally in TALLIES) for head in HEADS[2:]]
    total = ["all", sum(tally.tried for tally in TALLIES), *sums, round(sum(tally.seconds for tally in TALLIES))]
    rows = [*(tally.row() for tally in TALLIES), [str(each) for each in total]]
    return table(rows, heads=[*HEADS, "seconds"])
