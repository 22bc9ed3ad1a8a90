"""How much memory a computation takes at its peak."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

GIB = 2**30


def peak_bytes(compute: Callable[[], object], device: torch.device) -> int:
    """Most memory that tensors take at a time while something is computed, above what they took before.

    On a GPU its allocator is asked, on the CPU the profiler's record of every allocation; what libraries use for
    themselves is not seen there.

    Examples
    --------
    >>> peak_bytes(lambda: torch.zeros(1000).neg(), torch.device("cpu"))
    8000
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        compute()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records:
        compute()
    assert records.profiler is not None and records.profiler.kineto_results is not None
    events = [event for event in records.profiler.kineto_results.events() if event.name() == "[memory]"]
    taken = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        taken += event.nbytes()
        highest = max(highest, taken)
    return highest


def tensor_bytes(tensors: object) -> int:
    """Bytes of some tensors' elements."""
    assert hasattr(tensors, "__iter__")
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
