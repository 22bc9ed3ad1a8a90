"""Encoders in checkpoints: whole, or of those with adapters these alone, and what tells the weights beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ...data.digest import tensors_digest
from ...data.errors import EtadError, listing
from ..encoders.encoder import ENCODERS, Encoder, build_encoder
from .file import WeightsFile


@dataclass(frozen=True)
class FrozenWeights:
    """The weights that adapters were trained beside, and that they need again.

    Parameters
    ----------
    sha256
        Digest of their file; of random weights, a word that tells their seed.
    path
        Where the file lay.
    digest
        Of the tensors themselves, whatever file has them.
    """

    sha256: str
    path: str
    digest: str

    @staticmethod
    def of(saved: Mapping[str, Any]) -> FrozenWeights:
        """Read what `encoder_state` noted; raises KeyError or TypeError where that is damaged."""
        values = {field.name: saved["frozen"][field.name] for field in fields(FrozenWeights)}
        if not all(isinstance(value, str) for value in values.values()):
            raise TypeError(f"frozen weights are told by {values!r}")
        return FrozenWeights(**values)


def encoder_state(encoder: Encoder) -> dict[str, Any]:
    """What a checkpoint holds of an encoder: all of it, or its adapters and what tells the rest."""
    if encoder.adapter == "none":
        return {"encoder": encoder.state_dict()}
    frozen = FrozenWeights(*encoder.loaded_from, frozen_digest(encoder))
    return {"encoder": _adapters(encoder), "adapter": encoder.adapter, "frozen": asdict(frozen)}


def restore_encoder(encoder: Encoder, saved: Mapping[str, Any]) -> None:
    """Put an encoder back to where a checkpoint was written; its frozen weights must be there already.

    Raises
    ------
    KeyError, TypeError, ValueError, RuntimeError
        The checkpoint is of another encoder, or its adapters were trained beside other weights.
    """
    kind = saved.get("adapter", "none")
    if kind != encoder.adapter:
        raise ValueError(f"encoder.adapter is {encoder.adapter}, the checkpoint's is {kind}")
    if kind == "none":
        encoder.load_state_dict(saved["encoder"])
        return
    if FrozenWeights.of(saved).digest != frozen_digest(encoder):
        raise ValueError("its adapters were trained beside other frozen weights")
    _fill_adapters(encoder, saved["encoder"])


def same_frozen(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two checkpoints' adapters stand beside the same weights; two without adapters do."""
    told = [each.get("frozen") for each in (first, second)]
    return first.get("adapter") == second.get("adapter") and told[0] == told[1]


def check_adapters(encoder: Encoder, file: WeightsFile, *, name: str) -> None:
    """Refuse a file of adapters of another encoder or kind, before the weights beside them are looked for.

    Raises
    ------
    EtadError
        Naming the keys to set.
    """
    if file.encoder_name != name:
        advice = f"Set encoder.name='{file.encoder_name}'"
        if file.encoder_name not in ENCODERS:
            advice = "etad has none of that name: get the file again"
        raise EtadError(f"{file.path}: these are adapters of encoder {file.encoder_name}. {advice}.")
    if file.adapter != encoder.adapter:
        raise EtadError(
            f"{file.path}: these are adapters of kind {file.adapter}, the config says {encoder.adapter}. "
            f"Set encoder.adapter='{file.adapter}', or name other weights."
        )


def load_adapters(encoder: Encoder, file: WeightsFile, *, name: str) -> str:
    """Fill the adapters of an encoder whose frozen weights are there already; says so in a line.

    Raises
    ------
    EtadError
        They are damaged, or were trained beside other weights.
    """
    frozen = frozen_of(file)
    if frozen.digest != frozen_digest(encoder):
        raise EtadError(
            f"{file.path}: these adapters were trained beside other weights of encoder {name} than those found "
            f"({encoder.loaded_from[1] or encoder.loaded_from[0]}). {where_frozen(frozen)}"
        )
    if broken := not_finite(file.tensors):
        raise EtadError(f"{file.path}: {listing(broken)} hold NaN or infinity; the file is damaged. Get it again.")
    try:
        _fill_adapters(encoder, file.tensors)
    except ValueError as error:
        raise EtadError(
            f"{file.path}: these adapters do not fit encoder {name} ({error}). Train them again."
        ) from error
    return f"{file.path}: {file.adapter} adapters, sha256 {file.sha256[:12]}, beside those weights"


def frozen_of(file: WeightsFile) -> FrozenWeights:
    """What tells the weights that a file's adapters stand beside.

    Raises
    ------
    EtadError
        The file does not say it as it should.
    """
    try:
        return FrozenWeights.of({"frozen": file.frozen})
    except (KeyError, TypeError) as error:
        raise EtadError(
            f"{file.path}: does not tell the weights that its adapters need; get the file again."
        ) from error


def where_frozen(frozen: FrozenWeights, *, key: str = "encoder.weights") -> str:
    """Say which weights adapters need, and how to name them."""
    if not frozen.path:
        return f"They need the weights '{frozen.sha256}'."
    return f"They need the weights with sha256 {frozen.sha256}, which lay at {frozen.path}. Set {key} to them."


def describe_adapters(file: WeightsFile) -> list[str]:
    """Say in a few lines what a file of adapters is, and which file to bring or why it cannot be used."""
    lines = [f"  {file.adapter} adapters of encoder {file.encoder_name}, which alone were trained"]
    if fault := _fault(file):
        return [*lines, f"  cannot be used: {fault}"]
    return [
        *lines,
        f"  {where_frozen(frozen_of(file))}",
        f"  to use it: --weights {file.path} with encoder.name='{file.encoder_name}', encoder.adapter='{file.adapter}'",
    ]


def _fault(file: WeightsFile) -> str:
    """What stands against filling any encoder with a file's adapters."""
    if file.encoder_name not in ENCODERS:
        named = "it names no encoder" if file.encoder_name is None else f"etad has no encoder '{file.encoder_name}'"
        return f"{named}. Get the file again"
    if broken := not_finite(file.tensors):
        return f"{listing(broken)} hold NaN or infinity. Get the file again"
    try:
        with torch.device("meta"):
            own = _adapters(build_encoder(file.encoder_name, adapter=file.adapter))  # type: ignore[arg-type]
        _require_shapes(file.tensors, own)
    except EtadError as error:
        return f"{str(error).rstrip('.')}. Get the file again"
    except ValueError as error:
        return f"they do not fit encoder {file.encoder_name} ({error}). Train them again"
    return ""


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in tensors.items() if not tensor.isfinite().all()]


def frozen_digest(encoder: Encoder) -> str:
    """Digest of all that stands beside the adapters, computed again only when that has changed."""
    frozen = {name: tensor for name, tensor in encoder.state_dict().items() if not _is_adapter(name)}
    versions = [(tensor._version, tensor.data_ptr()) for tensor in frozen.values()]
    if encoder.frozen_digest is None or encoder.frozen_digest[0] != versions:
        encoder.frozen_digest = (versions, tensors_digest(frozen))
    return encoder.frozen_digest[1]


def _is_adapter(name: str) -> bool:
    return ".adapter." in name


def _adapters(encoder: Encoder) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in encoder.state_dict().items() if _is_adapter(name)}


def _fill_adapters(encoder: Encoder, tensors: Mapping[str, Tensor]) -> None:
    own = _adapters(encoder)
    _require_shapes(tensors, own)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def _require_shapes(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise ValueError where the names and shapes of two sets of tensors are not the same."""
    shapes, expected = ({name: tuple(each.shape) for name, each in part.items()} for part in (tensors, own))
    if shapes != expected:
        wrong = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
        raise ValueError(f"{listing(wrong, 3)} of {len(own)} tensors differ")
