"""Processes that work on one job together (`torchrun`), and how they share and join what each of them has."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import EtadError, OthersEndedError

# torch is imported where processes exchange something: a command that computes nothing starts without it.
if TYPE_CHECKING:
    from torch import Tensor, nn

# Ranks wait for the slowest one, be it for the longest video. One that dies is noticed by torchrun, not by its silence.
_PATIENCE = timedelta(days=7)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """This process among those of one job; alone, everything that is joined is what the process has itself.

    Parameters
    ----------
    rank, size
        This process's number, and how many there are.
    local_rank
        Its number on its machine: which GPU is its own.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes what belongs to all of them."""
        return self.rank == 0

    def counts(self, total: int) -> list[int]:
        """How many of some items each rank gets; they differ by one at the most.

        Examples
        --------
        >>> Ranks(rank=1, size=3).counts(7)
        [2, 2, 3]
        """
        edges = [total * rank // self.size for rank in range(self.size + 1)]
        return [stop - start for start, stop in itertools.pairwise(edges)]

    def own(self, counts: Sequence[int]) -> range:
        """This rank's items, where those of all ranks stand one behind the other.

        Examples
        --------
        >>> Ranks(rank=1, size=3).own([2, 2, 3])
        range(2, 4)
        """
        first = sum(counts[: self.rank])
        return range(first, first + counts[self.rank])

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This rank's part of some items."""
        return [items[number] for number in self.own(self.counts(len(items)))]

    def deal(self, sizes: Mapping[str, float]) -> set[str]:
        """This rank's part of some items: the largest left goes to whoever has the least.

        Examples
        --------
        >>> sorted(Ranks(rank=1, size=2).deal({"a": 5, "b": 3, "c": 2, "d": 1}))
        ['b', 'c']
        """
        load = [0.0] * self.size
        own = set()
        for id in sorted(sizes, key=lambda id: (-sizes[id], id)):
            least = load.index(min(load))
            load[least] += sizes[id]
            if least == self.rank:
                own.add(id)
        return own

    def exchange(self, value: Any) -> list[Any]:
        """What each rank says, in their order; values that JSON holds."""
        if self.size == 1:
            return [value]
        import torch

        said = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        return [json.loads(bytes(row.tolist())) for row in self._gather(said)]

    def broadcast(self, value: Any = None) -> Any:
        """What the first rank says; a value that JSON holds."""
        return value if self.size == 1 else self.exchange(value if self.is_first else None)[0]

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.exchange(None)

    def join_rows(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """Rows of all ranks, (sum of counts, F), in their order; gradients reach one's own rows alone.

        Parameters
        ----------
        own
            (rows, F) of this rank; F may be 0 where it has no row.
        counts
            Rows of each rank.
        """
        assert len(own) == counts[self.rank], (self, counts, own.shape)
        if self.size == 1:
            return own
        import torch

        width = torch.tensor([own.shape[1]])
        _all_reduce(width, "MAX")
        padded = own.detach().new_zeros(max(counts), int(width))
        if len(own):
            padded[: len(own)] = own.detach()
        received = [torch.empty_like(padded) for _ in counts]
        _all_gather(received, padded)
        rows = [each[:count] for each, count in zip(received, counts)]
        if len(own):
            rows[self.rank] = own
        return torch.cat(rows)

    def join_arrays(self, own: Sequence[Tensor]) -> list[list[Tensor]]:
        """Tensors of all ranks, a list for each: any number of them, of any shape, of one dtype."""
        if self.size == 1:
            return [list(own)]
        import torch

        shapes = self.exchange([list(each.shape) for each in own])
        flat = torch.cat([each.flatten() for each in own]) if own else torch.empty(0)
        joined = []
        for tensors, values in zip(shapes, self._gather(flat)):
            parts = values.split([torch.Size(shape).numel() for shape in tensors])
            joined.append([part.reshape(shape) for part, shape in zip(parts, tensors)])
        return joined

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up each parameter's gradients over the ranks; none stays none where no rank has one."""
        if self.size == 1:
            return
        import torch

        trained = [each for each in parameters if each.requires_grad]
        has = torch.tensor([each.grad is not None for each in trained], dtype=torch.int32)
        _all_reduce(has)
        trained = [each for each, ranks in zip(trained, has.tolist()) if ranks]
        if not trained:
            return
        # A gradient is read and written in the order of its parameter's memory, which no rank does otherwise.
        total = torch.cat([(torch.zeros_like(each) if each.grad is None else each.grad).flatten() for each in trained])
        _all_reduce(total)
        for each, values in zip(trained, total.split([each.numel() for each in trained])):
            summed = values.reshape(each.shape)
            each.grad = torch.empty_like(each).copy_(summed)

    def _gather(self, own: Tensor) -> list[Tensor]:
        """Flat tensors of all ranks, whatever their lengths."""
        import torch

        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        _all_gather(lengths, torch.tensor([len(own)]))
        sizes = [int(length) for length in lengths]
        padded = own.new_zeros(max(sizes))
        padded[: len(own)] = own
        received = [torch.empty_like(padded) for _ in sizes]
        _all_gather(received, padded)
        return [each[:size] for each, size in zip(received, sizes)]


ALONE = Ranks()


def _all_reduce(tensor: Tensor, how: str = "SUM") -> None:
    import torch.distributed as dist

    with _peers_alive():
        dist.all_reduce(tensor, getattr(dist.ReduceOp, how))


def _all_gather(received: list[Tensor], own: Tensor) -> None:
    import torch.distributed as dist

    with _peers_alive():
        dist.all_gather(received, own)


@contextlib.contextmanager
def _peers_alive() -> Iterator[None]:
    """Say that another process has ended, in place of how its connection broke.

    Raises
    ------
    OthersEndedError
        Another process cannot be reached any more.
    """
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise OthersEndedError(
            f"another process of this job has ended, or cannot be reached ({reason}). See what it said; the same "
            "command goes on from here."
        ) from error


@functools.cache
def current_ranks() -> Ranks:
    """This process among those that `torchrun` started with it; joins them at the first call.

    Raises
    ------
    EtadError
        The other processes cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        return ALONE
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise EtadError(
            f"the {size} processes of this job cannot reach each other: {error}. Start them with torchrun, or unset "
            "WORLD_SIZE and RANK to work alone."
        ) from error
    atexit.register(dist.destroy_process_group)
    return Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
