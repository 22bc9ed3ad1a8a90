import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from etad.data.errors import EtadError
from etad.extract.encoders.encoder import Encoder, build_encoder
from etad.extract.encoders.i3d import i3d_stages
from etad.extract.encoders.slowfast import slowfast_stages
from etad.extract.weights import load
from etad.extract.weights.file import WeightsFile
from etad.extract.weights.layouts import manifest, published_as, recognise
from reference import encoders as plain
from reference.layout_writer import Writer
from reference.published_layouts import pathways

PUBLISHERS = {"pyslowfast": "PySlowFast", "pytorchvideo": "PyTorchVideo"}
BLOCKS = {"slowfast": (2, 1, 2, 1), "i3d": (1, 2, 1, 2)}


def tiny(kind: str) -> Encoder:
    if kind == "slowfast":
        stages, channels = slowfast_stages(num_blocks=BLOCKS[kind], width=16, fusion_kernel=5, beta=2), 512 + 256
    else:
        stages, channels = i3d_stages(num_blocks=BLOCKS[kind], width=8), 256
    return Encoder(stages, channels=channels, mean=(0, 0, 0), std=(1, 1, 1)).double()


def state_of(publisher: str, kind: str) -> plain.State:
    out = Writer()
    sizes = {"width": 16, "beta": 2, "fusion": 5} if kind == "slowfast" else {"width": 8}
    pathways(out, publisher=publisher, kind=kind, blocks=BLOCKS[kind], classes=3, **sizes)
    norms = {f"{name}.{part}": (n,) for name, n in out.norms.items() for part in load.NORM_PARTS}
    return plain.fabricate(out.tensors | norms, seed=1, dtype=torch.float64)


def as_file(tensors: dict[str, Tensor], name: str = "weights.pyth") -> WeightsFile:
    return WeightsFile(Path(name), 1, "0" * 64, tensors, None)


@pytest.mark.parametrize("publisher", PUBLISHERS)
@pytest.mark.parametrize("kind", BLOCKS)
def test_features_and_gradients_equal_the_publishers_network(publisher: str, kind: str) -> None:
    state = state_of(publisher, kind)
    encoder = tiny(kind).freeze(-1)
    file = as_file(state)
    found, report = load._match(encoder, file, recognise(state), "tiny")
    assert report.complete and len(report.heads) == 2
    encoder.load_state_dict(found, strict=False)
    x = torch.randn(2, 3, 8, 33, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mine, other = encoder(x), plain.pathways(state, x, publisher=publisher, kind=kind)
    assert other.std() > 0.01
    torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-11)
    direction = torch.randn(mine.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (ours,), (theirs,) = (torch.autograd.grad((each * direction).sum(), x) for each in (mine, other))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("publisher", PUBLISHERS)
@pytest.mark.parametrize("name", ["slowfast_r50", "slowfast_r101", "i3d_r50"])
def test_a_published_checkpoint_covers_its_encoder_and_no_other(publisher: str, name: str) -> None:
    kind = f"{publisher}_{name}"
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in manifest(kind).items()}
    assert published_as(tensors) == kind
    source = recognise(tensors)
    assert source.kind == f"{PUBLISHERS[publisher]} {'I3D' if name == 'i3d_r50' else 'SlowFast'}"
    file = as_file(tensors)
    assert load._fitting(load._reports(file, source), file, source) == [name]


def test_networks_that_share_the_names_are_named_and_refused(tmp_path: Path) -> None:
    state = {f"model.{key}": tensor for key, tensor in state_of("pytorchvideo", "i3d").items()}
    state["model.blocks.0.conv.weight"] = state["model.blocks.0.conv.weight"][:, :, 2:3]
    torch.save({"model_state": state, "epoch": 196, "cfg": "TRAIN: {}"}, tmp_path / "slow.pyth")
    with pytest.raises(EtadError, match=r"PyTorchVideo \(neither SlowFast nor I3D\) weights .* They fit no encoder"):
        load.load_weights(build_encoder("tsm_tiny"), tmp_path / "slow.pyth", name="tsm_tiny")
    for prefix, frames, said in (("", 5, "MMAction2 I3D"), ("slow_path.", 1, "MMAction2 SlowFast")):
        tensors = {f"backbone.{prefix}conv1.conv.weight": torch.zeros(8, 3, frames, 7, 7)}
        found = recognise(tensors)
        assert found.kind == said and found.families == ("none",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_of_caffe2_are_named(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "SLOWFAST_8x8_R50.pkl"
    path.write_bytes(pickle.dumps({"blobs": {"conv1_w": [1.0] * 9}}, protocol=protocol))
    with pytest.raises(EtadError, match=r"R50.pkl: this is a checkpoint of Caffe2, .*PyTorchVideo"):
        load.describe(path)
    path.write_bytes(pickle.dumps({"weights": [1.0, 2.0]}, protocol=protocol))
    with pytest.raises(EtadError, match=r"R50.pkl: this is a plain pickle, .*could run code"):
        load.describe(path)
