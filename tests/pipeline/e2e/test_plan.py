"""What fits into a budget is known before training begins, and a step then takes no more."""

import dataclasses

import pytest
import torch

from etad.data.errors import EtadError
from etad.detect.model.build import build_detector
from etad.detect.strategies import STRATEGIES
from etad.extract.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, build_encoder
from etad.extract.encoders.videomae import videomae_stages
from etad.pipeline.config import load_config
from etad.pipeline.e2e.memory import GIB, peak_bytes
from etad.pipeline.e2e.plan import StepPlan, plan_step, snippets_bytes
from etad.pipeline.e2e.sgs import sgs_step

CPU = torch.device("cpu")
SETS = ["detect.num_snippets=16", "detect.max_duration=16", "detect.bins=4", "detect.num_stages=1", "e2e.batch=2"]


def plan(*sets: str) -> StepPlan:
    config = load_config(None, [*SETS, *sets])
    encoder = build_encoder("tsm_tiny", clip_frames=8).freeze(1)
    detector = build_detector(config.detect, in_channels=encoder.channels, num_classes=3, seed=0)
    clip = torch.zeros(8, 64, 64, 3, dtype=torch.uint8)
    how = {"encoder": encoder, "detector": detector, "clip": clip, "workers": 1, "device": CPU, "autocast": None}
    found = plan_step(config.e2e, config.detect, **how)
    assert all(parameter.grad is None for parameter in [*encoder.parameters(), *detector.parameters()])
    return found


def test_the_peak_of_tensors_is_found_whatever_is_left_in_the_end() -> None:
    def compute() -> None:
        first = torch.zeros(1 << 16)
        second = first.neg()
        del first
        second.repeat(3)

    assert peak_bytes(compute, CPU) == pytest.approx(4 * (4 << 16), rel=1e-3)


def test_without_a_budget_the_settings_stand() -> None:
    found = plan("e2e.micro_batch=3", "e2e.first_pass_cache=maps")
    assert (found.micro_batch, found.first_pass_cache) == (3, "maps")
    assert found.frames == (2 + 2) * 16 * 8 * 64 * 64 * 3
    assert found.maps > 0 and found.detector > 0
    assert "micro-batch 3, first-pass cache maps" in found.text()


def test_maps_of_all_snippets_are_planned_for_where_the_sample_is_chosen_later(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled = {
        name: plan("e2e.first_pass_cache=maps", "e2e.ratio=0.25", f"e2e.strategy={name}").maps
        for name in ("random", "fps")
    }
    assert sampled["fps"] == 4 * sampled["random"] > 0
    row = dataclasses.replace(STRATEGIES["random"], name="later", needs="gradients")
    monkeypatch.setitem(STRATEGIES, "later", row)
    assert plan("e2e.first_pass_cache=maps", "e2e.ratio=0.25", "e2e.strategy=later").maps == sampled["fps"]


def test_a_budget_shrinks_the_micro_batch_then_keeps_nothing_then_says_how_much_is_missing() -> None:
    # Many snippets at once, so that they and not the detector are the peak.
    large = ["e2e.micro_batch=60", "e2e.first_pass_cache=maps"]
    whole = plan(*large)
    assert whole.snippets > whole.detector
    smaller = plan(*large, f"e2e.memory_budget_gib={0.8 * whole.total / GIB}")
    assert smaller.total <= 0.8 * whole.total and smaller.first_pass_cache == "maps" and 1 <= smaller.micro_batch < 60
    least = plan("e2e.micro_batch=1", "e2e.first_pass_cache=nothing")
    bare = plan(*large, f"e2e.memory_budget_gib={(least.total + least.maps + 1) / GIB}")
    assert bare.first_pass_cache == "nothing"
    with pytest.raises(EtadError, match=r"does not hold one micro-batch of one snippet: that takes 0\.\d+ GiB, 0\.\d"):
        plan(*large, f"e2e.memory_budget_gib={0.5 * least.total / GIB}")


def test_a_micro_batch_is_as_large_as_planned_and_does_not_grow_with_the_video() -> None:
    encoder = build_encoder("tsm_tiny", clip_frames=4).freeze(1)
    clip = torch.zeros(4, 64, 64, 3, dtype=torch.uint8)
    for each in encoder.parameters():
        each.grad = torch.zeros_like(each) if each.requires_grad else None
    one, two, four = (snippets_bytes(encoder, clip, n, device=CPU, autocast=None) for n in (1, 2, 4))
    assert four == pytest.approx(one + 3 * (two - one), rel=0.02)

    def taken(num_snippets: int) -> int:
        video = clip.expand(num_snippets, *clip.shape)
        samples = [torch.arange(0, num_snippets, 3)]

        def step() -> None:
            sgs_step(encoder, [video], lambda features: features[0].sum(), samples=samples, micro_batch=4)

        return peak_bytes(step, CPU)

    assert taken(32) == pytest.approx(four, rel=0.05)
    assert taken(128) <= 1.15 * taken(32)


def test_adapters_at_the_side_and_recomputing_take_a_fraction_of_the_memory_of_a_micro_batch() -> None:
    clip = torch.zeros(16, 64, 64, 3, dtype=torch.uint8)

    def taken(adapter: str, recompute: bool) -> int:
        encoder = Encoder(
            videomae_stages(channels=64, depth=12, heads=2, patch=8, grid=8, adapter=adapter),
            channels=64,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            adapter=adapter,
        ).freeze(0)
        return snippets_bytes(encoder, clip, 1, device=CPU, autocast=None, recompute=recompute)

    whole, series, side = (taken(adapter, False) for adapter in ("none", "series", "side"))
    again = taken("series", True)
    assert series < 0.8 * whole and side < 0.4 * series and again < 0.35 * series


def test_the_advice_names_what_takes_most() -> None:
    with pytest.raises(EtadError, match=r"Raise the budget, or freeze more of the encoder \(encoder\.frozen_stages\)"):
        plan("e2e.memory_budget_gib=0.0001", "e2e.batch=1")
    with pytest.raises(EtadError, match=r"Raise the budget, or lower e2e\.batch=40, clips\.crop or --workers"):
        plan("e2e.memory_budget_gib=0.0001", "e2e.batch=40")
