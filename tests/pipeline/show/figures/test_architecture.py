from pathlib import Path

import pytest
import torch
from torch import nn

from etad.data.errors import EtadError
from etad.detect.model.detector import Detector
from etad.pipeline.show.figures.architecture import enhancement_of, plot_enhancement, read_enhancement


def detector(variant: str, *, channels: int = 50) -> Detector:
    return Detector(in_channels=channels, enhancement=variant, num_stages=1, bins=4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variant", "lanes"),
    [
        ("lstm", [["context.past", "context.past_out"], ["direct"], ["context.future", "context.future_out"]]),
        ("conv", [["context.inner", "context.outer"], ["direct"]]),
        ("transformer", [["context.layers.layers.0", "context.layers.layers.1"], ["direct"]]),
    ],
)
def test_every_parameter_of_the_live_model_is_in_a_box(variant: str, lanes: list[list[str]], tmp_path: Path) -> None:
    model = enhancement_of(detector(variant)).train()
    found = read_enhancement(model, in_channels=50, num_snippets=9)
    assert [[layer.name for layer in lane] for lane in found.lanes] == lanes
    layers = [found.first, *(layer for lane in found.lanes for layer in lane), found.last]
    assert sum(layer.num_parameters for layer in layers) == found.num_parameters
    assert found.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert all(layer.output[1] == 9 for layer in layers) and found.last.output == (256, 9)
    # Whoever looks leaves no trace.
    assert model.training and model.kernels == "fast"
    assert not any(module._forward_hooks for module in model.modules())

    (path,) = plot_enhancement(found, [tmp_path / "figure.svg"], title=variant)
    drawn = path.read_text()
    assert all(f"{layer.num_parameters:,} params" in drawn for layer in layers)
    assert "snippet features  50 x 9" in drawn


def test_sizes_are_those_of_the_weights() -> None:
    model = enhancement_of(detector("lstm", channels=64))
    state = model.state_dict()
    found = read_enhancement(model, in_channels=64, num_snippets=12)
    assert found.first.operations == ("conv 64-256", "kernel 3, groups 4", "GroupNorm 16, ReLU")
    assert found.first.num_parameters == sum(state[f"project.{name}"].numel() for name in ("conv.weight",)) + 2 * 256
    assert found.lanes[0][0].operations == ("LSTM 256-256",) and found.lanes[0][1].output == (128, 12)


def test_a_model_without_enhancement_is_told() -> None:
    with pytest.raises(EtadError, match="Linear, has no feature enhancement"):
        enhancement_of(nn.Linear(1, 1))
    assert torch.is_grad_enabled()
