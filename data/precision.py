"""dtypes to compute in, and where the short ones pay."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .errors import EtadError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Settle the dtype that an encoder computes in; `auto` takes the shorter one where the device gains by it.

    Raises
    ------
    EtadError
        The format is none that is known.

    Examples
    --------
    >>> choose_dtype("float32", torch.device("cpu"))
    torch.float32
    """
    if precision != "auto":
        if precision not in _DTYPES:
            raise EtadError(f"encoder.precision={precision!r} is none of auto, {', '.join(_DTYPES)}.")
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and _cpu_multiplies_bfloat16() else torch.float32


def choose_training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The same for what is trained: float16 would need its losses scaled, so `auto` never takes it."""
    dtype = choose_dtype(precision, device)
    return torch.float32 if precision == "auto" and dtype == torch.float16 else dtype


def choose_products_dtype(precision: str, like: Tensor) -> torch.dtype:
    """Settle the dtype of the products in which most of a trained network's time goes.

    Parameters
    ----------
    like
        What the products are of. `auto` leaves float64 alone: who computes in it wants its digits.
    """
    if precision == "auto" and like.dtype == torch.float64:
        return like.dtype
    short = choose_training_dtype(precision, like.device)
    return like.dtype if short == torch.float32 else short


def short_products(precision: str, like: Tensor) -> torch.autocast:
    """Context in which PyTorch's own layers multiply in the dtype of `choose_products_dtype`."""
    dtype = choose_products_dtype(precision, like)
    is_shorter = dtype != like.dtype
    # Weights that were rounded without gradients must not serve where gradients are wanted, so none are kept.
    return torch.autocast(
        like.device.type, dtype=dtype if is_shorter else None, enabled=is_shorter, cache_enabled=False
    )


@functools.cache
def _cpu_multiplies_bfloat16() -> bool:
    """Whether the processor has instructions that multiply bfloat16; emulated, it is slower than float32."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        found = capabilities()
        return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
    asks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(ask() for ask in asks if ask is not None)
