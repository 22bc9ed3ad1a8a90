"""How publishers spell the weights of the networks we build: their names for each of our convolutions and norms."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources

from torch import Tensor

from ..encoders.efficientnet import LITE0_ROWS
from ..encoders.transnetv2 import DILATIONS
from . import videomae_names as videomae
from .pathways import spell_pyslowfast, spell_pytorchvideo

NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def _own_names(path: str, group: int) -> videomae.Names:
    return ((path,),)


@dataclass(frozen=True)
class Layout:
    """One way to name an encoder's weights.

    Parameters
    ----------
    stems
        Names of the stem's kernel, by which the layout is known.
    heads
        Pattern of the classifier's names, which no encoder has.
    spell
        From our name of a convolution, or of what owns a norm, to this layout's names of its kernel's and its norm's
        owner.
    spell_tensor
        The same of any other tensor of ours (and the blocks of a stage); see `etad.extract.weights.videomae_names`.
    transformer
        How to word, in a transformer's layout, what the file is.
    """

    stems: tuple[str, ...]
    heads: str
    spell: Callable[[str], tuple[str, str]]
    spell_tensor: Callable[[str, int], videomae.Names] = _own_names
    transformer: Callable[[Mapping[str, Tensor]], str] | None = None


@dataclass(frozen=True)
class RecognisedWeights:
    """What a file of weights was recognised as.

    Parameters
    ----------
    kind
        In words, for reports.
    families
        Encoder families that such weights are meant for; none: any.
    prefix
        What stands before every name in the file.
    """

    kind: str
    families: tuple[str, ...]
    prefix: str
    layout: Layout

    def is_head(self, key: str) -> bool:
        """Whether a tensor is the classifier, or in a checkpoint of ours anything beside the encoder."""
        if self.layout is _OWN:
            return not key.startswith(f"{self.prefix}stages.")
        if self.layout.transformer:
            inner = key.removeprefix(self.prefix)
            return not key.startswith(self.prefix) or re.fullmatch(self.layout.heads, inner) is not None
        return re.fullmatch(self.layout.heads, key) is not None


def recognise(tensors: Mapping[str, Tensor]) -> RecognisedWeights | None:
    """Tell by its names what a state dict holds; None where nothing is known."""
    published = (_PYSLOWFAST, _PYTORCHVIDEO, *_VIDEOMAE, _MMACTION2, _VIDEO_RESNET, _LITE, _TRANSNET, _TORCHVISION)
    for layout in (_OWN, *published):
        stems = [key for key in tensors if any(f".{key}".endswith(f".{stem}") for stem in layout.stems)]
        if stems:
            # Blocks may have parts of the stem's name; the stem itself stands nearest to the root.
            found = min(stems, key=len)
            stem = max((stem for stem in layout.stems if f".{found}".endswith(f".{stem}")), key=len)
            prefix = found[: len(found) - len(stem)]
            kind, families = _kind(layout, tensors, tensors[found], prefix)
            return RecognisedWeights(kind, families, prefix, layout)
    return None


def manifest(kind: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint, as its publisher has them.

    Parameters
    ----------
    kind
        Stem of a file in `manifests`, such as `mmaction2_tsm_r50`.
    """
    text = resources.files(f"{__package__}.manifests").joinpath(f"{kind}.json").read_text(encoding="utf-8")
    content = json.loads(text)
    shapes = {name: tuple(shape) for name, shape in content["tensors"].items()}
    for name, channels in content["norms"].items():
        shapes |= {f"{name}.{part}": (channels,) for part in NORM_PARTS}
        shapes[f"{name}.num_batches_tracked"] = ()
    return shapes


def manifests() -> tuple[str, ...]:
    """Kinds that `manifest` knows."""
    files = resources.files(f"{__package__}.manifests").iterdir()
    return tuple(sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json")))


def published_as(tensors: Mapping[str, Tensor]) -> str | None:
    """Name the published checkpoint whose names and shapes these are, classifier and counters left out."""
    found = _of_encoder({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    return next((kind for kind in manifests() if _of_encoder(manifest(kind)) == found), None)


def detector_in(tensors: Mapping[str, Tensor]) -> str | None:
    """Name the detector that a state dict holds, beside an encoder or alone; None where it holds none that is known."""
    if any(key.endswith("temporal_enhance.layer1.0.weight") for key in tensors):
        return "ETAD as its authors released it"
    if any("roi_head.proposal_heads.0.iou_head." in key for key in tensors):
        return "OpenTAD's ETAD, another network than the paper's"
    return None


def _of_encoder(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in shapes.items() if not re.fullmatch(_NOT_OF_ENCODER, key)}


def _kind(layout: Layout, tensors: Mapping[str, Tensor], stem: Tensor, prefix: str) -> tuple[str, tuple[str, ...]]:
    shifted = any(".net." in key for key in tensors)
    if layout is _OWN:
        return "etad", ()
    if layout.transformer:
        return layout.transformer(tensors), ("videomae",)
    if layout is _LITE:
        return "EfficientNet-lite", ("efficientnet",)
    if layout is _TRANSNET:
        return "TransNet V2", ("transnetv2",)
    if layout is _VIDEO_RESNET:
        if detector_in(tensors):
            return "end-to-end trained R(2+1)D", ("r2plus1d",)
        return ("TSP R(2+1)D" if prefix.endswith("features.") else "torchvision-style R(2+1)D"), ("r2plus1d",)
    if layout in (_PYSLOWFAST, _PYTORCHVIDEO):
        return _kind_of_pathways(layout, tensors, stem)
    if any("slow_path." in key for key in tensors):
        return "MMAction2 SlowFast", ("none",)  # its slow pathway sees other frames than PySlowFast's
    publisher = "MMAction2" if layout is _MMACTION2 else "MIT" if shifted else "torchvision"
    if shifted:
        return f"{publisher} TSM", ("tsm",)
    if stem.ndim == 5:
        # Its I3D skips every other frame in the stem, as no encoder of ours does.
        i3d = stem.shape[2] > 1
        return (f"{publisher} I3D", ("none",)) if i3d else (f"{publisher} SlowOnly", ("slowonly",))
    return f"{publisher} ResNet", ("tsm", "slowonly")


def _kind_of_pathways(layout: Layout, tensors: Mapping[str, Tensor], stem: Tensor) -> tuple[str, tuple[str, ...]]:
    publisher = "PySlowFast" if layout is _PYSLOWFAST else "PyTorchVideo"
    if any("_fuse." in key or "multipathway_fusion" in key for key in tensors):
        return f"{publisher} SlowFast", ("slowfast",)
    if stem.ndim == 5 and stem.shape[2] == 5:
        return f"{publisher} I3D", ("i3d",)
    # Slow, C2D, X3D, CSN, R(2+1)D, MViT: they share the names, and each is built otherwise.
    return f"{publisher} (neither SlowFast nor I3D)", ("none",)


# A network of another kind has convolutions that a layout cannot spell. They come out under some name of no file, and
# so count as missing.


def _spell_own(path: str) -> tuple[str, str]:
    return path, f"{path}.norm"


def _split(path: str) -> tuple[str, str]:
    """Take stages.S.B.REST apart: the common name of a residual block, and the rest; none where it has no block."""
    match = re.fullmatch(r"stages\.([1-4])\.(\d+)\.(.+)", path)
    return (f"layer{match[1]}.{match[2]}", match[3]) if match else (path, "")


def _spell_mmaction2(path: str) -> tuple[str, str]:
    if path == "stages.0.conv":
        return "conv1.conv", "conv1.bn"
    layer, rest = _split(path)
    if not rest:
        return _spell_own(path)
    name = f"{layer}.{rest.replace('shortcut', 'downsample')}"
    return f"{name}.conv", f"{name}.bn"


def _spell_torchvision(path: str) -> tuple[str, str]:
    if path == "stages.0.conv":
        return "conv1", "bn1"
    layer, rest = _split(path)
    if not rest:
        return _spell_own(path)
    if rest == "shortcut":
        return f"{layer}.downsample.0", f"{layer}.downsample.1"
    return f"{layer}.{rest}", f"{layer}.{rest.replace('conv', 'bn')}"


def _spell_video_resnet(path: str) -> tuple[str, str]:
    if path == "stages.0.space":
        return "stem.0", "stem.1"
    if path == "stages.0.time":
        return "stem.3", "stem.4"
    layer, rest = _split(path)
    if not rest:
        return _spell_own(path)
    if rest == "shortcut.conv":
        return f"{layer}.downsample.0", f"{layer}.downsample.1"
    conv, _, part = rest.partition(".")
    if part == "space":
        return f"{layer}.{conv}.0.0", f"{layer}.{conv}.0.1"
    if part == "time":
        return f"{layer}.{conv}.0.3", f"{layer}.{conv}.1"
    return _spell_own(path)


def _spell_lite(path: str) -> tuple[str, str]:
    if path == "stages.0":
        return "_conv_stem", "_bn0"
    match = re.fullmatch(r"stages\.([1-4])\.(\d+)(?:\.(expand|depthwise|project))?", path)
    if match is None:
        return _spell_own(path)
    if match[3] is None:
        return "_conv_head", "_bn1"
    before = [row.repeats for stage in LITE0_ROWS[: int(match[1]) - 1] for row in stage]
    block = f"_blocks.{sum(before) + int(match[2])}"
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[match[3]]
    return f"{block}._{match[3]}_conv", f"{block}.{norm}"


def _spell_pyslowfast(path: str) -> tuple[str, str]:
    return spell_pyslowfast(path) or _spell_own(path)


def _spell_pytorchvideo(path: str) -> tuple[str, str]:
    return spell_pytorchvideo(path) or _spell_own(path)


def _spell_transnet(path: str) -> tuple[str, str]:
    match = re.fullmatch(r"stages\.([0-3])\.(block|residual)(?:\.convs\.([0-3])\.(space|time))?", path)
    if match is None:
        return _spell_own(path)
    # A stage ends with the next pair's first block; what goes around belongs to the second one before it.
    pair, block = (int(match[1]), 0) if match[2] == "block" else (int(match[1]) - 1, 1)
    owner = f"SDDCNN.{pair}.DDCNN.{block}"
    if match[3] is None:
        return owner, f"{owner}.bn"
    layer = {"space": 0, "time": 1}[match[4]]
    return f"{owner}.Conv3D_{DILATIONS[int(match[3])]}.layers.{layer}", owner


_TRANSNET_HEADS = r"(frame_sim_layer|color_hist_layer|fc1|cls_layer[12])\..+"
_PATHWAY_HEADS = r"((detection_)?head|blocks\.[56]\.proj)\..+"
_NOT_OF_ENCODER = (
    r"(.*\.)?(cls_head\..+|(classifier|fc[12]?|new_fc|_fc)\.\w+"
    rf"|{_TRANSNET_HEADS}|{_PATHWAY_HEADS}|num_batches_tracked)"
)
_OWN_STEMS = (
    "stages.0.conv.weight",
    "stages.0.space.weight",
    "stages.0.weight",
    "stages.0.block.convs.0.space.weight",
    "stages.0.slow.conv.weight",
)
_OWN = Layout(stems=_OWN_STEMS, heads="", spell=_spell_own)
_PYSLOWFAST = Layout(
    stems=("s1.pathway0_stem.conv.weight",), heads=rf"(.*\.)?{_PATHWAY_HEADS}", spell=_spell_pyslowfast
)
_PYTORCHVIDEO = Layout(
    stems=("blocks.0.multipathway_blocks.0.conv.weight", "blocks.0.conv.weight"),
    heads=rf"(.*\.)?{_PATHWAY_HEADS}",
    spell=_spell_pytorchvideo,
)
_MMACTION2 = Layout(stems=("conv1.conv.weight",), heads=r"(.*\.)?cls_head\..+", spell=_spell_mmaction2)
_TORCHVISION = Layout(stems=("conv1.weight",), heads=r"(.*\.)?(fc|new_fc)\.\w+", spell=_spell_torchvision)
_DETECTORS = r"base_detector|projection|neck|rpn_head|roi_head"
_VIDEO_RESNET = Layout(
    stems=("stem.0.weight",),
    heads=rf"((.*\.)?fc[12]?\.\w+|(module\.)?({_DETECTORS})\..+)",
    spell=_spell_video_resnet,
)
_TRANSNET = Layout(
    stems=("SDDCNN.0.DDCNN.0.Conv3D_1.layers.0.weight",), heads=rf"(.*\.)?{_TRANSNET_HEADS}", spell=_spell_transnet
)
_LITE = Layout(stems=("_conv_stem.weight",), heads=r"(.*\.)?_fc\.\w+", spell=_spell_lite)
_VIDEOMAE = (
    Layout(
        stems=("patch_embed.proj.weight",),
        heads=videomae.AUTHORS_HEADS,
        spell=_spell_own,
        spell_tensor=videomae.spell_authors,
        transformer=videomae.kind_of_authors,
    ),
    Layout(
        stems=("patch_embed.projection.weight",),
        heads=videomae.MMACTION2_HEADS,
        spell=_spell_own,
        spell_tensor=videomae.spell_mmaction2,
        transformer=videomae.kind_of_mmaction2,
    ),
    Layout(
        stems=("videomae.embeddings.patch_embeddings.projection.weight",),
        heads=videomae.HUGGING_FACE_HEADS,
        spell=_spell_own,
        spell_tensor=videomae.spell_hugging_face,
        transformer=videomae.kind_of_hugging_face,
    ),
    Layout(
        stems=("embeddings.patch_embeddings.projection.weight",),
        heads=videomae.HUGGING_FACE_HEADS,
        spell=_spell_own,
        spell_tensor=videomae.spell_hugging_face_bare,
        transformer=videomae.kind_of_hugging_face,
    ),
)
