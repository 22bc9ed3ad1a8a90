"""End-to-end training: whatever stops it, it comes to the same weights, and every step does what it should."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature_e2e import SHORT, SLIDING, changed, trainer, weights
from torch import Tensor

from etad.data.checkpoint import load_checkpoint
from etad.data.errors import EtadError
from etad.data.interrupts import watching_signals
from etad.detect.loading import collate
from etad.detect.strategies import STRATEGIES
from etad.extract.clips import Failure, read_clips
from etad.pipeline.e2e import clips as e2e_clips
from etad.pipeline.e2e import train as e2e_train
from etad.pipeline.e2e.sgs import SgsStep, sgs_step


class Killed(Exception):
    pass


@pytest.mark.parametrize(("stop_at", "ema"), [(1, 0), (2, 0), (3, 0), (3, 0.9)])
def test_an_interrupted_run_resumes_to_the_same_weights(
    dataset: Path, tmp_path: Path, stop_at: int, ema: float
) -> None:
    often = ["e2e.checkpoint_seconds=1e-9", f"e2e.ema={ema}"]
    whole = trainer(dataset, tmp_path / "whole", *often)
    whole.run()

    def stop(step: int, steps: int, loss: float) -> None:
        assert steps == 4
        if step == stop_at + 1:  # after the checkpoint of step `stop_at`
            raise Killed

    with pytest.raises(Killed):
        trainer(dataset, tmp_path / "parts", *often).run(stop)
    again = trainer(dataset, tmp_path / "parts", *often)
    assert again.resume()
    assert again.state.epoch * 2 + again.state.step == stop_at
    again.run()
    assert changed(weights(whole), weights(again)) == set()
    saved, expected = (load_checkpoint(each.last) for each in (again, whole))
    for part in ("encoder", "model"):
        assert all(torch.equal(saved[part][name], tensor) for name, tensor in expected[part].items())
    kept = {f"encoder.{name}": tensor for name, tensor in saved["encoder"].items()}
    moved = changed({**weights(whole), **kept}, weights(whole))
    assert moved == ({f"encoder.stages.{stage}" for stage in (2, 3, 4)} if ema else set()), "the average is kept"
    lines = [json.loads(line) for line in (tmp_path / "parts" / "e2e" / "log.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["encoder_lr"], line["lr"]) for line in lines] == [(1, 1e-3, 5e-4), (2, 1e-4, 5e-5)]


def _interrupting(call: int) -> Callable[..., None]:
    """Send two signals, the second of which does not wait for the step, at a call of what is returned."""
    calls = iter(range(call))

    def signals(*_: object) -> None:
        if next(calls, None) == call - 1:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    return signals


@pytest.mark.parametrize("memory", ["sgs", "full"])
def test_a_step_given_up_at_any_place_is_taken_again_to_the_same_weights(
    dataset: Path, tmp_path: Path, memory: str
) -> None:
    chosen = [f"e2e.memory={memory}", "e2e.ema=0.9"]
    whole = trainer(dataset, tmp_path / "whole", *chosen)
    whole.run()
    # Broken off in the encoder, in the detector's forward pass, in its backward pass, and within the update, in turn.
    broken = trainer(dataset, tmp_path / "parts", *chosen)
    places = [
        lambda do: broken.encoder.stages[-1].register_forward_hook(do),
        lambda do: [module.register_forward_hook(do) for module in broken.detector.modules()],
        lambda do: next(broken.detector.parameters()).register_hook(do),
        lambda do: broken.optimizer.register_step_post_hook(do),
    ]
    for number, place in enumerate(places):
        if number:
            broken = trainer(dataset, tmp_path / "parts", *chosen)
            assert broken.resume()
        place(_interrupting(call=3 if number == 0 and memory == "sgs" else 1))
        with watching_signals(), pytest.raises(KeyboardInterrupt):
            broken.run()
        assert broken.position == (place is places[-1])
    again = trainer(dataset, tmp_path / "parts", *chosen)
    assert again.resume()
    with watching_signals():
        again.run()
    assert changed(weights(whole), weights(again)) == set()
    saved, expected = (load_checkpoint(each.last) for each in (again, whole))
    assert saved["position"] == expected["position"]
    for part in ("encoder", "model", "trained"):
        assert all(torch.equal(saved[part][name], tensor) for name, tensor in expected[part].items())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_trains_and_repeats_bit_for_bit_whatever_the_workers(
    dataset: Path, tmp_path: Path, strategy: str
) -> None:
    runs = []
    for workers in (0, 2):
        torch.rand(3)  # global randomness must not matter
        found = trainer(dataset, tmp_path / str(workers), f"e2e.strategy={strategy}", f"workers={workers}", *SHORT)
        before = weights(found)
        found.run()
        assert changed(before, weights(found)) == {f"encoder.stages.{stage}" for stage in (2, 3, 4)} | {"detector"}
        runs.append(weights(found))
    assert changed(*runs) == set()


def test_a_release_run_trains_and_its_augmentation_does_not_depend_on_workers(dataset: Path, tmp_path: Path) -> None:
    runs = []
    for workers in (0, 2):
        found = trainer(dataset, tmp_path / str(workers), "release=true", "e2e.epochs=1", f"workers={workers}")
        augment = found.clips.augment
        assert augment.rand_augment is not None and augment.rand_augment.operations == 2
        assert augment.colour_jitter is not None and augment.colour_jitter.hue == 0.1
        before = weights(found)
        found.run()
        assert changed(before, weights(found)) == {f"encoder.stages.{stage}" for stage in (2, 3, 4)} | {"detector"}
        runs.append(weights(found))
    assert changed(*runs) == set()
    frames = [torch.stack(next(found.clips.of([[0, 1]], epoch))) for epoch in (0, 0, 1)]
    assert torch.equal(frames[0], frames[1]) and not torch.equal(frames[0], frames[2])


@pytest.mark.parametrize("sliding", [False, True])
def test_all_ways_to_go_back_give_the_same_gradients(dataset: Path, tmp_path: Path, sliding: bool) -> None:
    ways = [("full", "nothing"), ("checkpoint", "nothing"), *(("sgs", keep) for keep in ("nothing", "maps", "graphs"))]
    found: list[dict[str, Tensor]] = []
    for memory, keep in ways:
        sets = [
            f"e2e.memory={memory}",
            f"e2e.first_pass_cache={keep}",
            "e2e.ratio=1",
            "e2e.micro_batch=5",
            "e2e.batch=4",
        ]
        one = trainer(dataset, tmp_path / f"{memory}{keep}", *sets, *(SLIDING if sliding else ()))
        assert bool(sliding) == (min(window.count for window in one.clips.windows) != one.detect.num_snippets)
        frames = next(one.clips.of([[0, 1, 2]], 0))
        one._step([0, 1, 2], frames)
        parameters = [*one.encoder.named_parameters(), *one.detector.named_parameters()]
        found.append({name: each.grad for name, each in parameters if each.grad is not None})
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, gradient in found[0].items():
            assert (other[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name


def test_nothing_sampled_trains_the_detector_alone_and_decays_nothing(dataset: Path, tmp_path: Path) -> None:
    one = trainer(dataset, tmp_path, "e2e.ratio=0", "e2e.weight_decay=0.5", *SHORT)
    before = weights(one)
    one.run()
    assert changed(before, weights(one)) == {"detector"}


def test_a_step_that_samples_nothing_leaves_the_encoder_whatever_the_steps_before(
    dataset: Path, tmp_path: Path
) -> None:
    one = trainer(dataset, tmp_path, "e2e.weight_decay=0.5")
    frames = next(one.clips.of([[0, 1]], 0))
    one._step([0, 1], frames)
    before = weights(one)
    one.settings = one.settings.model_copy(update={"ratio": 0.0})
    one._step([0, 1], frames)
    assert changed(before, weights(one)) == {"detector"}


def test_every_step_samples_anew(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[int]] = []

    def watched(*arguments: Any, **how: Any) -> SgsStep:
        step = sgs_step(*arguments, **how)
        drawn.append([index for sample in step.samples for index in sample.tolist()])
        return step

    monkeypatch.setattr(e2e_train, "sgs_step", watched)
    trainer(dataset, tmp_path).run()
    assert len(drawn) == 4 and len({tuple(each) for each in drawn}) == 4


def test_what_a_window_sees_and_is_told_is_its_own(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trainer(dataset, tmp_path, "e2e.crop=centre", "e2e.failing_share=0.5", *SLIDING)
    number = next(number for number, window in enumerate(one.clips.windows) if window.first > 0)
    window = one.clips.windows[number]
    ((frames,),) = one.clips.of([[number]], 0)
    whole, _ = read_clips(
        one.clips.files[window.cache_id], one.clips.plan, augment=None, generator=np.random.default_rng(0)
    )
    assert np.array_equal(frames.numpy(), whole[window.first : window.first + window.count])

    # A window whose frames cannot be read takes its annotations with it.
    seen: list[Any] = []
    monkeypatch.setattr(one, "objective", lambda detector, windows, *rest, **how: seen.extend(windows) or {})
    with pytest.raises(KeyError, match="loss"):
        one._step([0, number], [Failure(one.clips.windows[0].cache_id, Path("v.mp4"), "broken"), frames])
    assert seen == [window]


def test_windows_of_several_lengths_are_padded_and_masked() -> None:
    parts = [torch.rand(length, 3) for length in (5, 2)]
    found, mask = collate(parts, 5)
    assert mask is not None
    assert mask.tolist() == [[[1] * 5], [[1, 1, 0, 0, 0]]]
    assert torch.equal(found[0].T, parts[0])
    assert torch.equal(found[1, :, :2].T, parts[1]) and not found[1, :, 2:].any()
    assert collate([parts[0]], 5)[1] is None


def test_a_shorter_dtype_reaches_the_encoder(dataset: Path, tmp_path: Path) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        one = trainer(dataset, tmp_path / precision, f"e2e.precision={precision}")
        losses.append(one._step([0, 1], next(one.clips.of([[0, 1]], 0))))
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)


def test_the_best_checkpoint_is_that_of_the_least_validation_loss(dataset: Path, tmp_path: Path) -> None:
    one, losses = trainer(dataset, tmp_path), iter([1.0, 2.0])
    one.validation_loss = lambda: next(losses)
    one.run()
    best, last = (load_checkpoint(one.last.with_name(f"{name}.pt"))["position"] for name in ("best", "last"))
    assert (best["epoch"], last["epoch"], last["best_loss"]) == (1, 2, 1.0)


def test_a_step_moves_every_weight_against_its_own_gradient(dataset: Path, tmp_path: Path) -> None:
    one = trainer(dataset, tmp_path, "e2e.weight_decay=0")
    modules = {"encoder": one.encoder, "detector": one.detector}
    before = weights(one)
    one._step([0, 1], next(one.clips.of([[0, 1]], 0)))
    for part, lr in (("encoder", 1e-3), ("detector", 5e-4)):
        for name, parameter in modules[part].named_parameters():
            if parameter.grad is not None:  # the first step of Adam
                moved = parameter - before[f"{part}.{name}"]
                expected = -lr * parameter.grad / (parameter.grad.abs() + 1e-8)
                torch.testing.assert_close(moved, expected, rtol=0, atol=0.05 * lr + 1e-7)


def test_the_gradient_of_encoder_and_detector_is_clipped_together(dataset: Path, tmp_path: Path) -> None:
    one = trainer(dataset, tmp_path, "e2e.clip_norm=0.01")
    one._step([0, 1], next(one.clips.of([[0, 1]], 0)))
    parameters = [*one.encoder.parameters(), *one.detector.parameters()]
    norms = [each.grad.norm() for each in parameters if each.grad is not None]
    assert torch.stack(norms).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_a_video_that_breaks_while_training_is_left_out_and_reported(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, *arguments: object, **options: object) -> object:
        if path.stem == "target_0001":
            raise EtadError("decoding breaks at second 3")
        return read_clips(path, *arguments, **options)

    monkeypatch.setattr(e2e_clips, "read_clips", broken)
    one = trainer(dataset, tmp_path / "some", "e2e.failing_share=0.3", *SHORT)
    one.run()
    assert list(one.failed) == ["target_0001"]
    assert load_checkpoint(one.last)["failed"][0][2] == "decoding breaks at second 3"
    with pytest.raises(EtadError, match=r"1 of 4 training videos cannot be read, more than .*target_0001 \(decoding"):
        trainer(dataset, tmp_path / "none", *SHORT).run()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_video_replaced_while_training_stops_it_and_never_passes_for_the_one_before(
    dataset: Path, tmp_path: Path, workers: int
) -> None:
    own = Path(shutil.copytree(dataset.parent, tmp_path / "data")) / dataset.name
    one = trainer(own, tmp_path / "run", *SHORT, f"workers={workers}")
    video = own.parent / "videos" / "target_0001.mp4"
    shutil.copyfile(own.parent / "videos" / "target_0002.mp4", video)
    with pytest.raises(EtadError, match=r"target_0001.mp4: was replaced or written to while it was trained on"):
        one.run()


def test_a_checkpoint_of_other_settings_is_refused(dataset: Path, tmp_path: Path) -> None:
    trainer(dataset, tmp_path, *SHORT).run()
    with pytest.raises(EtadError, match="there is now: other settings"):
        trainer(dataset, tmp_path, *SHORT, "e2e.encoder_lr=2e-3").resume()


def test_a_loss_that_is_not_finite_stops_with_a_sentence(dataset: Path, tmp_path: Path) -> None:
    one = trainer(dataset, tmp_path)
    with torch.no_grad():
        next(one.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(EtadError, match=r"the loss is nan at epoch 1, step 1\. Lower e2e\.encoder_lr=0\.001"):
        one.run()
