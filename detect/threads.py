"""How many threads a computation is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch on one thread, then on as many as before.

    Samplers are long chains of small steps. Handing each of them to a second thread costs more than it saves, and
    on a busy core, where that thread has to wait for its turn, a hundred times more.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
