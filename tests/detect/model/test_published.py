"""Released checkpoints as files, in small; test_released_model.py has their numbers."""

from pathlib import Path

import pytest
import torch

from etad.data.checkpoint import load_checkpoint
from etad.data.errors import EtadError
from etad.detect.model.published import Released, find_released, from_published, load_released
from etad.detect.settings import DetectSettings, LabelSettings
from reference.encoders import State, fabricate
from reference.layout_writer import Writer
from reference.published_layouts import etad_detector


def released(prefix: str = "base_detector.", **sizes: int) -> State:
    out = Writer()
    etad_detector(out, prefix, **{"in_channels": 16, "bins": 4, "stages": 2, **sizes})
    return fabricate({name: tuple(shape) for name, shape in out.tensors.items()}, seed=0)


def found(state: dict, path: Path = Path("released.pth.tar")) -> Released:
    model = find_released(path, state)
    assert model is not None
    return model


@pytest.mark.parametrize("prefix", ["base_detector.", "", "module.base_detector.", "module.detector."])
def test_a_released_file_becomes_a_detector_by_the_preset_release(prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "epoch_5.pth.tar"
    state = released(prefix)
    scheduler = {"step_size": 5, "gamma": 0.1, "last_epoch": 6}
    torch.save({"epoch": 5, "state_dict": state, "scheduler": scheduler, "optimizer": {"state": {}}}, path)
    settings = DetectSettings(
        preset="paper", num_snippets=16, max_duration=16, enhancement="conv", num_stages=4, in_channels=99
    )
    trained = load_released(path, found(load_checkpoint(path), path), settings=settings, classes=("run", "jump"))
    own = trained.settings
    assert (own.preset, own.enhancement, own.num_stages, own.roi_bins, own.in_channels) == ("release", "lstm", 2, 4, 16)
    assert own.model == "etad" and own.num_snippets == 16 and trained.classes == ("run", "jump")
    features, proposals = torch.randn(1, 16, 16), torch.tensor([[0.1, 0.5], [0.2, 0.9]])
    with torch.no_grad():
        output = trained.detector(features, proposals)
    assert output.averaged_iou().isfinite().all()
    assert torch.equal(
        trained.detector.stages[1].reduce.weight, state[f"{prefix}stage_pem.1.reduce_dim_before.0.weight"]
    )


def test_an_encoder_beside_the_detector_is_left_to_others() -> None:
    encoder = {"feature_extractor.model.backbone.stem.0.weight": torch.zeros(2)}
    model = found({"state_dict": released() | encoder})
    assert model.has_encoder and not found({"state_dict": released()}).has_encoder
    assert from_published(dict(model.tensors)).keys() == from_published(released()).keys()


def test_what_is_no_released_detector_is_refused_in_a_sentence() -> None:
    path, classes = Path("released.pth.tar"), ("run",)
    assert find_released(path, {"state_dict": {"conv.weight": torch.zeros(2)}, "epoch": 3}) is None
    with pytest.raises(EtadError, match=r"released.pth.tar: this is the ETAD of OpenTAD, which is another network"):
        find_released(path, {"state_dict": {"module.roi_head.proposal_heads.0.iou_head.fc.weight": torch.zeros(2)}})
    state = released()
    for changed, said in (
        ({**state, "base_detector.tem.0.bias": torch.full((256,), torch.nan)}, "boundary.hidden.bias hold NaN"),
        (
            {**state, "base_detector.tem.0.bias": torch.zeros(7)},
            r"released.pth.tar: what .* does not fit .*size mismatch",
        ),
        ({**state, "base_detector.extra": torch.zeros(7)}, "no place for: extra"),
        ({key: value for key, value in state.items() if "tem.0.bias" not in key}, "no tensor 'tem.0.bias'"),
    ):
        with pytest.raises(EtadError, match=said):
            load_released(path, found({"state_dict": changed}), settings=DetectSettings(), classes=classes)
    branch = DetectSettings(labels=LabelSettings(source="branch"))
    with pytest.raises(EtadError, match=r"no class branch. Set detect.labels.source=classifier"):
        load_released(path, found({"state_dict": state}), settings=branch, classes=classes)
