import pytest
import torch
from torch import Tensor

from etad.extract.encoders.encoder import Encoder
from etad.extract.encoders.i3d import HalveTime, i3d_stages
from etad.extract.encoders.resnet import Stem
from etad.extract.encoders.slowfast import PathwayAverage, slowfast_stages


def clips(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slowfast() -> Encoder:
    stages = slowfast_stages(num_blocks=(1, 1, 1, 1), width=8, fusion_kernel=5, alpha=2, beta=1)
    return Encoder(stages, channels=512, mean=(0, 0, 0), std=(1, 1, 1)).double().freeze(-1)


def test_between_stages_both_pathways_lie_in_one_map_with_its_channels_last() -> None:
    encoder = slowfast()
    x = clips(2, 3, 6, 37, 32)
    # Slow channels, those fused to them, and the fast channels of two frames; half of the time, space halves.
    for stop, channels, height in ((1, 8 + 16 + 16, 10), (2, 32 + 64 + 64, 10), (3, 64 + 128 + 128, 5), (5, 512, 2)):
        map_ = encoder.run_stages(x, 0, stop)
        assert map_.shape[:4] == (2, channels, 3, height)
        assert map_.permute(0, 2, 3, 4, 1).is_contiguous()


def test_features_are_the_slow_pathways_mean_and_then_the_fast_ones() -> None:
    slow, fast = clips(2, 5, 3, 4, 4), clips(2, 7, 6, 4, 4, seed=1)
    joint = PathwayAverage(alpha=2)(slow, fast).mean((2, 3, 4))
    torch.testing.assert_close(joint, torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], dim=1))
    half = PathwayAverage(alpha=2)(slow.bfloat16(), fast.bfloat16())
    assert half.dtype == torch.float32


def test_the_slow_pathway_sees_frames_from_the_first_to_the_last() -> None:
    encoder = slowfast()
    x = clips(1, 3, 8, 32, 32).requires_grad_()
    slow = encoder.stages[0].slow
    seen: list[Tensor] = []
    slow.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    encoder(x)
    assert torch.equal(seen[0], x[:, :, [0, 2, 4, 7]])
    with pytest.raises(AssertionError, match="clips of 7 frames do not divide by 2"):
        encoder(x[:, :, :7])


def test_a_stem_of_several_frames_equals_a_three_dimensional_convolution() -> None:
    stem = Stem(8, pooled=False, frames=5).double().eval()
    stem.conv.weight.data = clips(8, 15, 7, 7, seed=2)
    stem.conv.activation = "none"
    x = clips(2, 3, 4, 9, 11)
    expected = torch.nn.functional.conv3d(
        x, stem.conv.weight.reshape(8, 3, 5, 7, 7), stride=(1, 2, 2), padding=(2, 3, 3)
    )
    torch.testing.assert_close(stem(x) * (1 + 1e-5) ** 0.5, expected)


def test_i3d_halves_time_behind_its_first_stage_and_leaves_an_odd_frame() -> None:
    x = clips(1, 2, 5, 3, 3)
    assert torch.equal(HalveTime()(x), torch.nn.functional.max_pool3d(x, (2, 1, 1)))
    stages = i3d_stages(num_blocks=(1, 1, 1, 2), width=8)
    encoder = Encoder(stages, channels=256, mean=(0, 0, 0), std=(1, 1, 1)).double()
    assert [encoder.run_stages(clips(1, 3, 8, 32, 32), 0, stop).shape[2] for stop in range(6)] == [8, 8, 4, 4, 4, 4]
