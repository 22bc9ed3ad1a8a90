"""The device that a run computes on."""

import torch

from ..data.errors import EtadError


def choose_device(name: str) -> torch.device:
    """Choose a device: `auto` takes a GPU where there is one.

    Raises
    ------
    EtadError
        There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise EtadError(f"device '{name}' cannot be used here: {reason}. Try auto or cpu.") from error
    return device
