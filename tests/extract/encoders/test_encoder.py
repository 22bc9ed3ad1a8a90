import copy

import pytest
import torch
from torch import Tensor, nn

from etad.data.errors import EtadError
from etad.extract.encoders.convnorm import ConvNorm
from etad.extract.encoders.encoder import ENCODERS, Encoder, build_encoder, encoder_spec
from etad.extract.encoders.r2plus1d import r2plus1d_stages


def frames(n: int, l: int = 4, side: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, l, side, side, 3), dtype=torch.uint8, generator=generator)


def norms(encoder: Encoder) -> list[nn.BatchNorm2d]:
    return [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]


# Hundreds of millions of weights, or those of another encoder: shapes tell enough.
OF_SHAPES_ALONE = ("videomae_b", "videomae_l", "videomae_v2_b")


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_gives_features_of_its_channels(name: str) -> None:
    clips = frames(1)
    with torch.device("meta" if name in OF_SHAPES_ALONE else "cpu"):
        encoder = build_encoder(name)
    assert encoder.channels == ENCODERS[name].channels
    assert len(encoder.stages) == 5
    with torch.no_grad():
        features = encoder(encoder.normalise(clips.to(encoder.mean.device)))
    assert features.shape == (1, ENCODERS[name].channels)
    assert features.is_meta or features.isfinite().all()


@pytest.mark.parametrize("shape", ["tsm", "r2plus1d"])
def test_stages_one_after_the_other_are_the_encoder_in_value_and_gradient(shape: str) -> None:
    stages = list(build_encoder("tsm_tiny").stages)
    if shape == "r2plus1d":
        stages = r2plus1d_stages(num_blocks=(1, 1, 1, 1), width=8)
    encoder = Encoder(stages, channels=128, mean=(1, 2, 3), std=(3, 2, 1)).double().freeze(-1)
    x = encoder.normalise(frames(2))
    whole = encoder(x)
    whole.square().sum().backward()
    expected = [parameter.grad.clone() for parameter in encoder.parameters() if parameter.requires_grad]
    encoder.zero_grad()
    pieces = encoder.pool(encoder.run_stages(encoder.run_stages(x, 0, 3), 3, 5))
    assert torch.equal(pieces, whole)
    pieces.square().sum().backward()
    found = [parameter.grad for parameter in encoder.parameters() if parameter.requires_grad]
    for mine, other in zip(found, expected):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def test_colours_are_normalised_on_0_to_255() -> None:
    encoder = build_encoder("r2plus1d_34")
    clip = frames(2)
    found = encoder.normalise(clip)
    assert found.shape == (2, 3, 4, 32, 32) and found.dtype == torch.float32
    for colour in range(3):
        spec = encoder_spec("r2plus1d_34")
        expected = (clip[..., colour].float() - spec.mean[colour]) / spec.std[colour]
        torch.testing.assert_close(found[:, colour], expected)


@pytest.mark.parametrize("frozen", [-1, 0, 2, 4])
def test_freezing_stops_the_stem_and_that_many_stages(frozen: int) -> None:
    encoder = build_encoder("tsm_tiny").freeze(frozen)
    for index, stage in enumerate(encoder.stages):
        for module in stage.modules():
            if isinstance(module, ConvNorm):
                assert module.weight.requires_grad == (index > frozen)
                assert not module.norm.weight.requires_grad and not module.norm.bias.requires_grad


def test_norms_stay_fixed_while_training_unless_pretraining_asks() -> None:
    encoder = build_encoder("tsm_tiny").freeze(2).train()
    before = [norm.running_mean.clone() for norm in norms(encoder)]
    encoder(encoder.normalise(frames(2)))
    assert not any(norm.training for norm in norms(encoder))
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms(encoder), before))
    encoder.freeze(0, bn_training=True)
    assert not any(norm.training for norm in norms_of_stage(encoder, 0))
    assert all(norm.training for index in range(1, 5) for norm in norms_of_stage(encoder, index))
    features = encoder(encoder.normalise(frames(2)))
    features.sum().backward()
    assert norms_of_stage(encoder, 4)[-1].weight.grad is not None
    assert norms_of_stage(encoder, 4)[-1].running_mean.any()
    encoder.eval()
    assert not any(norm.training for norm in norms(encoder))
    encoder.train().freeze(0)
    assert not any(norm.training for norm in norms(encoder))


def norms_of_stage(encoder: Encoder, index: int) -> list[nn.BatchNorm2d]:
    return [module for module in encoder.stages[index].modules() if isinstance(module, nn.BatchNorm2d)]


def test_kernels_kept_folded_follow_every_change_of_their_weights() -> None:
    encoder = build_encoder("tsm_tiny").freeze(4)
    x = encoder.normalise(frames(2))
    first = encoder(x)
    assert torch.equal(encoder(x), first)
    with torch.no_grad():
        encoder.stages[1][0].conv1.weight.mul_(2)
    second = encoder(x)
    assert not torch.equal(second, first)
    encoder.stages[2][0].conv1.norm.running_var.mul_(2)
    third = encoder(x)
    assert not torch.equal(third, second)
    encoder.load_state_dict(build_encoder("tsm_tiny").state_dict())
    assert not torch.equal(encoder(x), third)
    moved = copy.deepcopy(encoder).double()
    torch.testing.assert_close(moved(x.double()).float(), encoder(x), rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        encoder(x)
    # What was kept while inferring must not reach a graph.
    leaf = x.clone().requires_grad_()
    encoder(leaf).sum().backward()
    assert leaf.grad is not None
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(x).dtype in (torch.bfloat16, torch.float32)
    torch.testing.assert_close(encoder(x), encoder.double()(x.double()).float(), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close_to_float32() -> None:
    encoder = build_encoder("tsm_r18").freeze(2)
    x = encoder.normalise(frames(2))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        rough = encoder(x).float()
    with torch.no_grad():
        exact = encoder(x)
    assert (rough - exact).norm() < 0.05 * exact.norm()


def test_unknown_names_and_clips_without_motion_are_refused() -> None:
    with pytest.raises(EtadError, match=r"no encoder 'tsm_r5O'. Did you mean 'tsm_r50'\? Known: tsm_r50, tsm_r18"):
        build_encoder("tsm_r5O")
    with pytest.raises(EtadError, match=r"clips.clip_frames is 1. Set clips.clip_frames=8"):
        build_encoder("tsm_r50", clip_frames=1)
    with pytest.raises(EtadError, match=r"a multiple of 4 frames, but clips.clip_frames is 30. Set .*=32"):
        build_encoder("slowfast_r50", clip_frames=30)
    assert build_encoder("efficientnet_lite0", clip_frames=1).channels == 1280
