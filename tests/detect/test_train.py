import json
import os
import random
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import miniature
import numpy as np
import pytest
import torch

from etad.data.annotations import read_annotations
from etad.data.cache.cache import FeatureCache, write_part
from etad.data.checkpoint import load_checkpoint, save_checkpoint
from etad.data.errors import EtadError
from etad.data.interrupts import watching_signals
from etad.detect.model.build import load_detector
from etad.detect.settings import DetectSettings
from etad.detect.strategies import STRATEGIES
from etad.detect.train import Trainer
from etad.detect.windows import make_windows
from etad.pipeline.config import load_config


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return miniature.make(tmp_path_factory.mktemp("data"))


def settings(*sets: str) -> DetectSettings:
    return load_config(None, [*miniature.SETS, *sets]).detect


def trainer(data: tuple[Path, Path], folder: Path, settings: DetectSettings, workers: int = 0) -> Trainer:
    cache = FeatureCache(data[0])
    annotations = read_annotations(data[1])
    windows = {
        training: make_windows(
            annotations.subset("training" if training else "validation"),
            cache,
            settings=settings,
            classes=miniature.LABELS,
            training=training,
        )[0]
        for training in (True, False)
    }
    return Trainer(
        settings,
        train_windows=windows[True],
        val_windows=windows[False],
        cache=cache,
        classes=miniature.LABELS,
        source={},
        config_digest="0",
        made_from={},
        folder=folder,
        device=torch.device("cpu"),
        seed=7,
        workers=workers,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoints" / "last.pt")["model"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("strategy", [name for name, row in STRATEGIES.items() if row.needs != "gradients"])
def test_every_strategy_trains_and_repeats_bit_for_bit(data: tuple[Path, Path], tmp_path: Path, strategy: str) -> None:
    chosen = settings(f"detect.sampling.strategy={strategy}", "detect.sampling.ratio=0.1")
    for name in ("a", "b"):
        torch.rand(3)  # global randomness must not matter
        trainer(data, tmp_path / name, chosen).run()
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.slow
def test_the_number_of_workers_changes_no_bit(data: tuple[Path, Path], tmp_path: Path) -> None:
    reading = settings("detect.training.memory_gib=0")
    for workers in (0, 1, 2):
        trainer(data, tmp_path / str(workers), reading, workers).run()
    trainer(data, tmp_path / "memory", settings(), 0).run()
    assert same(weights(tmp_path / "0"), weights(tmp_path / "1"))
    assert same(weights(tmp_path / "0"), weights(tmp_path / "2"))
    assert same(weights(tmp_path / "0"), weights(tmp_path / "memory"))


class Killed(Exception):
    pass


COSINE = ("detect.training.decay=cosine", "detect.training.warmup_epochs=1.5")


@pytest.mark.parametrize(
    ("stop_at", "more"), [(1, ()), (2, ()), (3, ()), (3, ("detect.training.ema=0.9",)), (1, COSINE), (3, COSINE)]
)
def test_an_interrupted_run_resumes_to_the_same_weights(
    data: tuple[Path, Path], tmp_path: Path, stop_at: int, more: tuple[str, ...]
) -> None:
    often = settings("detect.training.checkpoint_seconds=1e-9", *more)
    trainer(data, tmp_path / "whole", often).run()

    def stop(step: int, steps: int, loss: float) -> None:
        if step == stop_at + 1:  # after the checkpoint of step `stop_at`
            raise Killed

    with pytest.raises(Killed):
        trainer(data, tmp_path / "parts", often).run(stop)
    again = trainer(data, tmp_path / "parts", often)
    assert again.resume()
    assert again.state.epoch * 2 + again.state.step == stop_at
    again.run()
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    log = (tmp_path / "parts" / "log.jsonl").read_text().splitlines()
    assert len(log) == 2


@pytest.mark.parametrize("place", ["forward", "backward", "update"])
@pytest.mark.parametrize(("stop_at", "ema"), [(0, 0), (3, 0.9)])
def test_a_step_given_up_at_any_place_is_taken_again_to_the_same_weights(
    data: tuple[Path, Path], tmp_path: Path, place: str, stop_at: int, ema: float
) -> None:
    chosen = settings(f"detect.training.ema={ema}")
    trainer(data, tmp_path / "whole", chosen).run()
    broken = trainer(data, tmp_path / "parts", chosen)

    def signals(*_: object) -> None:
        if broken.position == stop_at:
            for _ in range(2):  # the second does not wait for the step
                os.kill(os.getpid(), signal.SIGINT)

    if place == "forward":
        for module in broken.detector.modules():
            module.register_forward_hook(signals)
    elif place == "backward":
        list(broken.detector.parameters())[-1].register_hook(signals)
    else:
        broken.optimizer.register_step_post_hook(signals)
    with watching_signals(), pytest.raises(KeyboardInterrupt):
        broken.run()
    again = trainer(data, tmp_path / "parts", chosen)
    assert again.resume()
    assert again.position == stop_at + (place == "update")
    with watching_signals():
        again.run()
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoints" / "last.pt") for name in ("whole", "parts"))
    assert same(whole["model"], parts["model"]) and same(whole.get("trained", {}), parts.get("trained", {}))
    assert whole["position"] == parts["position"]


def test_the_average_of_the_weights_infers_and_training_takes_the_steps_it_takes_without(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    plain = trainer(data, tmp_path / "plain", settings())
    steps: list[dict[str, torch.Tensor]] = [{name: each.clone() for name, each in plain.detector.named_parameters()}]
    plain.run(lambda *_: steps.append({name: each.clone() for name, each in plain.detector.named_parameters()}))
    run = trainer(data, tmp_path / "average", settings("detect.training.ema=0.3"))
    run.run()
    assert same(run.detector.state_dict(), plain.detector.state_dict())
    trained = load_detector(tmp_path / "average" / "checkpoints" / "last.pt")
    for name, found in trained.detector.named_parameters():
        expected = steps[0][name].double()
        for number, step in enumerate(steps[1:], start=1):
            decay = min(0.3, (1 + number) / (10 + number))
            expected = decay * expected + (1 - decay) * step[name].double()
        torch.testing.assert_close(found.detach().double(), expected, rtol=1e-5, atol=1e-6)
    val_losses = [
        [json.loads(line)["val_loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "plain", tmp_path / "average")
    ]
    assert val_losses[0] != val_losses[1], "validation measures what infers"
    assert "trained" not in load_checkpoint(tmp_path / "plain" / "checkpoints" / "last.pt")


def test_a_checkpoint_whose_trained_weights_are_damaged_is_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    chosen = settings("detect.training.ema=0.9")
    trainer(data, tmp_path, chosen).run()
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    for damaged in (None, {}, saved["trained"] | {"0": torch.zeros(3)}):
        save_checkpoint(tmp_path / "checkpoints" / "last.pt", saved | {"trained": damaged})
        with pytest.raises(EtadError, match="what this checkpoint holds does not fit"):
            trainer(data, tmp_path, chosen).resume()


def test_the_loss_falls_and_the_checkpoint_rebuilds_itself(data: tuple[Path, Path], tmp_path: Path) -> None:
    losses: list[float] = []
    run = trainer(data, tmp_path, settings("detect.training.epochs=8", "detect.training.decay_after=7"))
    run.run(lambda step, steps, loss: losses.append(loss))
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    trained = load_detector(tmp_path / "checkpoints" / "last.pt")
    assert trained.classes == miniature.LABELS
    assert same(trained.detector.state_dict(), run.detector.state_dict())


def test_a_loss_that_is_not_finite_stops_with_a_sentence(data: tuple[Path, Path], tmp_path: Path) -> None:
    run = trainer(data, tmp_path, settings())
    with torch.no_grad():
        run.detector.boundary.out.bias.fill_(float("nan"))
    with pytest.raises(EtadError, match=r"the loss is nan at epoch 1, step 1\. Lower detect\.training\.lr=0\.001"):
        run.run()


def test_a_checkpoint_of_another_config_is_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    trainer(data, tmp_path, settings()).run()
    other = trainer(data, tmp_path, settings())
    other.origin = replace(other.origin, config_digest="1")
    with pytest.raises(EtadError, match="another config, other annotations or other features"):
        other.resume()


def test_what_is_another_than_when_training_began_is_named(data: tuple[Path, Path], tmp_path: Path) -> None:
    one = trainer(data, tmp_path, settings())
    one.origin = replace(one.origin, made_from={"other settings": "a", "features of another kind": "b"})
    one.run()
    other = trainer(data, tmp_path, settings())
    windows = dict(other.origin.windows)
    first, second, *_ = windows
    del windows[first]
    changed = {"other settings": "a", "features of another kind": "c"}
    windows |= {second: "other", "x": "new"}
    other.origin = replace(other.origin, config_digest="1", made_from=changed, windows=windows)
    said = (
        f"features of another kind; 1 training video gone: {first}; 1 training video new: x; "
        f"1 training video of other actions or another length: {second}. Put back what was there"
    )
    with pytest.raises(EtadError, match=re.escape(said)):
        other.resume()


@pytest.mark.parametrize("rate", [1e4, 1e10, 1e30])
def test_a_rate_far_too_high_is_named(data: tuple[Path, Path], tmp_path: Path, rate: float) -> None:
    sets = settings("detect.num_stages=2", f"detect.training.lr={rate}", "detect.training.epochs=4")
    with pytest.raises(EtadError, match=r"the loss is (nan|inf) at .* Lower detect\.training\.lr"):
        trainer(data, tmp_path, sets).run()


@pytest.mark.parametrize("channels", [1, 6, 7])
def test_features_of_any_number_of_channels_are_trained_on(tmp_path: Path, channels: int) -> None:
    data = other_features(tmp_path, lambda features: features[:, :channels])
    trainer(data, tmp_path / "run", settings()).run()
    trained = load_detector(tmp_path / "run" / "checkpoints" / "last.pt")
    assert trained.state["in_channels"] == channels
    output = trained.detector(torch.randn(2, channels, 16), torch.tensor([[0.1, 0.5]]))
    assert output.averaged_iou().isfinite().all()


def other_features(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> tuple[Path, Path]:
    """The miniature with other features: cache and annotations."""
    cache, annotations = miniature.make(folder)
    with FeatureCache(cache) as before:
        changed = {id: (change(before.read(id)), before.meta(id)) for id in before.ids}
    cache.unlink()
    for id, (features, meta) in changed.items():
        write_part(cache, id, features, meta, "float32")
    return cache, annotations


def test_standardised_features_train_as_features_of_that_mean_and_deviation(tmp_path: Path) -> None:
    scales, means = np.linspace(0.1, 100, 16), np.linspace(-500, 500, 16)
    (tmp_path / "raw").mkdir()
    data = other_features(tmp_path / "raw", lambda features: (features * scales + means).astype(np.float32))
    run = trainer(data, tmp_path / "run", settings("detect.standardise=true", "detect.precision=float32"))
    assert not run.resume()
    losses: list[float] = []
    run.run(lambda step, steps, loss: losses.append(loss))
    with FeatureCache(data[0]) as cache:
        learned = np.concatenate([cache.read(id) for id in dict.fromkeys(w.cache_id for w in run.train_windows)])
    saved = weights(tmp_path / "run")
    np.testing.assert_allclose(saved["enhance.feature_mean"], learned.mean(axis=0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(saved["enhance.feature_deviation"], learned.std(axis=0, dtype=np.float64), rtol=1e-4)

    mean, deviation = learned.mean(axis=0, dtype=np.float64), learned.std(axis=0, dtype=np.float64)

    def standard(features: np.ndarray) -> np.ndarray:
        return ((features.astype(np.float32) - mean) / deviation).astype(np.float32)

    (tmp_path / "done").mkdir()
    done = other_features(tmp_path / "done", lambda features: standard(features * scales + means))
    expected: list[float] = []
    trainer(done, tmp_path / "same", settings("detect.precision=float32")).run(
        lambda step, steps, loss: expected.append(loss)
    )
    assert losses[:2] == pytest.approx(expected[:2], rel=1e-2)  # rounding decides later which proposals are positive


def test_a_standardised_run_resumes_to_the_same_weights_and_rebuilds_itself(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    often = settings("detect.training.checkpoint_seconds=1e-9", "detect.standardise=true")
    whole = trainer(data, tmp_path / "whole", often)
    whole.resume()
    whole.run()

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise Killed

    parts = trainer(data, tmp_path / "parts", often)
    parts.resume()
    with pytest.raises(Killed):
        parts.run(stop)
    again = trainer(data, tmp_path / "parts", often)
    assert again.resume()
    again.run()
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    rebuilt = load_detector(tmp_path / "parts" / "checkpoints" / "last.pt")
    assert same(rebuilt.detector.state_dict(), again.detector.state_dict())


def mutated(state: object, generator: random.Random) -> object:
    """A copy of a checkpoint with one value, anywhere in it, missing, of another type or of another shape."""
    if isinstance(state, Mapping) and state and generator.random() < 0.85:
        changed = dict(state)
        name = generator.choice(list(changed))
        if generator.random() < 0.3:
            del changed[name]
        else:
            changed[name] = mutated(changed[name], generator)
        return changed
    if isinstance(state, (list, tuple)) and state and generator.random() < 0.7:
        place = generator.randrange(len(state))
        return [*state[:place], mutated(state[place], generator), *state[place + 1 :]]
    others = [None, "text", -3, 2.5, [], {}, {"x": 1}, torch.zeros(2, 5), torch.zeros(()), [torch.zeros(1)], 10**30]
    return generator.choice(others)


def test_checkpoints_with_any_value_missing_or_of_another_kind_go_on_or_are_one_sentence(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    chosen = settings("detect.training.epochs=1")
    trainer(data, tmp_path / "run", chosen).run()
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    whole, refused = load_checkpoint(path), 0
    longer = trainer(data, tmp_path / "run", settings("detect.training.epochs=2"))
    for seed in range(24):
        changed = mutated(whole, random.Random(seed)) if seed else whole
        save_checkpoint(path, changed if isinstance(changed, dict) else {})
        try:
            load_detector(path)
            longer.resume()
            assert longer.state.epoch >= 0 and isinstance(longer.state.sums, dict), seed
            for batch in longer.epoch_batches():
                longer.step(batch)
                break
        except EtadError as error:
            refused += 1
            assert "last.pt: " in str(error) and seed, (seed, error)
    assert refused > 10
