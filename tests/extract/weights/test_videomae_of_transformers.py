"""VideoMAE beside that of the package `transformers`, which etad never needs: to run it, install that extra."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from etad.extract.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from etad.extract.encoders.videomae import videomae_stages
from etad.extract.weights.layouts import manifest
from etad.extract.weights.load import load_weights

transformers = pytest.importorskip("transformers", reason="not installed: pip install '.[transformers]'")

SIZES: dict[str, Any] = dict(
    hidden_size=48, num_hidden_layers=4, num_attention_heads=3, intermediate_size=192, layer_norm_eps=1e-6
)
DECODER = dict(
    decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=32
)


def network(kind: str, **sizes: Any) -> Any:
    torch.manual_seed(0)
    made = getattr(transformers, kind)(transformers.VideoMAEConfig(**sizes)).eval()
    for parameter in made.parameters():
        if not parameter.is_meta:
            torch.nn.init.normal_(parameter, std=0.2)
    return made


def as_published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With biases named as in every file that was published before version 5."""
    names = {"attention.query.bias": "attention.q_bias", "attention.value.bias": "attention.v_bias"}
    for new, old in names.items():
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    return state


@pytest.mark.parametrize("published", [True, False], ids=["published", "saved by version 5"])
@pytest.mark.parametrize("kind", ["VideoMAEForVideoClassification", "VideoMAEForPreTraining", "VideoMAEModel"])
@pytest.mark.parametrize("grid", [2, 14])
def test_features_are_those_of_transformers(kind: str, published: bool, grid: int, tmp_path: Path) -> None:
    frames = 8 if grid == 2 else 2
    theirs = network(kind, image_size=16 * grid, num_frames=frames, **SIZES, **DECODER)
    state = as_published(theirs.state_dict()) if published else dict(theirs.state_dict())
    if published:
        path = tmp_path / "pytorch_model.bin"
        torch.save(state, path)
    else:
        path = tmp_path / "model.safetensors"
        save_file(state, path, metadata={"format": "pt"})
    ours = Encoder(
        videomae_stages(channels=48, depth=4, heads=3, grid=grid), channels=48, mean=IMAGENET_MEAN, std=IMAGENET_STD
    ).freeze(4)
    report = load_weights(ours, path, name="videomae_b")
    assert report.complete and bool(report.fresh) == (kind != "VideoMAEForVideoClassification")
    clips = torch.randn(2, 3, frames, 16 * grid, 16 * grid)
    with torch.no_grad():
        tokens = getattr(theirs, "videomae", theirs)(clips.transpose(1, 2)).last_hidden_state
        if getattr(theirs, "videomae", theirs).layernorm is not None:
            pytest.fail("the network ends with a norm of its own")
        norm = getattr(theirs, "fc_norm", None) or torch.nn.LayerNorm(48, eps=1e-6)
        torch.testing.assert_close(ours(clips), norm(tokens.mean(1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "of", "sizes"),
    [
        ("VideoMAEForVideoClassification", "huggingface_videomae_b", dict(num_labels=400)),
        ("VideoMAEForPreTraining", "huggingface_videomae_b_pretraining", dict(use_mean_pooling=False)),
        (
            "VideoMAEForVideoClassification",
            "huggingface_videomae_l",
            dict(
                num_labels=400, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
            ),
        ),
    ],
)
def test_manifests_are_what_transformers_would_write(kind: str, of: str, sizes: dict[str, Any]) -> None:
    with torch.device("meta"):
        state = as_published(network(kind, **sizes).state_dict())
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == manifest(of)
