import pytest
import torch
from torch import Tensor

from etad.extract.encoders.convnorm import ConvNorm
from etad.extract.encoders.encoder import Encoder
from etad.extract.encoders.resnet import resnet_stages, shift
from reference import encoders as plain


def clips(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small(*, seed: int = 0, **parts: object) -> Encoder:
    stages = resnet_stages(num_blocks=(2, 1, 1, 1), width=8, **parts)
    encoder = Encoder(stages, channels=64, mean=(0, 0, 0), std=(1, 1, 1)).double()
    generator = torch.Generator().manual_seed(seed)
    for module in encoder.modules():
        if isinstance(module, ConvNorm):
            module.norm.running_mean.normal_(0, 0.3, generator=generator)
            module.norm.running_var.uniform_(0.5, 2, generator=generator)
            module.norm.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.norm.bias.data.normal_(0, 0.3, generator=generator)
            module.weight.data.normal_(0, 0.2, generator=generator)
    return encoder.freeze(-1)


def spelled(encoder: Encoder, *, time_stages: tuple[int, ...] = ()) -> plain.State:
    """The encoder's own weights, still in the graph, in torchvision's spelling."""
    from etad.extract.weights.layouts import NORM_PARTS, _spell_torchvision

    state = {}
    for path, module in encoder.named_modules():
        if isinstance(module, ConvNorm):
            conv, norm = _spell_torchvision(path)
            weight = module.weight
            state[f"{conv}.weight"] = weight[..., None] if module.axis == "time" else weight
            state |= {f"{norm}.{part}": getattr(module.norm, part) for part in NORM_PARTS}
    return state


KINDS = [
    dict(bottleneck=False, shifted_part=8),
    dict(bottleneck=True, shifted_part=8),
    dict(bottleneck=True, temporal_stages=(3, 4)),
]


@pytest.mark.parametrize("parts", KINDS, ids=["tsm-basic", "tsm-bottleneck", "slowonly"])
def test_features_and_gradients_equal_the_plain_network(parts: dict) -> None:
    encoder = small(**parts)
    x = clips(2, 3, 5, 21, 17).requires_grad_()
    found = encoder(x)
    expected = plain.resnet(spelled(encoder), x, spelling="torchvision", shift="shifted_part" in parts)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    wanted = [x, *(p for m in encoder.modules() if isinstance(m, ConvNorm) for p in (m.weight,))]
    direction = clips(*found.shape, seed=1)
    ours = torch.autograd.grad((found * direction).sum(), wanted)
    theirs = torch.autograd.grad((expected * direction).sum(), wanted)
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("part", [8, 4])
def test_the_shift_equals_its_plain_version_and_its_gradient_is_the_shift_back(part: int) -> None:
    x = clips(2, 19, 4, 3, 2).requires_grad_()
    direction = clips(2, 19, 4, 3, 2, seed=1)
    assert torch.equal(shift(x, part), plain.shifted(x, part))
    (mine,) = torch.autograd.grad((shift(x, part) * direction).sum(), x)
    (other,) = torch.autograd.grad((plain.shifted(x, part) * direction).sum(), x)
    assert torch.equal(mine, other)
    assert torch.autograd.gradcheck(shift, (clips(1, 8, 3, 2, 1).requires_grad_(),))


def test_the_shift_never_crosses_clips_and_one_frame_only_loses_channels() -> None:
    x = clips(3, 16, 4, 2, 2)
    assert torch.equal(shift(x)[1:2], shift(x[1:2]))
    alone = shift(x[:, :, :1])
    assert not alone[:, :4].any() and torch.equal(alone[:, 4:], x[:, 4:, :1])


def test_maps_keep_their_channels_last_in_memory_even_for_a_single_clip() -> None:
    encoder = small(bottleneck=True, shifted_part=8)
    for n in (1, 2):
        frames = torch.randint(0, 256, (n, 4, 32, 32, 3), dtype=torch.uint8)
        last = encoder.run_stages(encoder.normalise(frames), 0, 5)
        assert last.permute(0, 2, 3, 4, 1).is_contiguous()


def test_a_stage_halves_the_map_and_leaves_time_alone() -> None:
    encoder = small(bottleneck=False, shifted_part=8)
    shapes = [encoder.run_stages(clips(1, 3, 5, 64, 48), 0, stop).shape[1:] for stop in range(6)]
    assert shapes == [(3, 5, 64, 48), (8, 5, 16, 12), (8, 5, 16, 12), (16, 5, 8, 6), (32, 5, 4, 3), (64, 5, 2, 2)]
