import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from etad.data.errors import EtadError
from etad.extract.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, build_encoder
from etad.extract.encoders.videomae import Tubelets, place_codes, sine_table, videomae_stages


def tiny(adapter: str = "none", *, seed: int = 0, grid: int = 2) -> Encoder:
    """Eight blocks of 16 channels for clips of 4 frames of 32 pixels."""
    torch.manual_seed(seed)
    stages = videomae_stages(channels=16, depth=8, heads=2, grid=grid, adapter=adapter)
    return Encoder(stages, channels=16, mean=IMAGENET_MEAN, std=IMAGENET_STD, adapter=adapter)


def clips(n: int = 2, side: int = 32, frames: int = 4) -> Tensor:
    return torch.randn(n, 3, frames, side, side, generator=torch.Generator().manual_seed(1))


def test_a_tubelet_is_embedded_as_a_convolution_does_it() -> None:
    stem = Tubelets(8, grid=2).double()
    x = clips().double()
    expected = F.conv3d(x, stem.weight, stem.bias, stride=(2, 16, 16))
    codes = sine_table(8, 8).double().reshape(2, 2, 2, 8).permute(3, 0, 1, 2)
    torch.testing.assert_close(stem(x), expected + codes, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", [112, 160, 224])
def test_codes_of_other_sizes_say_of_the_same_places_much_the_same(side: int) -> None:
    rows = side // 16
    codes = place_codes(32, 14, (8, rows, rows))
    assert codes.shape == (8, rows, rows, 32)
    known = sine_table(8 * 196, 32).reshape(8, 14, 14, 32)
    if side == 224:
        assert torch.equal(codes, known)
    elif side == 112:
        # Each place is the middle of four, and the slow waves hardly change between them.
        middles = known.reshape(8, 7, 2, 7, 2, 32).mean((2, 4))
        torch.testing.assert_close(codes[..., 16:], middles[..., 16:], rtol=0, atol=0.05)
    assert torch.equal(place_codes(32, 14, (4, rows, rows)), codes[:4])


def test_clips_that_no_tubelets_fill_are_refused_in_a_sentence() -> None:
    encoder = tiny()
    with pytest.raises(EtadError, match=r"clips of 4 frames of 40x40 pixels.*multiples of these, such as 16 and 160"):
        encoder(clips(side=40))
    with pytest.raises(EtadError, match=r"videomae_s takes clips of a multiple of 2 frames.*clip_frames is 7"):
        build_encoder("videomae_s", clip_frames=7)


def test_features_are_of_unit_spread_and_tell_clips_apart() -> None:
    with torch.no_grad():
        features = tiny()(clips(3))
    torch.testing.assert_close(features.std(dim=1, unbiased=False), torch.ones(3), rtol=0, atol=0.01)
    assert (features[0] - features[1]).norm() > 1e-3


def test_in_bfloat16_the_mean_is_taken_in_float32() -> None:
    encoder = tiny()
    with torch.no_grad():
        exact = encoder(clips())
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(clips())
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() < 0.05 * exact.norm()
