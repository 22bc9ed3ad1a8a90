"""The authors' released checkpoints: found, renamed to ours, and made a detector that infers as they do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.checkpoint import naming_contents
from ...data.errors import EtadError, counted, listing
from ..settings import DetectSettings
from .build import Trained, build_detector

_ENHANCE = {
    "layer1": "project",
    "layer2_f": "context.past_out",
    "layer2_b": "context.future_out",
    "layer2_d": "direct",
    "layer3": "fuse",
}
_LSTMS = {"mem_f": "context.past", "mem_b": "context.future"}
_GROUPS = 4  # of the first convolution
_LSTM_TENSORS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


# A name in every released detector, by which it is known, and where the end-to-end one has its encoder.
_KNOWN_BY = "temporal_enhance.layer1.0.weight"
_ENCODER = "feature_extractor."
# And one in every detector that OpenTAD calls ETAD.
_OPENTAD = "roi_head.proposal_heads.0.iou_head."
# The features of the released models: TSP's R(2+1)D-34.
RELEASED_ENCODER = "r2plus1d_34"


@dataclass(frozen=True)
class Released:
    """The tensors of a checkpoint of the authors.

    Parameters
    ----------
    tensors
        By the names they have there, those of an encoder included.
    has_encoder
        The model was trained end to end, and its encoder is among them.
    """

    tensors: Mapping[str, Tensor]
    has_encoder: bool


def find_released(path: Path, state: Mapping[str, Any]) -> Released | None:
    """Find a released model in what a checkpoint holds: at its top, or one level below.

    Raises
    ------
    EtadError
        It is a detector of OpenTAD.
    """
    for place in (state, *state.values()):
        if not isinstance(place, Mapping):
            continue
        tensors = {key: value for key, value in place.items() if isinstance(key, str) and isinstance(value, Tensor)}
        if any(_OPENTAD in key for key in tensors):
            raise EtadError(
                f"{path}: this is the ETAD of OpenTAD, which is another network than the paper's: its stages share one "
                "regression and pool features otherwise. Name a checkpoint of the authors' own ETAD, or of etad."
            )
        if any(key.endswith(_KNOWN_BY) for key in tensors):
            return Released(tensors, any(_ENCODER in key for key in tensors))
    return None


def load_released(path: Path, released: Released, *, settings: DetectSettings, classes: Sequence[str]) -> Trained:
    """Build the detector of a released model, by the preset `release`.

    Parameters
    ----------
    settings
        Of everything that such a file does not tell: windows, inference, labels.
    classes
        What its proposals will be labelled with; it knows none itself.

    Raises
    ------
    EtadError
        The labels are to come from a class branch, or the tensors are not those of the released model.
    """
    if settings.labels.source == "branch":
        raise EtadError(
            f"{path}: the authors' detector has no class branch. Set detect.labels.source=classifier, or =scores and "
            "give --scores."
        )
    with naming_contents(path):
        tensors = from_published(dict(released.tensors))
        broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
        in_channels = _GROUPS * tensors["enhance.project.conv.weight"].shape[1]
        sizes = {
            "model": "etad",
            "preset": "release",
            "enhancement": "lstm",
            "standardise": False,
            "num_stages": _stages_of(tensors),
            "bins": tensors["stages.0.shared.weights.0"].shape[1] // tensors["stages.0.reduce.weight"].shape[0],
            "in_channels": in_channels,
        }
        settings = DetectSettings.model_validate(settings.model_dump() | sizes)
        detector = build_detector(settings, in_channels=in_channels, num_classes=len(classes), seed=0)
        detector.load_state_dict(tensors)
    if broken:
        raise EtadError(f"{path}: {listing(broken)} hold NaN or infinity; the file is damaged. Get it again.")
    source = {"encoder": RELEASED_ENCODER}
    state = {"model": detector.state_dict(), "in_channels": in_channels, "released": True}
    return Trained(detector, settings, tuple(classes), source, state)


def from_published(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a released state dict to ours; the encoder of one that was trained end to end is left out.

    Raises
    ------
    EtadError
        A tensor is missing, or one has no place in the model.
    """
    known = next((key for key in published if key.endswith(_KNOWN_BY)), _KNOWN_BY)
    prefix = known.removesuffix(_KNOWN_BY)
    left = {key.removeprefix(prefix): tensor for key, tensor in published.items() if _ENCODER not in key}
    num_stages = _stages_of(left, "stage_pem")
    ours: dict[str, Tensor] = {}

    def take(name: str) -> Tensor:
        if name not in left:
            raise EtadError(f"the checkpoint has no tensor '{name}'. Expected the authors' released ETAD detector.")
        return left.pop(name)

    for theirs, mine in _ENHANCE.items():
        ours[f"enhance.{mine}.conv.weight"] = take(f"temporal_enhance.{theirs}.0.weight")
        for kind in ("weight", "bias"):
            ours[f"enhance.{mine}.norm.{kind}"] = take(f"temporal_enhance.{theirs}.1.{kind}")
    for theirs, mine in _LSTMS.items():
        for tensor in _LSTM_TENSORS:
            ours[f"enhance.{mine}.{tensor}"] = take(f"temporal_enhance.{theirs}.{tensor}")
    for number, mine in ((0, "hidden"), (2, "out")):
        for kind in ("weight", "bias"):
            ours[f"boundary.{mine}.{kind}"] = take(f"tem.{number}.{kind}")
    for stage in range(num_stages):
        to, pem = f"stages.{stage}", f"stage_pem.{stage}"
        for kind in ("weight", "bias"):
            ours[f"{to}.context.{kind}"] = take(f"stage_conv.{stage}.0.{kind}")
            ours[f"{to}.reduce.{kind}"] = take(f"{pem}.reduce_dim_before.0.{kind}")
        chains = {
            "ends": ([f"{pem}.reg_s_fc", f"{pem}.reg_e_fc"], 5),
            "shared": ([f"{pem}.reduce_dim_ext"], 1),
            "heads": ([f"{pem}.reg_cw_fc", f"{pem}.iou_fc", f"{pem}.cls_se_fc"], 4),
        }
        for mine, (theirs_of, layers) in chains.items():
            for layer in range(layers):
                weights = [take(f"{theirs}.{2 * layer}.weight").t() for theirs in theirs_of]
                biases = [take(f"{theirs}.{2 * layer}.bias")[None] for theirs in theirs_of]
                ours[f"{to}.{mine}.weights.{layer}"] = torch.stack(weights)
                ours[f"{to}.{mine}.biases.{layer}"] = torch.stack(biases)
    if left:
        raise EtadError(
            f"the checkpoint holds {counted(len(left), 'tensor')} that the detector has no place for: "
            f"{listing(sorted(left))}."
        )
    return ours


def _stages_of(tensors: Mapping[str, Tensor], owner: str = "stages") -> int:
    """How many stages a state dict has; one at least, whose tensors will be missed."""
    numbers = [int(match[1]) for key in tensors if (match := re.match(rf"{owner}\.(\d+)\.", key))]
    return max(numbers, default=0) + 1
