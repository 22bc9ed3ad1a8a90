import torch

from etad.extract.encoders.convnorm import ConvNorm
from etad.extract.encoders.encoder import Encoder
from etad.extract.encoders.r2plus1d import mid_channels, r2plus1d_stages
from etad.extract.weights.layouts import NORM_PARTS, _spell_video_resnet
from reference import encoders as plain


def small() -> Encoder:
    encoder = Encoder(
        r2plus1d_stages(num_blocks=(1, 2, 1, 1), width=8), channels=64, mean=(0, 0, 0), std=(1, 1, 1)
    ).double()
    generator = torch.Generator().manual_seed(0)
    for module in encoder.modules():
        if isinstance(module, ConvNorm):
            module.norm.running_mean.normal_(0, 0.3, generator=generator)
            module.norm.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.normal_(0, 0.2, generator=generator)
    return encoder.freeze(-1)


def test_features_and_gradients_equal_the_plain_network() -> None:
    encoder = small()
    state = {}
    for path, module in encoder.named_modules():
        if isinstance(module, ConvNorm):
            conv, norm = _spell_video_resnet(path)
            state[f"{conv}.weight"] = module.weight[..., None] if module.axis == "time" else module.weight
            state |= {f"{norm}.{part}": getattr(module.norm, part) for part in NORM_PARTS}
    for frames in (8, 5):
        x = torch.randn(2, 3, frames, 18, 15, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        found, expected = encoder(x), plain.r2plus1d(state, x)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        wanted = [module.weight for module in encoder.modules() if isinstance(module, ConvNorm)]
        for mine, other in zip(
            torch.autograd.grad((found**2).sum(), wanted), torch.autograd.grad((expected**2).sum(), wanted)
        ):
            torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-11)


def test_middle_channels_come_from_each_convolutions_own() -> None:
    # The weights of a 3 x 3 x 3 kernel, divided by what one middle channel costs.
    for before, after in ((64, 64), (64, 128), (128, 128), (256, 512), (512, 512)):
        assert mid_channels(before, after) == (27 * before * after) // (9 * before + 3 * after)
    stages = r2plus1d_stages(num_blocks=(3, 4, 6, 3))
    first = stages[2][0]
    assert first.conv1.space.weight.shape[0] == 230 and first.conv2.space.weight.shape[0] == 288
    assert {module.norm.eps for stage in stages for module in stage.modules() if isinstance(module, ConvNorm)} == {1e-3}


def test_stages_two_to_four_halve_time_too() -> None:
    encoder = small()
    x = torch.zeros(1, 3, 16, 32, 32, dtype=torch.float64)
    assert [encoder.run_stages(x, 0, stop).shape[2] for stop in range(6)] == [16, 16, 16, 8, 4, 2]
