"""Baselines through the training, checkpoints and commands that all detectors share."""

import json
from pathlib import Path

import miniature
import pytest
import torch

from etad.data.annotations import read_annotations
from etad.data.cache.cache import FeatureCache
from etad.data.checkpoint import load_checkpoint
from etad.data.errors import EtadError
from etad.detect.model.build import load_detector
from etad.detect.train import Trainer
from etad.detect.windows import make_windows
from etad.pipeline.cli.main import run
from etad.pipeline.config import load_config

SIZES = {
    "bmn": ["detect.bmn.num_samples=4", "detect.bmn.width_1d=16", "detect.bmn.width_2d=8", "detect.bmn.width_3d=16"],
}
SIZES["bmn+tcanet"] = [
    *SIZES["bmn"],
    "detect.tcanet.width=16",
    "detect.tcanet.encoders=1",
    "detect.tcanet.heads=4",
    "detect.tcanet.window=5",
    "detect.tcanet.boundary_samples=4",
    "detect.tcanet.action_samples=8",
    "detect.tcanet.training_proposals=12",
    "detect.tcanet.proposals=20",
]
MODELS = list(SIZES)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return miniature.make(tmp_path_factory.mktemp("data"))


def sets(model: str, *more: str) -> list[str]:
    return [f"detect.model={model}", *SIZES[model], *more]


def trainer(data: tuple[Path, Path], folder: Path, model: str, *more: str) -> Trainer:
    settings, cache = load_config(None, [*miniature.SETS, *sets(model, *more)]).detect, FeatureCache(data[0])
    annotations = read_annotations(data[1])
    learned, measured = (
        make_windows(
            annotations.subset(subset),
            cache,
            settings=settings,
            classes=miniature.LABELS,
            training=subset == "training",
        )[0]
        for subset in ("training", "validation")
    )
    return Trainer(
        settings,
        train_windows=learned,
        val_windows=measured,
        cache=cache,
        classes=miniature.LABELS,
        source={},
        config_digest="0",
        made_from={},
        folder=folder,
        device=torch.device("cpu"),
        seed=7,
        workers=0,
    )


class Killed(Exception):
    pass


@pytest.mark.parametrize("model", MODELS)
def test_it_learns_a_batch_by_heart(model: str, data: tuple[Path, Path], tmp_path: Path) -> None:
    run = trainer(data, tmp_path, model)
    ((features, mask),) = run.train_batches.of([[0, 1, 2, 3]])
    optimizer, losses = torch.optim.Adam(run.detector.parameters(), 1e-2), []
    for step in range(32):
        parts = run.objective(
            run.detector,
            run.train_windows[:4],
            features,
            mask,
            generator=torch.Generator().manual_seed(step),
            training=True,
        )
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append(parts["loss"].item())
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])


@pytest.mark.parametrize("model", MODELS)
def test_it_repeats_resumes_bit_for_bit_and_rebuilds_itself(
    model: str, data: tuple[Path, Path], tmp_path: Path
) -> None:
    more = ["detect.training.checkpoint_seconds=1e-9", "detect.standardise=true"]
    whole = trainer(data, tmp_path / "whole", model, *more)
    whole.resume()
    whole.run()

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 2:
            raise Killed

    parts = trainer(data, tmp_path / "parts", model, *more)
    parts.resume()
    torch.rand(3)  # global randomness must not matter
    with pytest.raises(Killed):
        parts.run(stop)
    again = trainer(data, tmp_path / "parts", model, *more)
    assert again.resume() and again.position == 1
    again.run()
    saved = [load_checkpoint(tmp_path / name / "checkpoints/last.pt") for name in ("whole", "parts")]
    assert saved[0]["position"] == saved[1]["position"]
    assert all(torch.equal(each, saved[1]["model"][name]) for name, each in saved[0]["model"].items())
    rebuilt = load_detector(tmp_path / "whole/checkpoints/last.pt").detector.state_dict()
    assert all(torch.equal(each, rebuilt[name]) for name, each in whole.detector.state_dict().items())


@pytest.mark.parametrize("model", MODELS)
def test_the_command_trains_detects_and_evaluates_with_it_and_refuses_another_in_its_run(
    model: str, data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["detect", "-o", str(tmp_path), "--features", str(data[0]), "--annotations", str(data[1])]
    options = miniature.set_options(*sets(model), "detect.labels.source=classifier")
    assert run([*words, *options]) == 0
    assert f"detect.model={model} makes no use of detect.enhancement, detect.num_stages" in capsys.readouterr().out
    found = json.loads((tmp_path / "detect/detections.json").read_text())["results"]
    assert len(found) == 4 and all(len(each) > 5 for each in found.values())
    assert {each["label"] for video in found.values() for each in video} <= set(miniature.LABELS)
    # Another model, or this one of other sizes, is another run.
    for other in ("detect.model=etad", "detect.bmn.width_2d=4"):
        assert "Choose another run folder" in miniature.complaint([*words, *options, "--set", other], capsys)


def test_what_a_model_makes_no_use_of_is_named() -> None:
    sets = ["detect.precision=float32", "detect.inference.score=iou", "detect.bins=8"]
    unused = {model: load_config(None, [f"detect.model={model}", *sets]).detect.unused() for model in MODELS}
    assert unused == {"bmn": ["bins"], "bmn+tcanet": ["bins", "inference.score"]}


def test_a_preset_that_is_etads_alone_is_refused_for_a_baseline() -> None:
    with pytest.raises(EtadError, match=r"preset=release is a version of ETAD, which model=bmn does not have\.$"):
        load_config(None, ["detect.model=bmn", "detect.preset=release"])
