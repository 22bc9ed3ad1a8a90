"""How PySlowFast and PyTorchVideo spell networks of one or two pathways: SlowFast, I3D."""

from __future__ import annotations

import re

# stages.0.REST is a stem, stages.S.B.REST block B of a stage; with two pathways, `slow` or `fast` stands before these.
_BLOCK = re.compile(r"stages\.([1-4])\.(?:(slow|fast)\.)?(\d+)\.(conv[123]|shortcut)")
_STEM = re.compile(r"stages\.0\.(?:(slow|fast)\.)?conv")
_LATERAL = re.compile(r"stages\.([0-3])\.join\.conv")
_BRANCH = {"conv1": "a", "conv2": "b", "conv3": "c"}
# Where PyTorchVideo pools between two stages of I3D, that takes a number of its own.
_BLOCKS_OF_I3D = {1: 1, 2: 3, 3: 4, 4: 5}


def spell_pyslowfast(path: str) -> tuple[str, str] | None:
    """PySlowFast's names of a convolution and of its norm; none for what no such network has."""
    if match := _STEM.fullmatch(path):
        owner = f"s1.pathway{_pathway(match[1])}_stem"
        return f"{owner}.conv", f"{owner}.bn"
    if match := _LATERAL.fullmatch(path):
        owner = f"s{int(match[1]) + 1}_fuse"
        return f"{owner}.conv_f2s", f"{owner}.bn"
    if match := _BLOCK.fullmatch(path):
        block = f"s{int(match[1]) + 1}.pathway{_pathway(match[2])}_res{match[3]}"
        branch = "branch1" if match[4] == "shortcut" else f"branch2.{_BRANCH[match[4]]}"
        return f"{block}.{branch}", f"{block}.{branch}_bn"
    return None


def spell_pytorchvideo(path: str) -> tuple[str, str] | None:
    """PyTorchVideo's names of a convolution and of its norm; none for what no such network has."""
    if match := _STEM.fullmatch(path):
        owner = "blocks.0" if match[1] is None else f"blocks.0.multipathway_blocks.{_pathway(match[1])}"
        return f"{owner}.conv", f"{owner}.norm"
    if match := _LATERAL.fullmatch(path):
        owner = f"blocks.{match[1]}.multipathway_fusion"
        return f"{owner}.conv_fast_to_slow", f"{owner}.norm"
    if match := _BLOCK.fullmatch(path):
        stage = int(match[1])
        if match[2] is None:
            owner = f"blocks.{_BLOCKS_OF_I3D[stage]}"
        else:
            owner = f"blocks.{stage}.multipathway_blocks.{_pathway(match[2])}"
        block = f"{owner}.res_blocks.{match[3]}"
        if match[4] == "shortcut":
            return f"{block}.branch1_conv", f"{block}.branch1_norm"
        branch = _BRANCH[match[4]]
        return f"{block}.branch2.conv_{branch}", f"{block}.branch2.norm_{branch}"
    return None


def _pathway(name: str | None) -> int:
    return 1 if name == "fast" else 0
