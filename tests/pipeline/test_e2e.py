"""End-to-end training: whatever stops it, it comes to the same weights, and what it leaves the other stages take."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from etad.data.annotations import read_annotations
from etad.data.checkpoint import load_checkpoint
from etad.data.errors import EtadError
from etad.data.synthetic import SyntheticSpec, make_dataset
from etad.detect.build import load_detector
from etad.extract.clips import read_clips
from etad.extract.encoders import build_encoder
from etad.extract.weights import load_weights
from etad.pipeline import cli, e2e_clips
from etad.pipeline.config import load_config
from etad.pipeline.e2e import run_e2e
from etad.pipeline.e2e_setup import E2eOutcome, E2eSetup, find_detector
from etad.pipeline.e2e_train import E2eTrainer
from etad.pipeline.extracting import find_sources, load_encoder
from etad.pipeline.run_folder import RunFolder

SETS = [
    "encoder.name=tsm_tiny",
    "encoder.init=random",
    "encoder.frozen_stages=1",
    "clips.clip_frames=2",
    "clips.num_snippets=12",
    "clips.resize=[20, 20]",
    "clips.crop=16",
    "detect.num_snippets=12",
    "detect.max_duration=12",
    "detect.bins=4",
    "detect.num_stages=1",
    "detect.enhancement=conv",
    "detect.sampling.ratio=0.3",
    "detect.training.epochs=1",
    "detect.labels.source=branch",
    "e2e.batch=2",
    "e2e.epochs=2",
    "e2e.decay_after=1",
    "e2e.encoder_lr=1e-3",
    "e2e.precision=float32",
    "e2e.validate_epochs=false",
    "workers=0",
]
SLIDING = [
    "clips.layout=sliding",
    "clips.stride_frames=4",
    "detect.windows=sliding",
    "detect.window_stride=6",
    "detect.num_snippets=18",
]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticSpec(num_videos=6, shortest_seconds=6, longest_seconds=8, size=24, validation_share=0.34)
    return make_dataset(tmp_path_factory.mktemp("set"), spec)


def paths(dataset: Path) -> list[str]:
    return [f"data.annotations={dataset}", f"data.videos={dataset.parent / 'videos'}"]


def trainer(dataset: Path, folder: Path, *sets: str) -> E2eTrainer:
    config = load_config(None, [*SETS, *paths(dataset), *sets])
    run, annotations = RunFolder(folder), read_annotations(dataset)
    encoder, sha256, _ = load_encoder(config, run, None)
    encoder.freeze(config.encoder.frozen_stages)
    sources = find_sources(config, annotations, None)
    setup = E2eSetup(config, run, sources, annotations, CPU, E2eOutcome(run.e2e))
    return setup.trainer(encoder, sha256, find_detector(config, run, None))


def run(dataset: Path, folder: Path, *sets: str) -> E2eOutcome:
    config = load_config(None, [*SETS, *paths(dataset), *sets])
    annotations = read_annotations(dataset)
    sources = find_sources(config, annotations, None)
    how = {"init_detector": None, "weights": None, "scores": None, "device": CPU}
    return run_e2e(config, RunFolder(folder), sources=sources, annotations=annotations, **how)


def weights(run: E2eTrainer) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor.clone()
        for part, module in (("encoder", run.encoder), ("detector", run.detector))
        for name, tensor in module.state_dict().items()
    }


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Parts that differ: `detector`, or the encoder's stages."""
    assert before.keys() == after.keys()
    names = [name.split(".") for name in before if not torch.equal(before[name], after[name])]
    return {name[0] if name[0] == "detector" else ".".join(name[:3]) for name in names}


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_an_interrupted_run_resumes_to_the_same_weights(dataset: Path, tmp_path: Path, stop_at: int) -> None:
    often = "e2e.checkpoint_seconds=1e-9"
    whole = trainer(dataset, tmp_path / "whole", often)
    whole.run()

    def stop(step: int, steps: int, loss: float) -> None:
        assert steps == 4
        if step == stop_at + 1:  # after the checkpoint of step `stop_at`
            raise Killed

    with pytest.raises(Killed):
        trainer(dataset, tmp_path / "parts", often).run(stop)
    again = trainer(dataset, tmp_path / "parts", often)
    assert again.resume()
    assert again.state.epoch * 2 + again.state.step == stop_at
    again.run()
    assert changed(weights(whole), weights(again)) == set()
    lines = [json.loads(line) for line in (tmp_path / "parts" / "e2e" / "log.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["encoder_lr"], line["lr"]) for line in lines] == [(1, 1e-3, 5e-4), (2, 1e-4, 5e-5)]


@pytest.mark.parametrize("strategy", ["random", "grid", "block", "fps", "dpp", "gradnorm"])
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


SHORT = ("e2e.epochs=1", "e2e.batch=3", "e2e.jitter_frames=1", "e2e.flip_probability=0.5")


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
        sets = [f"e2e.memory={memory}", f"e2e.keep={keep}", "e2e.ratio=1", "e2e.micro_batch=5", "e2e.batch=4"]
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


@pytest.mark.slow
def test_it_chains_after_detect_and_is_not_done_twice(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [*SETS, *paths(dataset), "e2e.validate_epochs=true"]
    options = ["-o", str(tmp_path), *(word for each in sets for word in ("--set", each))]
    assert cli.run([*options, "extract", "detect", "e2e"]) == 0
    printed = capsys.readouterr().out
    assert f"detector: starts from {tmp_path / 'detect' / 'checkpoints' / 'last.pt'}" in printed
    assert printed.count("annotated videos have results.") == 2
    metrics = (tmp_path / "e2e" / "metrics.json").read_text()
    assert json.loads(metrics)["videos"]["missing"] == []
    lines = (tmp_path / "e2e" / "log.jsonl").read_text().splitlines()
    assert all(json.loads(line)["val_loss"] > 0 for line in lines)
    assert (tmp_path / "plots" / "e2e_curves.png").exists()

    # The other stages take what it leaves.
    last = tmp_path / "e2e" / "checkpoints" / "last.pt"
    assert load_detector(last).source["encoder"] == "tsm_tiny"
    encoder = build_encoder("tsm_tiny", clip_frames=2)
    assert load_weights(encoder, tmp_path / "e2e" / "encoder.pt", name="tsm_tiny").complete
    saved = load_checkpoint(last)["encoder"]
    assert all(torch.equal(tensor, saved[name]) for name, tensor in encoder.state_dict().items())

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "e2e").rglob("*") if path.is_file()}
    assert cli.run([*options, "e2e"]) == 0
    printed = capsys.readouterr().out
    assert "training skipped" in printed and "inference skipped" in printed
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (tmp_path / "e2e" / "metrics.json").read_text() == metrics

    # Features extracted with its encoder, and its detector on them, detect the same.
    tuned = ["-o", str(tmp_path / "again"), *options[2:], "--set", "extract.store_dtype=float32"]
    assert cli.run([*tuned, "extract", "--weights", str(tmp_path / "e2e" / "encoder.pt")]) == 0
    assert cli.run([*tuned, "detect", "--checkpoint", str(last), "--no-train"]) == 0
    results = [json.loads((folder / "detections.json").read_text())["results"] for folder in _both(tmp_path)]
    for id, found in results[0].items():
        assert [each["score"] for each in found] == pytest.approx([each["score"] for each in results[1][id]], rel=1e-3)


def _both(folder: Path) -> tuple[Path, Path]:
    return folder / "e2e", folder / "again" / "detect"


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


def test_a_file_that_is_no_video_is_left_out_from_the_start_and_makes_the_status_one(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset.parent, tmp_path / "set")
    for id in ("target_0000", "target_0005"):  # one to learn from, one to test on
        (tmp_path / "set" / "videos" / f"{id}.mp4").write_bytes(b"no video")
    sets = [*SETS, *paths(tmp_path / "set" / "annotations.json"), "e2e.failing_share=0.5", "e2e.epochs=1"]
    options = ["-o", str(tmp_path / "run"), *(word for each in sets for word in ("--set", each))]
    assert cli.run([*options, "e2e"]) == 1
    printed = capsys.readouterr().out
    assert "target_0000" in printed and "target_0005" in printed
    assert "1 of 2 annotated videos have results." in printed


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["encoder.frozen_stages=4"], r"frozen_stages=4 freezes the whole encoder, so no snippet has a gradient"),
        (["e2e.ratio=0.05"], r"e2e\.ratio=0\.05 of 12 snippets is none.*Set it to 0\.083 or more"),
        (["clips.layout=sliding"], r"clips\.layout=sliding does not go with detect\.windows=rescale"),
        (["clips.num_snippets=8"], r"clips\.num_snippets=8 and detect\.num_snippets=12 differ"),
        (["encoder.init=weights"], r"encoder tsm_tiny has no weights"),
    ],
)
def test_what_cannot_work_is_said_before_it_begins(dataset: Path, tmp_path: Path, sets: list[str], said: str) -> None:
    with pytest.raises(EtadError, match=said):
        run(dataset, tmp_path, *sets)
    assert not (tmp_path / "e2e" / "checkpoints").exists()


def test_graphs_cannot_be_kept_of_what_is_chosen_later() -> None:
    with pytest.raises(EtadError, match="keep='graphs' needs to know the sample beforehand, but strategy='fps'"):
        load_config(None, ["e2e.keep=graphs", "e2e.strategy=fps"])


def test_a_detector_that_does_not_fit_or_is_half_trained_is_refused(dataset: Path, tmp_path: Path) -> None:
    sets = [*SETS, *paths(dataset)]
    options = ["-o", str(tmp_path), *(word for each in sets for word in ("--set", each))]
    assert cli.run([*options, "extract", "detect"]) == 0
    with pytest.raises(EtadError, match=r"trained with detect\.num_stages=1, the config says 2"):
        trainer(dataset, tmp_path, "detect.num_stages=2")
    with pytest.raises(EtadError, match=r"trained on features of tsm_tiny, the config says encoder\.name=tsm_r18"):
        trainer(dataset, tmp_path, "encoder.name=tsm_r18")
    path = tmp_path / "detect" / "checkpoints" / "last.pt"
    state = load_checkpoint(path)
    state["position"]["epoch"] = 0
    torch.save(state, path)
    with pytest.raises(EtadError, match="only half trained"):
        trainer(dataset, tmp_path)
    trainer(dataset, tmp_path, "e2e.start=scratch")


def test_a_checkpoint_of_other_settings_is_refused(dataset: Path, tmp_path: Path) -> None:
    trainer(dataset, tmp_path, *SHORT).run()
    with pytest.raises(EtadError, match="comes from another config, other videos"):
        trainer(dataset, tmp_path, *SHORT, "e2e.encoder_lr=2e-3").resume()


def test_a_loss_that_is_not_finite_stops_with_a_sentence(dataset: Path, tmp_path: Path) -> None:
    one = trainer(dataset, tmp_path)
    with torch.no_grad():
        next(one.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(EtadError, match=r"the loss is nan at epoch 1, step 1\. Lower e2e\.encoder_lr=0\.001"):
        one.run()


def test_a_memory_budget_is_planned_for_and_compared_with_what_a_step_took(dataset: Path, tmp_path: Path) -> None:
    found = run(dataset, tmp_path, "e2e.memory_budget_gib=2", "e2e.epochs=1")
    (told,) = (note for note in found.notes if note.startswith("memory: planned"))
    planned, measured = (float(word) for word in told.split() if word[0] == "0")
    assert measured == pytest.approx(planned, rel=0.2)
    with pytest.raises(EtadError, match=r"memory_budget_gib=0\.001 does not hold one micro-batch of one snippet"):
        run(dataset, tmp_path, "e2e.memory_budget_gib=0.001", "e2e.epochs=1")
