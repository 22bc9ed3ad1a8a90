"""Parity with the authors' released detector, number for number."""

import copy
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from etad.data.errors import EtadError
from etad.detect.kernels import roi_align
from etad.detect.loss.losses import detection_loss
from etad.detect.loss.targets import Actions, Matches, aligned_iou, boundary_targets, match
from etad.detect.model.detector import Detector
from etad.detect.model.proposals import extend
from etad.detect.model.published import from_published
from etad.detect.preset import PRESETS


def golden_weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """The formula by which the golden weights were made."""
    z = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if "bias" in key:
        z = z * 0.05
    elif len(shape) == 1:
        z = 1 + 0.1 * z
    elif "mem_" in key:
        z = z / 16
    else:
        field = int(np.prod(shape[2:]))
        z = z * math.sqrt(2 / (shape[1] * field + shape[0] * field))
    return torch.from_numpy(z.astype(np.float32))


@pytest.fixture(scope="module")
def shapes(shared: Path) -> dict[str, tuple[int, ...]]:
    listed = torch.load(shared / "goldens" / "etad_official_state_dict.pt", weights_only=True)
    for key, (shape, total, _) in listed.items():
        assert float(golden_weight(key, tuple(shape)).sum()) == pytest.approx(total, abs=1e-3)
    return {key: tuple(shape) for key, (shape, _, _) in listed.items()}


@pytest.fixture
def detector(shapes: dict[str, tuple[int, ...]]) -> Detector:
    detector = Detector(in_channels=512, enhancement="lstm", num_stages=3, bins=24)
    detector.load_state_dict(from_published({key: golden_weight(key, shape) for key, shape in shapes.items()}))
    return detector


def close(ours: Tensor, golden: Tensor, tolerance: float = 2e-5) -> None:
    torch.testing.assert_close(ours, golden.view(ours.shape), rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", ["aps006", "edge"])
def test_outputs_and_proposals_of_every_stage_equal_the_released_ones(
    shared: Path, detector: Detector, case: str
) -> None:
    golden = torch.load(shared / "goldens" / f"etad_official_{case}.pt", weights_only=True)
    with torch.no_grad():
        output = detector(golden["feat"], golden["anchors"])
    close(output.boundary, golden["tem_out"])
    for number, stage in enumerate(output.stages):
        close(stage.proposals, golden["stage_anchors"][number])
        close(stage.iou, golden["stage_iou"][number])
        close(torch.cat([stage.offsets, stage.boundary], dim=2), golden["stage_reg"][number])
        close(stage.refined, golden["stage_refined"][number])
    close(output.averaged_boundaries(), golden["final_anchors"])
    close(output.averaged_iou(), golden["final_iou"])


def recorded(masks: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """The released losses draw nothing where there is no positive."""
    rest = iter(masks)
    return lambda positive: next(rest) if positive.any() else torch.full(positive.shape, 0.5)


def backward(
    detector: Detector, golden: dict[str, Tensor], dtype: torch.dtype = torch.float32
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradient of the features, and the parts of the loss; the detector's gradients stay in it."""
    features = golden["feat"].to(dtype, copy=True).requires_grad_()
    output = detector.to(dtype)(features, golden["anchors"].to(dtype))
    segments = golden["gt_bbox"]
    parts = detection_loss(
        output,
        Matches(segments, torch.zeros(segments.shape[:2], dtype=torch.long)),
        torch.stack([golden["gt_start"], golden["gt_end"]], dim=1),
        rules=PRESETS["release"].loss,
        draw=recorded(golden["rand_masks"]),
    )
    parts["loss"].backward()
    assert features.grad is not None
    return features.grad, parts


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("case", ["aps006", "edge"])
def test_losses_and_gradients_equal_the_released_ones(
    shared: Path, detector: Detector, shapes: dict[str, tuple[int, ...]], case: str
) -> None:
    golden = torch.load(shared / "goldens" / f"etad_official_{case}.pt", weights_only=True)
    gradient, parts = backward(detector, golden)
    names = {"cost": "loss", "tem": "boundary"}
    for name, value in golden["losses"].items():
        assert parts[names.get(name, name)].item() == pytest.approx(value, rel=2e-6), name

    tolerance = 1e-4
    if relative(gradient, golden["feat_grad"]) > tolerance:
        # A ReLU whose input is within rounding of 0 goes one way on one processor and the other way on another. Then
        # exact arithmetic must side with us, most snippets must be equal all the same, and all of them nearly so.
        exact, _ = backward(copy.deepcopy(detector), golden, torch.float64)
        assert relative(gradient.double(), exact) <= 1e-4
        per_snippet = (gradient - golden["feat_grad"]).norm(dim=1) / golden["feat_grad"].norm(dim=1)
        assert per_snippet.median() <= 1e-4
        tolerance = 5e-3
    assert relative(gradient, golden["feat_grad"]) <= tolerance

    # Our tensors stack several of theirs: spread each of theirs' squared norm evenly and map it as a weight is mapped.
    spread = {k: torch.full(shape, golden["grad_norms"][k] ** 2 / math.prod(shape)) for k, shape in shapes.items()}
    for name, squared in from_published(spread).items():
        ours = detector.get_parameter(name).grad
        assert ours is not None
        assert ours.norm().item() == pytest.approx(squared.sum().sqrt().item(), rel=tolerance), name


def test_modules_equal_the_released_ones(shared: Path, detector: Detector) -> None:
    golden = torch.load(shared / "goldens" / "etad_official_modules.pt", weights_only=True)
    case = torch.load(shared / "goldens" / "etad_official_aps006.pt", weights_only=True)
    with torch.no_grad():
        x = detector.enhance(case["feat"])
        close(x, golden["temporal_enhance"])
        stage = detector.stages[0]
        y = x + stage.context(x).relu()
        close(y, golden["stage0_in"])
        z = stage.reduce(y).relu()
        close(z, golden["reduce"])
        extended = extend(case["anchors"].view(-1, 2) * 128)
        assert torch.equal(extended, golden["ext_anchors"][:, 1:])
        roi = roi_align(z.transpose(1, 2), extended[:64], bins=24, kernels="fast")[0]
        close(roi.transpose(1, 2), golden["roi_feat_first64"])


@pytest.mark.parametrize("case", ["aps006", "edge"])
def test_targets_and_matching_equal_the_released_ones(shared: Path, case: str) -> None:
    golden = torch.load(shared / "goldens" / f"etad_official_{case}.pt", weights_only=True)
    segments = [torch.unique(each, dim=0).double() for each in golden["gt_bbox"]]
    actions = Actions.of(segments, [torch.zeros(len(each)) for each in segments])
    close(boundary_targets(actions, 128), torch.stack([golden["gt_start"], golden["gt_end"]], dim=1), 1e-5)
    matched = match(golden["anchors"], actions).segments
    # Proposals that overlap no action take the first annotated one, and the golden file does not tell the order.
    overlapping = aligned_iou(golden["anchors"], matched) > 0
    assert overlapping.any()
    assert torch.equal(matched[overlapping], golden["gt_bbox"][overlapping])


def test_a_foreign_checkpoint_gets_a_sentence(shapes: dict[str, tuple[int, ...]]) -> None:
    published = {key: torch.zeros(shape) for key, shape in shapes.items()}
    with pytest.raises(EtadError, match="1 tensor that the detector has no place for: extra"):
        from_published({**published, "extra": torch.zeros(1)})
    with pytest.raises(EtadError, match=r"no tensor 'tem.0.bias'"):
        from_published({key: value for key, value in published.items() if key != "tem.0.bias"})
