import argparse
import collections
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from etad.data.errors import EtadError
from etad.extract.encoders.encoder import ENCODERS, Encoder, build_encoder
from etad.extract.weights import load as weights
from etad.extract.weights.layouts import manifest, manifests
from etad.extract.weights.load import describe, encoder_checkpoint, load_weights
from reference import encoders as plain
from reference.published_layouts import FOLDER, all_manifests, text_of
from reference.published_videomae import videomae_manifests

FITS = {
    "mmaction2_tsm_r50": ["tsm_r50"],
    "mit_tsm_r50": ["tsm_r50"],
    "torchvision_resnet50": ["tsm_r50", "slowonly_r50"],
    "torchvision_resnet18": ["tsm_r18"],
    "mmaction2_slowonly_r50": ["slowonly_r50"],
    "tsp_r2plus1d_34": ["r2plus1d_34"],
    "efficientnet_lite0": ["efficientnet_lite0"],
    "transnetv2": ["transnetv2"],
}
SOURCES = {
    "mmaction2_tsm_r50": "MMAction2 TSM",
    "mit_tsm_r50": "MIT TSM",
    "torchvision_resnet50": "torchvision ResNet",
    "torchvision_resnet18": "torchvision ResNet",
    "mmaction2_slowonly_r50": "MMAction2 SlowOnly",
    "tsp_r2plus1d_34": "TSP R(2+1)D",
    "efficientnet_lite0": "EfficientNet-lite",
    "transnetv2": "TransNet V2",
}
HEADS = {
    "mmaction2_tsm_r50": {"cls_head.fc_cls.weight", "cls_head.fc_cls.bias"},
    "mit_tsm_r50": {"module.new_fc.weight", "module.new_fc.bias"},
    "tsp_r2plus1d_34": {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"},
}
# Too large to be written here; test_pathways.py and test_released.py try them in small.
LARGE = {name for name in all_manifests() if name.startswith(("pyslowfast", "pytorchvideo", "etad"))}
PAIRS = [(kind, name) for kind, names in FITS.items() for name in names]


def as_published(kind: str, state: plain.State) -> object:
    """Wrap a state dict as its publisher does."""
    if kind.startswith("mmaction2"):
        return {"meta": {"epoch": 50, "CLASSES": None}, "state_dict": state}
    if kind.startswith("mit"):
        return {"epoch": 50, "arch": "resnet50", "state_dict": state, "optimizer": {}, "best_prec1": torch.tensor(74.1)}
    if kind.startswith("tsp"):
        args = argparse.Namespace(backbone="r2plus1d_34", lr=1e-4, loss_alphas=[1.0, 1.0], resume="", test_only=False)
        return {"model": state, "optimizer": {"state": {}}, "epoch": 5, "args": args}
    return collections.OrderedDict(state)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, plain.State]]:
    folder = tmp_path_factory.mktemp("published")
    made = {}
    for seed, kind in enumerate(FITS):
        state = plain.fabricate(manifest(kind), seed=seed)
        torch.save(as_published(kind, state), folder / f"{kind}.pth")
        made[kind] = (folder / f"{kind}.pth", state)
    return made


def loaded(path: Path, name: str) -> tuple[Encoder, weights.WeightsReport]:
    encoder = build_encoder(name).eval()
    return encoder, load_weights(encoder, path, name=name)


def test_manifests_are_what_their_publishers_networks_write() -> None:
    assert set(manifests()) == set(all_manifests()) == set(FITS) | LARGE | set(videomae_manifests())
    for kind, content in all_manifests().items():
        assert (FOLDER / f"{kind}.json").read_text() == text_of(content)


@pytest.mark.parametrize(
    ("kind", "millions"),
    # As the publishers' model zoos count them, classifier of Kinetics-400 (torchvision: ImageNet) and all.
    [
        ("mmaction2_tsm_r50", 24327632),
        ("mit_tsm_r50", 24327632),
        ("mmaction2_slowonly_r50", 32454096),
        ("torchvision_resnet50", 25557032),
        ("torchvision_resnet18", 11689512),
        ("efficientnet_lite0", 4652008),
        ("pytorchvideo_slowfast_r50", 34566488),
        ("pytorchvideo_slowfast_r101", 62826968),
        ("pytorchvideo_i3d_r50", 28043472),
    ],
)
def test_manifests_have_the_published_number_of_parameters(kind: str, millions: int) -> None:
    counters = ("running_mean", "running_var", "num_batches_tracked")
    shapes = [shape for name, shape in manifest(kind).items() if not name.endswith(counters)]
    assert sum(torch.Size(shape).numel() for shape in shapes) == millions


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_a_published_checkpoint_covers_its_encoder(kind: str, name: str, published: dict) -> None:
    path, state = published[kind]
    encoder, report = loaded(path, name)
    assert report.complete
    assert report.source == SOURCES[kind]
    assert len(report.matched) == len([key for key in encoder.state_dict() if "num_batches" not in key])
    kept = {key for key in state if not key.endswith("num_batches_tracked")}
    assert set(report.matched) | set(report.heads) == kept
    assert set(report.heads) == HEADS.get(kind, set(report.heads))
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"cover {report.num_wanted} of {report.num_wanted} tensors of encoder {name}" in report.text()


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_a_loaded_encoder_computes_what_its_publishers_network_does(kind: str, name: str, published: dict) -> None:
    path, state = published[kind]
    encoder, _ = loaded(path, name)
    clips = torch.randn(1, 3, 4, 32, 25, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = encoder(clips)
        if kind == "transnetv2":
            clips = clips.repeat(1, 1, 1, 1, 2)[..., :27, :48]
            found, expected = encoder(clips), plain.transnetv2(state, clips).mean(2)
        elif kind.startswith("mmaction2"):
            state = plain.without_prefix(state, "backbone.")
            expected = plain.resnet(state, clips, spelling="mmaction2", shift=name == "tsm_r50")
        elif kind.startswith("tsp"):
            expected = plain.r2plus1d(plain.without_prefix(state, "features."), clips)
        elif kind == "efficientnet_lite0":
            frames = clips.transpose(1, 2).flatten(0, 1)
            expected = plain.efficientnet(state, frames).unflatten(0, (1, 4)).mean(1)
        else:
            state = plain.without_prefix(state, "module.base_model.")
            for key, kernel in state.items():  # inflated, where SlowOnly looks along time
                if name == "slowonly_r50" and key.startswith(("layer3", "layer4")) and key.endswith("conv1.weight"):
                    state[key] = torch.stack([kernel / 3] * 3, dim=2)
            expected = plain.resnet(state, clips, spelling="torchvision", shift=name != "slowonly_r50")
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_inflated_weights_see_in_a_still_clip_what_they_saw_in_the_image(published: dict) -> None:
    path, state = published["torchvision_resnet50"]
    encoder, report = loaded(path, "slowonly_r50")
    assert report.inflated and "spread over time" in report.text()
    kernel = encoder.stages[3][0].conv1
    x = torch.randn(1, 512, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    still = kernel(x.expand(-1, -1, 5, -1, -1))[:, :, 2:3]
    flat = plain.normalise(state, "layer3.0.bn1", plain.convolve(state, "layer3.0.conv1", x)).relu()
    torch.testing.assert_close(still, flat, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        ("mmaction2_tsm_r50", "slowonly_r50", "another network of the same names.*set encoder.name='tsm_r50'"),
        ("mmaction2_slowonly_r50", "tsm_r50", "another shape backbone.layer3.0.conv1.*encoder.name='slowonly_r50'"),
        ("torchvision_resnet18", "tsm_r50", "missing layer1.0.conv3.weight.*encoder.name='tsm_r18'"),
        ("tsp_r2plus1d_34", "tsm_r50", "cover 0 of 265.*missing .*encoder.name='r2plus1d_34'"),
        ("mit_tsm_r50", "r2plus1d_34", "missing module.base_model.stages.0.space.weight.*encoder.name='tsm_r50'"),
        ("torchvision_resnet50", "tsm_tiny", "They fit encoder tsm_r50 and slowonly_r50"),
    ],
)
def test_the_wrong_encoder_is_refused_and_the_right_one_named(
    kind: str, wrong: str, said: str, published: dict
) -> None:
    encoder = build_encoder(wrong)
    before = encoder.stages[0].state_dict()
    before = {key: tensor.clone() for key, tensor in before.items()}
    with pytest.raises(EtadError, match=said):
        load_weights(encoder, published[kind][0], name=wrong)
    for key, tensor in encoder.stages[0].state_dict().items():
        assert torch.equal(tensor, before[key])


def test_a_single_missing_tensor_is_named(tmp_path: Path, published: dict) -> None:
    state = dict(published["mmaction2_tsm_r50"][1])
    del state["backbone.layer3.4.conv2.bn.running_var"]
    torch.save({"state_dict": state}, tmp_path / "part.pth")
    with pytest.raises(EtadError, match=r"264 of 265 .*missing backbone.layer3.4.conv2.bn.running_var. They fit no"):
        loaded(tmp_path / "part.pth", "tsm_r50")


def test_a_deeper_networks_weights_are_refused_though_they_cover_ours(tmp_path: Path, published: dict) -> None:
    state = dict(published["torchvision_resnet50"][1])
    state |= {key.replace("layer3.5", "layer3.6"): tensor for key, tensor in state.items() if "layer3.5" in key}
    torch.save(state, tmp_path / "deeper.pth")
    with pytest.raises(EtadError, match=r"cover 265 of 265 .*unexpected layer3.6.conv1.weight"):
        loaded(tmp_path / "deeper.pth", "tsm_r50")


def test_older_files_without_counters_of_the_norms_are_complete(tmp_path: Path, published: dict) -> None:
    state = {key: value for key, value in published["torchvision_resnet18"][1].items() if "num_batches" not in key}
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert loaded(tmp_path / "old.pth", "tsm_r18")[1].complete


def test_weights_of_ours_come_back_bit_for_bit(tmp_path: Path) -> None:
    trained = build_encoder("tsm_tiny")
    for parameter in trained.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    state = encoder_checkpoint(trained, name="tsm_tiny") | {"head": {"weight": torch.zeros(3, 128)}, "epoch": 4}
    torch.save(state, tmp_path / "mine.pt")
    encoder, report = loaded(tmp_path / "mine.pt", "tsm_tiny")
    assert report.source == "etad" and not report.heads
    for key, tensor in trained.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[key])
    with pytest.raises(EtadError, match=r"etad weights.*encoder.name='tsm_tiny'"):
        loaded(tmp_path / "mine.pt", "tsm_r18")
    # A whole model, wrapped for training on several processes, has the encoder under a prefix.
    whole = {f"module.encoder.{key}": tensor for key, tensor in trained.state_dict().items()}
    torch.save({"model": whole | {"module.detector.weight": torch.zeros(2)}}, tmp_path / "whole.pt")
    assert loaded(tmp_path / "whole.pt", "tsm_tiny")[1].heads == ("module.detector.weight",)


class Bomb:
    def __reduce__(self) -> tuple:
        return (os.system, ("touch exploded",))


def test_files_that_are_no_checkpoints_are_told_in_one_sentence(
    tmp_path: Path, published: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = published["torchvision_resnet18"][0].read_bytes()
    middle = len(good) // 2
    files = {
        "page.pth": (b"\n<!DOCTYPE html><html>404</html>", "a web page, saved in place of the file"),
        "cut.pth": (good[:middle], "damaged or cut short"),
        "flipped.pth": (good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :], "damaged or cut short"),
        "empty.pth": (b"", "this file is empty"),
        "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer to the file in git LFS"),
        "x.h5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        "x.json": (b'{"a": 1}', "a JSON file"),
        "x.safetensors": ((2000).to_bytes(8, "little") + b'{"conv1"', "damaged or cut short"),
        "noise.pth": (b"no such thing as weights in here", "damaged or cut short, or no checkpoint"),
    }
    for name, (content, said) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EtadError, match=said) as caught:
            loaded(tmp_path / name, "tsm_r18")
        assert name in str(caught.value) and "\n" not in str(caught.value)
    for name, content, said in (
        ("bomb.pth", {"state_dict": {"conv1.weight": torch.zeros(3)}, "extra": Bomb()}, "system.*could run code"),
        ("bomb_old.pth", {"extra": Bomb()}, "system.*could run code"),
        ("list.pth", [1, 2], "holds no tensors"),
        ("odd.pth", {"epoch": 3, "theirs": {"a": torch.zeros(2)}}, "under encoder, .*It holds epoch, theirs"),
        (
            "other.pth",
            {"a.weight": torch.zeros(2), "b.weight": torch.zeros(2)},
            "2 tensors .a.weight, b.weight., not",
        ),
    ):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization="old" not in name)
        with pytest.raises(EtadError, match=said):
            loaded(tmp_path / name, "tsm_r18")
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(EtadError, match=r"there is no such file of weights. Did you mean 'bomb.pth'"):
        loaded(tmp_path / "bmob.pth", "tsm_r18")
    with pytest.raises(EtadError, match="this is a folder"):
        loaded(tmp_path, "tsm_r18")


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"epoch": 3, "state_dict_ema": state, "optimizer": {}},
        lambda state: {"module": state, "dp_world_size": 1},
        lambda state: {"epoch": 3, "model_state": state, "cfg": "TRAIN: true"},
        lambda state: {"net": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {"model": {"state_dict": state, "epoch": 3}},
        lambda state: {"state_dict": state, "state_dict_ema": {key: -tensor for key, tensor in state.items()}},
        lambda state: {"model_ema": {"module": {f"_orig_mod.{key}": tensor for key, tensor in state.items()}}},
        lambda state: {"epoch": torch.tensor(3), "best": torch.tensor(71.2), "state_dict": state},
        lambda state: {"theirs": state, "optimizer": {"a": torch.zeros(2), "b": torch.zeros(2)}},
        lambda state: {"teacher": {"backbone": state}, "epoch": 3},
    ],
    ids=[
        *("state_dict_ema", "module", "model_state", "net", "nested", "both", "compiled", "numbers"),
        *("of their own name", "nested by their own names"),
    ],
)
def test_weights_are_found_wherever_checkpoints_keep_them(wrapped: Any, tmp_path: Path) -> None:
    state = {f"backbone.{key}": tensor for key, tensor in build_encoder("tsm_tiny").state_dict().items()}
    torch.save(wrapped(state), tmp_path / "weights.pth")
    encoder, report = loaded(tmp_path / "weights.pth", "tsm_tiny")
    assert report.complete
    assert all(torch.equal(tensor, state[f"backbone.{key}"]) for key, tensor in encoder.state_dict().items())


def test_weights_under_several_unknown_names_are_not_guessed_at(tmp_path: Path) -> None:
    state = {f"{number}.weight": torch.zeros(2) for number in range(3)}
    torch.save({"student": state, "teacher": state, "epoch": 3}, tmp_path / "two.pth")
    with pytest.raises(EtadError, match=r"holds no tensors by name.*It holds student, teacher, epoch"):
        loaded(tmp_path / "two.pth", "tsm_tiny")


def test_safetensors_files_load_and_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    state = {key: tensor.contiguous() for key, tensor in build_encoder("tsm_tiny").state_dict().items()}
    path = tmp_path / "weights.safetensors"
    save_file(state, path, metadata={"format": "pt"})
    encoder, report = loaded(path, "tsm_tiny")
    assert report.complete and report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(torch.equal(tensor, state[key]) for key, tensor in encoder.state_dict().items())
    assert "tsm_tiny: fits" in describe(path) and "to use it" in describe(path)
    broken = state | {key: torch.full_like(tensor, torch.inf) for key, tensor in state.items() if "running_var" in key}
    save_file(broken, path, metadata={"format": "pt"})
    assert "hold NaN or infinity. Get the file again" in describe(path) and "to use it" not in describe(path)
    save_file(state, path, metadata={"encoder_name": "tsm_r18"})
    with pytest.raises(EtadError, match="another network of the same names"):
        loaded(path, "tsm_tiny")
    content = path.read_bytes()
    for damaged in (content[:-100], content[:20], content[:8] + b"{" * 100):
        path.write_bytes(damaged)
        with pytest.raises(EtadError, match=r"weights\.safetensors: this file is damaged or cut short"):
            loaded(path, "tsm_tiny")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    encoder = build_encoder("tsm_tiny")
    encoder.stages[2][0].conv1.weight.data[0, 0, 0, 0] = torch.nan
    torch.save(encoder_checkpoint(encoder, name="tsm_tiny"), tmp_path / "nan.pt")
    with pytest.raises(EtadError, match=r"stages.2.0.conv1.weight hold NaN or infinity"):
        loaded(tmp_path / "nan.pt", "tsm_tiny")


def test_a_description_tells_what_the_file_is_and_how_to_use_it(tmp_path: Path, published: dict) -> None:
    text = describe(published["torchvision_resnet50"][0])
    assert "every name and shape as published: torchvision_resnet50" in text
    assert "tsm_r50: fits, 265 of 265 tensors" in text
    assert "slowonly_r50: fits, 265 of 265 tensors, kernels of images spread over time" in text
    assert "tsm_r18: does not fit" in text
    assert "left out, being no part of an encoder: fc.weight, fc.bias" in text
    assert "with encoder.name='tsm_r50'" in text
    torch.save({"a.weight": torch.zeros(2), "b.weight": torch.zeros(2)}, tmp_path / "other.pth")
    assert "not the weights of an encoder that etad knows: a.weight, b.weight" in describe(tmp_path / "other.pth")


def test_every_encoder_says_where_its_weights_are_to_be_had() -> None:
    for name, spec in ENCODERS.items():
        assert name in spec.weights_wanted() and spec.published in spec.weights_wanted()
