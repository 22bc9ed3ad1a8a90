"""The costs of a config, measured without any data."""

import pytest
import torch

from etad.data.errors import EtadError
from etad.pipeline.cli import main as cli
from etad.pipeline.config import load_config
from etad.pipeline.e2e.profile import profile

SETS = [
    "encoder.name=tsm_tiny",
    "clips.clip_frames=4",
    "clips.crop=32",
    "detect.num_snippets=16",
    "detect.max_duration=16",
    "detect.bins=4",
    "detect.num_stages=1",
    "e2e.batch=2",
    "e2e.micro_batch=4",
    "device=cpu",
]


def test_phases_add_up_to_a_step_of_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    found = profile(load_config(None, SETS), torch.device("cpu"))
    assert [part.name for part in found.parts] == ["encoder", "detector"]
    encoder = found.parts[0]
    assert 0 < encoder.trained < encoder.parameters and encoder.flops > 0
    # 16 snippets of 2 videos in micro-batches of 4; 4 of each are sampled.
    assert [phase.times for phase in found.phases] == [8, 2, 1, 0]
    assert all(phase.seconds >= 0 and phase.peak_bytes > 0 for phase in found.phases)
    assert found.plan is not None and found.step_seconds > 0
    assert "5/5" in capsys.readouterr().err, "the bar goes through its phases"


def test_operations_do_not_depend_on_the_number_of_snippets_and_rise_with_the_frame() -> None:
    flops = [
        profile(load_config(None, [*SETS, *more]), torch.device("cpu")).parts[0].flops
        for more in ((), ("detect.num_snippets=20",), ("clips.crop=64",))
    ]
    assert flops[0] == flops[1]
    assert flops[2] == pytest.approx(4 * flops[0], rel=0.05)


def test_features_from_elsewhere_leave_the_detector_alone(capsys: pytest.CaptureFixture[str]) -> None:
    sets = [*SETS, "encoder.name=slowfast_r152", "detect.in_channels=64"]
    assert cli.run(["profile", *(word for each in sets for word in ("--set", each))]) == 0
    printed = capsys.readouterr().out
    assert "detector" in printed and "encode" not in printed
    with pytest.raises(EtadError, match="there is no encoder 'slowfast_r152'"):
        profile(load_config(None, [*SETS, "encoder.name=slowfast_r152"]), torch.device("cpu"))


@pytest.mark.parametrize("model", ["bmn", "bmn+tcanet"])
def test_a_baseline_is_profiled_as_what_it_is(model: str) -> None:
    sets = [*SETS, "encoder.name=none", "detect.in_channels=8", f"detect.model={model}", "e2e.batch=1"]
    sets += ["detect.bmn.width_1d=8", "detect.bmn.width_2d=4", "detect.bmn.width_3d=8", "detect.tcanet.width=16"]
    sets += ["detect.training.batch=1", "detect.tcanet.training_proposals=4", "detect.tcanet.proposals=4"]
    (part,) = profile(load_config(None, sets), torch.device("cpu")).parts
    assert part.trained == part.parameters and part.flops > 0


def test_a_budget_that_holds_nothing_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    options = [word for each in SETS for word in ("--set", each)]
    assert cli.run(["profile", *options, "--memory-budget", "0.001"]) == 2
    assert "does not hold one micro-batch of one snippet" in capsys.readouterr().err
    assert cli.run(["profile", *options, "--memory-budget", "1"]) == 0
    assert "step: micro-batch 4, first-pass cache maps" in capsys.readouterr().out
