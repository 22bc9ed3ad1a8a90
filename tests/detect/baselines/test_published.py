"""BMN as mmaction2 publishes it: names and shapes written out from its own way to build the network."""

import pytest
import torch

from etad.data.errors import EtadError
from etad.detect.baselines.bmn import Bmn
from etad.detect.baselines.published import from_mmaction2
from etad.detect.model.build import build_detector
from etad.detect.settings import DetectSettings
from reference import bmn as plain

# Of the config bmn_400x100: 400 channels, 100 snippets; the table of samples comes beside them.
PUBLISHED = {
    "x_1d_b.0": (256, 100, 3),
    "x_1d_b.2": (256, 64, 3),
    "x_1d_s.0": (256, 64, 3),
    "x_1d_s.2": (1, 256, 1),
    "x_1d_e.0": (256, 64, 3),
    "x_1d_e.2": (1, 256, 1),
    "x_1d_p.0": (256, 256, 3),
    "x_3d_p.0": (512, 256, 32, 1, 1),
    "x_2d_p.0": (128, 512, 1, 1),
    "x_2d_p.2": (128, 128, 3, 3),
    "x_2d_p.4": (128, 128, 3, 3),
    "x_2d_p.6": (2, 128, 1, 1),
}


def test_names_shapes_and_count_are_those_of_the_published_network() -> None:
    settings = DetectSettings.model_validate({"model": "bmn", "num_snippets": 6, "max_duration": 6})
    bmn = build_detector(settings, in_channels=400, num_classes=5, seed=0)
    expected = {f"{name}.weight": shape for name, shape in PUBLISHED.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in PUBLISHED.items()}
    assert {name: tuple(each.shape) for name, each in bmn.state_dict().items()} == expected
    assert sum(each.numel() for each in bmn.parameters()) == 4_978_564


SAMPLING = {"num_samples": 3, "samples_per_bin": 2, "extension": 0.5}


def network(**changes: object) -> Bmn:
    sizes = {"in_channels": 8, "num_snippets": 6, "max_duration": 6, "width_1d": 8, "width_2d": 4, "width_3d": 6}
    return Bmn(**sizes | SAMPLING | changes)  # type: ignore[arg-type]


def published() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    weights = {f"module.{name}": each + torch.randn_like(each) for name, each in network().state_dict().items()}
    table = plain.samples(torch.eye(6), 6, **SAMPLING)  # type: ignore[arg-type]
    return weights | {"module.sample_mask": table.reshape(6, -1)}


def test_a_checkpoint_in_mmaction2s_layout_loads() -> None:
    bmn, given = network(), published()
    bmn.load_state_dict(from_mmaction2(given, bmn))
    assert torch.equal(bmn.x_3d_p[0].weight, given["module.x_3d_p.0.weight"])  # type: ignore[arg-type]
    newer = {name.removeprefix("module."): each for name, each in given.items()} | {"bm_mask": torch.ones(6, 6)}
    assert from_mmaction2(newer, bmn).keys() == bmn.state_dict().keys()


def test_weights_of_another_network_or_sampling_are_refused_with_what_differs() -> None:
    given = published()
    with pytest.raises(EtadError, match=r"tensor 'x_1d_b\.0\.weight' is \[8, 2, 3\], this BMN's is \[8, 3, 3\]"):
        from_mmaction2(given, network(in_channels=12))
    for changes in ({"extension": 0.25}, {"max_duration": 5}, {"samples_per_bin": 3}):
        with pytest.raises(EtadError, match="samples proposals otherwise than this BMN"):
            from_mmaction2(given, network(**changes))
    del given["module.x_1d_p.0.bias"]
    with pytest.raises(EtadError, match=r"1 tensor that only one of both has \(x_1d_p\.0\.bias\)"):
        from_mmaction2(given, network())
