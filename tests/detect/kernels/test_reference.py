from typing import Any

import miniature
import numpy as np
import pytest
import torch
from torch import Tensor

from etad.data.timeline import Span
from etad.detect.kernels import evaluation, heads, reference, roi
from etad.detect.model.build import build_detector
from etad.detect.model.proposals import boundaries, lattice
from etad.detect.objective import Objective
from etad.detect.sampling.proposals import ProposalSampler
from etad.detect.settings import DetectSettings
from etad.detect.windows import Window
from etad.pipeline.config import load_config
from reference import roi as plain

# In float64, where the same ReLUs pass and the same samples are taken, sums differ by their order alone.
TOLERANCE = 1e-9


def settings(*sets: str) -> DetectSettings:
    return load_config(None, [*miniature.SETS, *sets]).detect


def windows(count: int) -> list[Window]:
    return [
        Window(
            video_id=f"v{number}",
            cache_id=f"v{number}",
            duration_seconds=30.0,
            span=Span(0.0, 30.0),
            first=0,
            count=16,
            segments=np.array([[0.1 * number, 0.1 * number + 0.3], [0.6, 0.95]]),
            labels=np.array([number % 3, 1]),
        )
        for number in range(count)
    ]


def train_and_infer(chosen: DetectSettings, *, shares: bool, steps: int = 3) -> dict[str, Tensor]:
    """Losses and final weights of some steps in float64, and what the detector then says of all proposals."""
    random = torch.Generator().manual_seed(0)
    features = torch.randn(3, 16, 16, generator=random, dtype=torch.float64)
    detector = build_detector(chosen, in_channels=16, num_classes=3, seed=1).double()
    objective, optimizer = Objective(chosen), torch.optim.AdamW(detector.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        # The validation's proposals are the same for all videos, a training step's are not.
        parts = objective(detector, windows(3), features, None, generator=random, training=not shares)
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        optimizer.step()
        losses.append(parts["loss"].detach())
    with torch.inference_mode():
        output = detector.eval()(features, ProposalSampler(chosen).for_inference())
    classes = output.stages[-1].class_logits
    assert classes is not None
    return {
        "losses": torch.stack(losses),
        "boundaries": output.averaged_boundaries(),
        "iou": output.averaged_iou(),
        "snippets": output.boundary,
        "classes": classes,
        **detector.state_dict(),
    }


@pytest.mark.parametrize("preset", ["paper", "release"])
@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize(
    "sets",
    [
        ("detect.sampling.ratio=0.3", "detect.enhancement=lstm"),
        ("detect.sampling.ratio=0.05", "detect.sampling.inference_ratio=0.05"),  # no more proposals than snippets
    ],
)
def test_reference_kernels_train_and_infer_as_the_fast_ones_do(preset: str, shares: bool, sets: tuple[str]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fast, slow = (
            train_and_infer(settings(f"detect.preset={preset}", f"detect.kernels={kernels}", *sets), shares=shares)
            for kernels in ("fast", "reference")
        )
    finally:
        torch.set_num_threads(before)
    assert fast["losses"].dtype == torch.float64 and len(fast["losses"].unique()) == 3
    for name, expected in slow.items():
        assert (fast[name] - expected).abs().max() <= TOLERANCE * max(1, expected.abs().max()), name


@pytest.mark.parametrize("strategy", ["random", "fps"])
def test_reference_kernels_run_none_of_the_fast_ones(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a fast kernel")

    names = [(heads, "gather_of"), (evaluation, "run_heads"), (roi, "place_samples"), (roi, "gather_sum")]
    for module, name in names:
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr("etad.detect.kernels.batch_parts.map_parallel", refuse)
    sets = (f"detect.sampling.strategy={strategy}", "detect.enhancement=lstm")
    for shares in (False, True):
        train_and_infer(settings("detect.kernels=reference", *sets), shares=shares, steps=1)
    with pytest.raises(AssertionError, match="a fast kernel"):
        train_and_infer(settings(*sets), shares=False, steps=1)


def test_a_detector_changes_its_kernels_with_all_its_parts() -> None:
    detector = build_detector(settings(), in_channels=16, num_classes=3, seed=0)
    parts = [detector.enhance, *detector.stages]
    assert {part.kernels for part in parts} == {"fast"}
    detector.compute_with(precision="float32", kernels="reference")
    assert {part.kernels for part in parts} == {"reference"}


def test_the_reference_equals_roi_align_sample_by_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 12, 3, generator=generator, dtype=torch.float64)
    proposals = torch.rand(2, 9, 2, generator=generator, dtype=torch.float64) * 30 - 9
    ours = reference.roi_align(features, proposals, bins=8)
    for video in range(2):
        torch.testing.assert_close(ours[video], plain.roi_align(features[video], proposals[video], 8))
    assert reference.roi_align(features, proposals[:, :0], bins=8).shape == (2, 0, 8, 3)
    runaway = torch.tensor([[-1e9, 1e9], [float("nan"), 3.0]])
    fast = roi.roi_align(features, runaway.double(), bins=8)
    torch.testing.assert_close(reference.roi_align(features, runaway.double(), bins=8), fast)


def test_the_mean_over_bins_equals_that_of_the_fast_kernels() -> None:
    features = torch.randn(2, 16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    proposals = (boundaries(lattice(16, 16), 16) * 16).double()
    means = [module.roi_mean(features, proposals, bins=8) for module in (roi, reference)]
    torch.testing.assert_close(*means, rtol=0, atol=1e-12)
    torch.testing.assert_close(means[0], roi.roi_align(features, proposals, bins=8).mean(dim=2), rtol=0, atol=1e-12)
