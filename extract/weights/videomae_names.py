"""How publishers spell VideoMAE's weights: its authors, MMAction2 and OpenTAD, Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..encoders.videomae import sine_table

# Names of a file for a tensor of ours: alternatives, each of one name or of several that are joined along the rows.
Names = tuple[tuple[str, ...], ...]

# What such files hold beside the encoder: classifiers, a decoder of pre-training with the norm before it, codes of
# places, and in OpenTAD's detectors, adapters for encoders that have none.
AUTHORS_HEADS = r"head\..+|norm\..+|pos_embed|mask_token|encoder_to_decoder\..+|decoder\..+"
MMACTION2_HEADS = r"norm\..+|pos_embed|blocks\.\d+\.adapter\..+|ladders\..+"
HUGGING_FACE_HEADS = r"(videomae\.)?layernorm\..+|classifier\..+|mask_token|encoder_to_decoder\..+|decoder\..+"

_BLOCK = re.compile(r"stages\.([1-4])\.(\d+)\.(block|adapter)\.(.+)")
_ADAPTER = {"down": "down_proj", "depthwise": "dwconv", "pointwise": "conv", "up": "up_proj", "scale": "gamma"}


def spell_authors(path: str, group: int) -> Names:
    """Names in files of MCG-NJU's VideoMAE and of VideoMAE V2.

    Parameters
    ----------
    path
        Our name of a tensor.
    group
        Blocks of each of our stages.

    Examples
    --------
    >>> spell_authors("stages.2.0.block.fc1.bias", 3)
    (('blocks.3.mlp.fc1.bias',),)
    """
    if path.startswith("stages.0."):
        return ((f"patch_embed.proj.{_last(path)}",),)
    return _spell(path, group, _authors_part) or _norm_of_mean(path)


def spell_mmaction2(path: str, group: int) -> Names:
    """Names in files of MMAction2, and of OpenTAD's AdaTAD with its adapters; see `spell_authors`."""
    if path.startswith("stages.0."):
        return ((f"patch_embed.projection.{_last(path)}",),)
    return _spell(path, group, _mmaction2_part) or _norm_of_mean(path)


def spell_hugging_face(path: str, group: int) -> Names:
    """Names in files of Hugging Face's `transformers`, old and new; see `spell_authors`."""
    if path.startswith("stages.0."):
        return ((f"videomae.embeddings.patch_embeddings.projection.{_last(path)}",),)
    return _spell(path, group, _hugging_face_part) or _norm_of_mean(path)


def spell_hugging_face_bare(path: str, group: int) -> Names:
    """The same of a network that was saved without its classifier, and without the prefix."""
    return tuple(tuple(name.removeprefix("videomae.") for name in option) for option in spell_hugging_face(path, group))


def kind_of_authors(tensors: Mapping[str, Tensor]) -> str:
    if not any(name.endswith(".q_bias") for name in tensors):
        return "vision transformer (no VideoMAE)"
    return f"MCG-NJU VideoMAE{_pre_training(tensors)}"


def kind_of_mmaction2(tensors: Mapping[str, Tensor]) -> str:
    adapted = any(".adapter." in name or ".ladders." in name for name in tensors)
    return "OpenTAD VideoMAE with adapters" if adapted else "MMAction2 VideoMAE"


def kind_of_hugging_face(tensors: Mapping[str, Tensor]) -> str:
    return f"Hugging Face VideoMAE{_pre_training(tensors)}"


def is_norm_of_mean(path: str) -> bool:
    """Whether a tensor of ours is of the norm after the mean.

    Pre-training knows none: it begins fresh then, as when its publishers begin fine-tuning.
    """
    return _norm_of_mean(path) != ((path,),)


def wrong_places(tensors: Mapping[str, Tensor], prefix: str) -> str | None:
    """Say which tensor holds codes of places that are not the sines that we compute; none does, as a rule."""
    name = f"{prefix}pos_embed"
    codes = tensors.get(name)
    if codes is None:
        return None
    fits = codes.ndim == 3 and len(codes) == 1
    if fits:
        fits = bool(torch.isclose(codes[0].float(), sine_table(*codes.shape[1:]), rtol=0, atol=1e-2).all())
    return None if fits else f"{name} is learned, where this encoder has fixed sines"


def _spell(path: str, group: int, part_of: Callable[[int, str], Names]) -> Names:
    match = _BLOCK.fullmatch(path)
    if match is None:
        return ()
    number = (int(match[1]) - 1) * group + int(match[2])
    if match[3] == "block":
        return part_of(number, match[4])
    name, _, rest = match[4].partition(".")
    return ((f"blocks.{number}.adapter.{_ADAPTER[name]}{'.' if rest else ''}{rest}",),)


def _authors_part(number: int, part: str) -> Names:
    owner = {"q": "attn.", "v": "attn.", "p": "attn.", "f": "mlp.", "n": ""}[part[0]]
    return ((f"blocks.{number}.{owner}{part}",),)


def _mmaction2_part(number: int, part: str) -> Names:
    if part.startswith("fc"):
        return ((f"blocks.{number}.mlp.layers.{'0.0' if part.startswith('fc1') else '1'}.{_last(part)}",),)
    return _authors_part(number, part)


def _hugging_face_part(number: int, part: str) -> Names:
    layer = f"videomae.encoder.layer.{number}"
    attention = f"{layer}.attention.attention"
    if part == "qkv.weight":
        return (tuple(f"{attention}.{name}.weight" for name in ("query", "key", "value")),)
    if part in ("q_bias", "v_bias"):
        return (f"{attention}.{part}",), (f"{attention}.{'query' if part == 'q_bias' else 'value'}.bias",)
    name, _, last = part.partition(".")
    place = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "proj": "attention.output.dense",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
    }[name]
    return ((f"{layer}.{place}.{last}",),)


def _norm_of_mean(path: str) -> Names:
    """The norm after the mean, which all of them call alike; other tensors have no published name."""
    match = re.fullmatch(r"stages\.4\.head\.norm\.(\w+)", path)
    return ((f"fc_norm.{match[1]}",),) if match else ((path,),)


def _pre_training(tensors: Mapping[str, Tensor]) -> str:
    return " of pre-training" if any(name.endswith("mask_token") for name in tensors) else ""


def _last(path: str) -> str:
    return path.rpartition(".")[2]
