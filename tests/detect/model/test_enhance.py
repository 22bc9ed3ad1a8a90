"""Features of any number of channels, standardised or not, are enhanced without the padding being seen."""

import pytest
import torch

from etad.detect.model.enhance import Enhancement, Variant


def enhancement(channels: int, *, variant: Variant = "conv", standardise: bool = False) -> Enhancement:
    torch.manual_seed(0)
    return Enhancement(in_channels=channels, variant=variant, standardise=standardise).eval()


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 150])
def test_lacking_channels_are_zeros_that_change_nothing(channels: int) -> None:
    module, features = enhancement(channels), torch.randn(2, channels, 9)
    wide = enhancement(channels + module.lacking_channels)
    wide.load_state_dict(module.state_dict())
    filled = torch.cat([features, torch.zeros(2, module.lacking_channels, 9)], dim=1)
    assert torch.equal(module(features), wide(filled))


@pytest.mark.parametrize("variant", ["lstm", "conv", "transformer"])
def test_standardised_features_are_enhanced_as_if_they_had_been_stored_so(variant: Variant) -> None:
    plain, module = enhancement(6, variant=variant), enhancement(6, variant=variant, standardise=True)
    module.load_state_dict(plain.state_dict(), strict=False)
    mean, deviation = torch.linspace(-5, 5, 6), torch.linspace(0.1, 9, 6)
    module.standardise_by(mean, deviation)
    features = torch.randn(2, 6, 9)
    mask = (torch.arange(9) < torch.tensor([[9], [5]]))[:, None].float()
    features = features * mask
    raw = (features * deviation[:, None] + mean[:, None]) * mask
    torch.testing.assert_close(module(raw, mask), plain(features, mask), rtol=1e-4, atol=1e-5)


def test_detectors_that_do_not_standardise_have_the_weights_that_they_always_had() -> None:
    assert not [name for name in enhancement(8).state_dict() if "feature" in name]
