"""The device that a run computes on."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from torch import nn

from ..data.errors import EtadError, nearest
from ..data.ranks import current_ranks
from ..detect.kernels import one_thread

_KINDS = ("cpu", "cuda", "mps", "xpu")
_MEANT = dict.fromkeys(("gpu", "nvidia"), "Did you mean 'cuda'?")
# Below so many parameters, a step is a chain of small operations that a second thread holds up rather than helps.
_SMALL_ENCODER = 2_000_000


def choose_device(name: str) -> torch.device:
    """Choose a device: `auto` takes a GPU where there is one.

    Raises
    ------
    EtadError
        There is no such device here.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        # Of processes that work together, each has a GPU of its own, as far as they go round.
        ranks = current_ranks()
        return (
            torch.device("cuda", ranks.local_rank % torch.cuda.device_count())
            if ranks.size > 1
            else torch.device("cuda")
        )
    if name.partition(":")[0] not in _KINDS:
        hint = _MEANT.get(name.lower().rstrip("0123456789:"), "") or nearest(name, ("auto", *_KINDS)).strip()
        raise EtadError(f"there is no device '{name}'. {hint} Expected auto, cpu, cuda or cuda:N.".replace("  ", " "))
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise EtadError(f"device '{name}' cannot be used here: {reason}. Try auto or cpu.") from error
    return device


def threads_for(encoder: nn.Module) -> AbstractContextManager[None]:
    """Run PyTorch on one thread where the encoder is so small that more of them would be in each other's way."""
    is_small = sum(parameter.numel() for parameter in encoder.parameters()) < _SMALL_ENCODER
    return one_thread() if is_small else contextlib.nullcontext()
