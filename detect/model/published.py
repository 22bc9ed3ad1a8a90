"""The authors' released checkpoint: its names and shapes -> ours, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from ...data.errors import EtadError, counted, listing

_ENHANCE = {
    "layer1": "project",
    "layer2_f": "context.past_out",
    "layer2_b": "context.future_out",
    "layer2_d": "direct",
    "layer3": "fuse",
}
_LSTMS = {"mem_f": "context.past", "mem_b": "context.future"}
_LSTM_TENSORS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def from_published(published: dict[str, Tensor], *, num_stages: int = 3) -> dict[str, Tensor]:
    """Rename a released state dict to ours.

    Raises
    ------
    EtadError
        A tensor is missing, or one has no place in the model.
    """
    left = {key.removeprefix("module.").removeprefix("detector."): value for key, value in published.items()}
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
