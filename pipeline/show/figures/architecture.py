"""The feature enhancement module, drawn from the live model: what a forward pass sees of it (Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor, nn

from ....data.errors import EtadError
from ....detect.model.enhance import Enhancement, LstmContext
from .style import BLACK, BLUE, COLUMN_WIDTH, GREEN, GREY, ORANGE, SMALLEST, save, styled

# Inches: a line of text, what lies around it in a box, and the way between two boxes.
_LINE, _PADDING, _WAY = 0.125, 0.1, 0.17
_GAP = 0.06


@dataclass(frozen=True)
class DrawnLayer:
    """What a forward pass saw of one module.

    Parameters
    ----------
    name
        As the state dict spells it.
    operations
        What it computes, a line each.
    output
        (channels, T) of its output.
    num_parameters
        Of its own.
    """

    name: str
    operations: tuple[str, ...]
    output: tuple[int, int]
    num_parameters: int


@dataclass(frozen=True)
class EnhancementLayers:
    """The layers of feature enhancement: one before, lanes side by side, one behind.

    Parameters
    ----------
    lanes
        In the order in which their outputs are joined; layers of a lane one after the other.
    """

    in_channels: int
    num_snippets: int
    first: DrawnLayer
    lanes: tuple[tuple[DrawnLayer, ...], ...]
    last: DrawnLayer
    num_parameters: int


def enhancement_of(model: nn.Module) -> Enhancement:
    """Feature enhancement of a detector.

    Raises
    ------
    EtadError
        It has none.
    """
    for module in model.modules():
        if isinstance(module, Enhancement):
            return module
    raise EtadError(f"this model, {type(model).__name__}, has no feature enhancement: only ETAD's own detector does.")


def read_enhancement(model: Enhancement, *, in_channels: int, num_snippets: int) -> EnhancementLayers:
    """Send features through the model and note what each layer makes of them."""
    outputs: dict[str, Tensor] = {}
    order: list[str] = []

    def note(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            order.append(name)
            outputs[name] = output[0] if isinstance(output, tuple) else output

        return hook

    named = {name: module for name, module in model.named_modules() if _is_drawn(module)}
    hooks = [module.register_forward_hook(note(name)) for name, module in named.items()]
    before, was_training = model.kernels, model.training
    # Optimised kernels cut a batch into parts, and a hook would see those.
    model.kernels = "reference"
    try:
        with torch.no_grad():
            model.eval()(torch.randn(1, in_channels, num_snippets, generator=torch.Generator().manual_seed(0)))
    finally:
        model.kernels = before
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    layers = {name: _layer(name, named[name], outputs[name], num_snippets) for name in order}
    context = [layers[name] for name in order if name.startswith("context.")]
    lanes: tuple[tuple[DrawnLayer, ...], ...]
    if isinstance(model.context, LstmContext):
        past = tuple(layer for layer in context if layer.name.startswith("context.past"))
        lanes = (past, (layers["direct"],), tuple(layer for layer in context if layer not in past))
    else:
        lanes = (tuple(context), (layers["direct"],))
    return EnhancementLayers(
        in_channels=in_channels,
        num_snippets=num_snippets,
        first=layers["project"],
        lanes=lanes,
        last=layers["fuse"],
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def plot_enhancement(found: EnhancementLayers, paths: Sequence[Path], *, title: str) -> list[Path]:
    """Draw the layers as boxes: name, what they compute, output size, parameters."""
    heights = [sum(_height(layer) for layer in lane) + _WAY * (len(lane) - 1) for lane in found.lanes]
    tallest = max(heights)
    ends = _height(found.first) + _height(found.last)
    height = 0.3 + 2 * (_LINE + _PADDING) + ends + tallest + 5 * _WAY + 0.26
    with styled():
        figure = Figure(figsize=(COLUMN_WIDTH, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, COLUMN_WIDTH), ylim=(-height, 0))
        axes.axis("off")
        axes.text(COLUMN_WIDTH / 2, -0.14, title, ha="center", va="center", fontsize=8)
        middle, top = COLUMN_WIDTH / 2, -0.3
        sizes = f"snippet features  {found.in_channels} x {found.num_snippets}"
        top = _draw_text_box(axes, middle, top, 2.1, [sizes], GREY)
        top = _draw_layer(axes, middle, _arrow(axes, middle, top), 2.1, found.first)
        # Lanes side by side, each from the first layer to the joint.
        width = (COLUMN_WIDTH - 0.04 - _GAP * (len(found.lanes) - 1)) / len(found.lanes)
        width = min(width, 1.6)
        left = (COLUMN_WIDTH - len(found.lanes) * width - (len(found.lanes) - 1) * _GAP) / 2
        centers = [left + width / 2 + number * (width + _GAP) for number in range(len(found.lanes))]
        fork, joint = top - _WAY / 2, top - 1.5 * _WAY - tallest
        axes.plot([middle, middle], [top, fork], color=BLACK, linewidth=0.8)
        axes.plot([centers[0], centers[-1]], [fork, fork], color=BLACK, linewidth=0.8)
        for center, lane in zip(centers, found.lanes):
            place = _arrow(axes, center, fork, length=_WAY / 2)
            for number, layer in enumerate(lane):
                place = _draw_layer(axes, center, place if number == 0 else _arrow(axes, center, place), width, layer)
            axes.plot([center, center], [place, joint], color=BLACK, linewidth=0.8)
        axes.plot([centers[0], centers[-1]], [joint, joint], color=BLACK, linewidth=0.8)
        joined = sum(lane[-1].output[0] for lane in found.lanes)
        axes.text(middle + 0.08, joint - 0.02, f"joined  {joined} x {found.num_snippets}", va="top", ha="left")
        top = _draw_layer(axes, middle, _arrow(axes, middle, joint, length=1.4 * _WAY), 2.1, found.last)
        out = f"enhanced features  {found.last.output[0]} x {found.num_snippets}"
        _draw_text_box(axes, middle, _arrow(axes, middle, top), 2.1, [out], GREY)
        total = f"{found.num_parameters:,} parameters in all"
        axes.text(middle, -height + 0.1, total, ha="center", va="center")
        return [save(figure, path) for path in paths]


def _is_drawn(module: nn.Module) -> bool:
    """Whether a module is one box: a recurrent layer, a transformer layer, or a convolution with its norm."""
    is_block = any(isinstance(child, nn.Conv1d) for child in module.children())
    return isinstance(module, nn.LSTM | nn.TransformerEncoderLayer) or is_block


def _layer(name: str, module: nn.Module, output: Tensor, num_snippets: int) -> DrawnLayer:
    if isinstance(module, nn.LSTM):
        operations = [f"LSTM {module.input_size}-{module.hidden_size}"]
    elif isinstance(module, nn.TransformerEncoderLayer):
        width, heads = module.linear1.in_features, module.self_attn.num_heads
        operations = [f"transformer {width}", f"{heads} heads, FFN {module.linear1.out_features}"]
    else:
        operations = []
        for child in module.children():
            if isinstance(child, nn.Conv1d):
                operations += [f"conv {child.in_channels}-{child.out_channels}"]
                operations += [f"kernel {child.kernel_size[0]}, groups {child.groups}"]
            elif isinstance(child, nn.GroupNorm):
                operations += [f"GroupNorm {child.num_groups}"]
        if bool((output >= 0).all()):
            operations[-1] += ", ReLU"
    # (1, T, C) of what looks along the time, else (1, C, T); where both are the same, it does not matter.
    sizes = list(output.shape[1:])
    along_time = isinstance(module, nn.LSTM | nn.TransformerEncoderLayer)
    channels, length = reversed(sizes) if along_time else sizes
    assert length == num_snippets, (name, sizes)
    count = sum(parameter.numel() for parameter in module.parameters())
    return DrawnLayer(name, tuple(operations), (channels, length), count)


def _lines(layer: DrawnLayer) -> list[str]:
    size = f"{layer.output[0]} x {layer.output[1]}"
    return [layer.name.removeprefix("context."), *layer.operations, f"out {size}", f"{layer.num_parameters:,} params"]


def _height(layer: DrawnLayer) -> float:
    return _LINE * len(_lines(layer)) + _PADDING


def _draw_layer(axes: Axes, center: float, top: float, width: float, layer: DrawnLayer) -> float:
    colour = BLUE if "LSTM" in layer.operations[0] else ORANGE if "transformer" in layer.operations[0] else GREEN
    return _draw_text_box(axes, center, top, width, _lines(layer), colour)


def _draw_text_box(axes: Axes, center: float, top: float, width: float, lines: Sequence[str], colour: str) -> float:
    """Draw a box with lines of text, the first one bold where there are several; return where it ends."""
    height = _LINE * len(lines) + _PADDING
    box = FancyBboxPatch(
        (center - width / 2, top - height), width, height, boxstyle="round,pad=0,rounding_size=0.05", linewidth=0.8
    )
    box.set(facecolor=(*_rgb(colour), 0.15), edgecolor=colour)
    axes.add_patch(box)
    for number, line in enumerate(lines):
        place = top - _PADDING / 2 - (number + 0.5) * _LINE
        weight = "bold" if number == 0 and len(lines) > 1 else "normal"
        axes.text(center, place, line, ha="center", va="center", fontsize=SMALLEST, weight=weight)
    return top - height


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def _arrow(axes: Axes, x: float, top: float, *, length: float = _WAY) -> float:
    axes.add_patch(
        FancyArrowPatch(
            (x, top),
            (x, top - length),
            arrowstyle="-|>",
            mutation_scale=6,
            linewidth=0.8,
            color=BLACK,
            shrinkA=0,
            shrinkB=0,
        )
    )
    return top - length
