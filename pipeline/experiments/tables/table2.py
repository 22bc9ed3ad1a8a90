"""Table 2: the architecture of proposal evaluation, read off a live model, beside the paper's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ....detect.model.build import build_detector
from ....detect.model.cascade import ROI_CHANNELS, CascadeStage, Chains
from ....detect.model.detector import Detector
from ....detect.settings import DetectSettings

# Chain -> input, then width and activation of each fully connected layer.
PAPER: dict[str, tuple[str, tuple[tuple[int, str], ...]]] = {
    "start/end offset": ("128 x 8 x N", ((512, "relu"), (128, "relu"), (128, "relu"), (128, "relu"), (1, "none"))),
    "centre/width": ("128 x 32 x N", ((512, "relu"), (128, "relu"), (128, "relu"), (128, "relu"), (2, "none"))),
    "IoU": ("128 x 32 x N", ((512, "relu"), (128, "relu"), (128, "relu"), (128, "relu"), (2, "sigmoid"))),
}
HEADS = ("chain", "layer", "ours", "act", "paper", "act in the paper", "same")
# A last bias so large shows whether an output is squeezed into 0..1.
_LARGE = 100.0


@dataclass(frozen=True)
class Layer:
    """A line of the table.

    Parameters
    ----------
    ours, paper
        Output size, for N proposals.
    """

    chain: str
    layer: str
    ours: str
    activation: str
    paper: str
    paper_activation: str

    @property
    def is_same(self) -> bool:
        return (self.ours, self.activation) == (self.paper, self.paper_activation)

    def cells(self) -> tuple[str, ...]:
        same = "yes" if self.is_same else "no"
        return (self.chain, self.layer, self.ours, self.activation, self.paper, self.paper_activation, same)


@dataclass(frozen=True)
class Architecture:
    """Layers of one stage of proposal evaluation, and parameters by part."""

    layers: tuple[Layer, ...]
    parameters: dict[str, int]

    def notes(self) -> list[str]:
        """What stands out, a line each."""
        differing = [layer for layer in self.layers if not layer.is_same]
        lines = [
            "The first layers of centre/width, IoU and startness/endness are one in the model, which the paper lists "
            "with each; the chain of startness and endness, which the paper names and does not list, is as the IoU's."
        ]
        if differing:
            which = ", ".join(f"{layer.chain} {layer.layer}" for layer in differing)
            lines.append(f"Other sizes than the paper's, which are of 32 bins: {which}.")
        total = sum(self.parameters.values())
        parts = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in self.parameters.items())
        return [*lines, f"Million parameters: {parts}; {total / 1e6:.2f} in all."]


def architecture(settings: DetectSettings, *, in_channels: int) -> Architecture:
    """Build the detector and read its sizes off the weights, and its last activations off what it computes.

    Those before the last are rectified by `Chains` itself, whatever its sizes.
    """
    settings = settings.model_copy(update={"model": "etad"})
    detector = build_detector(settings, in_channels=in_channels, num_classes=1, seed=0)
    assert isinstance(detector, Detector)
    stage = detector.stages[0]
    assert isinstance(stage, CascadeStage)
    bounded = _bounded(stage)
    chains = {
        "start/end offset": (_widths(stage.ends), bounded["offsets"]),
        "centre/width": (_widths(stage.shared) + _widths(stage.heads)[1:], bounded["offsets"]),
        "IoU": (_widths(stage.shared) + _widths(stage.heads)[1:], bounded["iou"]),
    }
    layers = []
    for name, (widths, is_bounded) in chains.items():
        bins, rest = divmod(widths[0], ROI_CHANNELS)
        assert not rest, widths
        last = len(widths) - 2
        ours = [(f"{ROI_CHANNELS} x {bins} x N", "-")]
        for number, width in enumerate(widths[1:]):
            ours.append((f"{width} x N", "relu" if number < last else "sigmoid" if is_bounded else "none"))
        theirs = [(PAPER[name][0], "-"), *((f"{width} x N", act) for width, act in PAPER[name][1])]
        for number, (own, other) in enumerate(zip(ours, theirs, strict=True)):
            layers.append(Layer(name, "input" if number == 0 else f"FC {number}", *own, *other))
    parts: dict[str, nn.Module] = {"enhancement": detector.enhance, "boundary evaluation": detector.boundary}
    parts |= {f"stage {number}": each for number, each in enumerate(detector.stages, start=1)}
    counts = {name: sum(each.numel() for each in part.parameters()) for name, part in parts.items()}
    return Architecture(tuple(layers), counts)


def _widths(chains: Chains) -> list[int]:
    """Width of the input and of each layer's output."""
    return [chains.weights[0].shape[1], *(weight.shape[2] for weight in chains.weights)]


def _bounded(stage: CascadeStage) -> dict[str, bool]:
    """Whether outputs stay within 0..1 whatever the last layer's bias is."""
    with torch.no_grad():
        for chains in (stage.ends, stage.heads):
            chains.biases[-1].fill_(_LARGE)
        x = torch.zeros(1, stage.reduce.in_channels, 8)
        found = stage(x, torch.tensor([[0.25, 0.75]]))
    return {name: bool(getattr(found, name).abs().max() <= 1) for name in ("offsets", "iou")}
