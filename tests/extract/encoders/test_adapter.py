import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etad.data.errors import EtadError
from etad.extract.encoders.adapter import TemporalAdapter
from etad.extract.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, build_encoder
from etad.extract.encoders.videomae import videomae_stages

KINDS = ["series", "side"]


def tiny(adapter: str, *, tuned: bool = False) -> Encoder:
    """Eight blocks of 16 channels for clips of 4 frames of 32 pixels; tuned, its adapters add something."""
    torch.manual_seed(0)
    stages = videomae_stages(channels=16, depth=8, heads=2, grid=2, adapter=adapter)
    encoder = Encoder(stages, channels=16, mean=IMAGENET_MEAN, std=IMAGENET_STD, adapter=adapter).freeze(0)
    for name, parameter in encoder.named_parameters():
        if tuned and ".adapter." in name:
            nn.init.normal_(parameter, std=0.3)
    return encoder


def clips(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


def test_an_adapter_is_adatads_within_each_clip() -> None:
    adapter = TemporalAdapter(8).double()
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 8, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hidden = F.gelu(adapter.down(x.permute(0, 3, 4, 2, 1).flatten(0, 2)))  # (N H W, L, C')
    lines = F.conv1d(hidden.transpose(1, 2), adapter.depthwise.weight, adapter.depthwise.bias, padding=1, groups=2)
    hidden = hidden + adapter.pointwise(lines).transpose(1, 2)
    expected = (adapter.up(hidden) * adapter.scale).unflatten(0, (2, 3, 3)).permute(0, 4, 3, 1, 2)
    torch.testing.assert_close(adapter(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_adapters_leave_features_as_they_are(kind: str) -> None:
    plain, adapted = tiny("none"), tiny(kind)
    assert adapted.load_state_dict(plain.state_dict(), strict=False).unexpected_keys == []
    with torch.no_grad():
        expected = plain(clips())
        assert torch.equal(adapted(clips()), expected)
        assert torch.equal(adapted.freeze(4)(clips()), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_blocks_whatever_stands_beside_them(kind: str) -> None:
    plain, adapted = tiny("none").state_dict(), tiny(kind).state_dict()
    assert plain.keys() < adapted.keys()
    assert all(torch.equal(tensor, adapted[name]) for name, tensor in plain.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", [0, 2])
def test_adapters_alone_learn_and_only_those_of_stages_that_are_not_frozen(kind: str, frozen: int) -> None:
    encoder = tiny(kind, tuned=True).freeze(frozen)
    trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    assert len(trained) == 9 * 2 * (4 - frozen)
    assert all(".adapter." in name and int(name.split(".")[1]) > frozen for name in trained)
    encoder(clips()).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name


def test_no_backward_pass_goes_through_blocks_that_adapters_stand_at_the_side_of() -> None:
    encoder = tiny("side", tuned=True)
    seen: list[nn.Module] = []
    for module in encoder.modules():
        if isinstance(module, nn.LayerNorm) and module is not encoder.stages[4].head.norm:
            module.register_full_backward_hook(lambda module, *_: seen.append(module))
    encoder(clips()).square().sum().backward()
    assert not seen


def test_adapters_that_stay_as_they_began_cost_nothing() -> None:
    encoder = tiny("series").freeze(2)
    calls: list[nn.Module] = []
    for module in encoder.modules():
        if isinstance(module, TemporalAdapter):
            module.register_forward_hook(lambda module, *_: calls.append(module))
    encoder(clips())
    assert len(calls) == 4
    with torch.no_grad():
        encoder.stages[1][0].adapter.up.weight.fill_(0.1)
    encoder(clips())
    assert len(calls) == 4 + 5
    # Where data is swapped under the weights, none is taken for what it was.
    encoder.load_state_dict(tiny("series", tuned=True).state_dict())
    encoder(clips())
    assert len(calls) == 4 + 5 + 8


def test_encoders_without_blocks_of_a_transformer_take_no_adapter() -> None:
    with pytest.raises(EtadError, match=r"encoder.adapter=series.*tsm_tiny has none.*to one of videomae_s, videomae_b"):
        build_encoder("tsm_tiny", adapter="series")
    with pytest.raises(EtadError, match=r"there is no adapter 'both'. Known: none, series, side"):
        build_encoder("videomae_tiny", adapter="both")
