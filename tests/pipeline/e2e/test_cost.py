"""`etad e2e --plan` tells what training takes, and refuses to keep what is slower to read than to compute."""

import shutil
from pathlib import Path

import pytest
from miniature_e2e import CPU, SETS, options, paths, run

from etad.data.annotations import read_annotations
from etad.data.errors import EtadError
from etad.pipeline.cli.main import run as etad
from etad.pipeline.config import load_config
from etad.pipeline.e2e.cost import SnippetSeconds, TrainingCost, plan_e2e
from etad.pipeline.e2e.plan import StepPlan
from etad.pipeline.run_folder import RunFolder
from etad.pipeline.stages.extract import find_sources

KEPT = ("e2e.cache_frozen=1", "e2e.crop=centre", "e2e.epochs=5")
STEP = StepPlan(1, "nothing", 0, 0, 0, 0, 0)


def plan(dataset: Path, folder: Path, *sets: str) -> TrainingCost:
    config = load_config(None, [*SETS, *paths(dataset), *sets])
    annotations = read_annotations(dataset)
    sources = find_sources(config, annotations, None)
    return plan_e2e(config, RunFolder(folder), sources=sources, annotations=annotations, device=CPU)


def cost(*, draws: int, read: float, epochs: int = 5, done: int = 0, validated: int = 0) -> TrainingCost:
    of = SnippetSeconds(
        decode=0.010, learn=0.020, encode=0.008, keep=0.015, read=read, learn_from_kept=0.005, encode_from_kept=0.002
    )
    return TrainingCost(10, 5 * epochs, epochs, done, 1000, of, 0.1, draws, "kept: 1 GiB", STEP, validated)


def test_it_counts_the_steps_and_times_each_part(dataset: Path, tmp_path: Path) -> None:
    found = plan(dataset, tmp_path / "run")
    assert (found.windows, found.steps, found.epochs, found.snippets) == (4, 4, 2, 48)
    assert found.of_snippet.decode > 0 and found.of_snippet.learn > 0 and found.detector_seconds > 0
    assert "4 steps in 2 epochs of 4 windows" in found.lines()[0]
    assert not (tmp_path / "run").exists()


def test_a_training_video_that_cannot_be_opened_is_named(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset.parent, tmp_path / "set")
    annotations = tmp_path / "set" / dataset.name
    broken = read_annotations(annotations).subset("training")[0].id
    (tmp_path / "set" / "videos" / f"{broken}.mp4").write_bytes(b"no video")
    found = plan(annotations, tmp_path / "run", "e2e.failing_share=0.5")
    assert found.lines()[0] == f"1 training video left out that cannot be opened: {broken}"


def test_what_is_done_does_not_count(dataset: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path)
    assert plan(dataset, tmp_path).lines() == ["train: every epoch is done; a larger e2e.epochs trains on"]
    more = plan(dataset, tmp_path, "e2e.epochs=5")
    assert (more.steps, more.epochs, more.done_epochs) == (6, 3, 2)


def test_a_changed_setting_is_refused_as_the_run_would(dataset: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path)
    with pytest.raises(EtadError, match=r"e2e\.batch is 1, was 2"):
        plan(dataset, tmp_path, "e2e.batch=1")


def test_kept_outputs_are_timed_and_measured_without_touching_the_run(dataset: Path, tmp_path: Path) -> None:
    found = plan(dataset, tmp_path / "run", *KEPT)
    of = found.of_snippet
    assert of.keep > 0 and of.read > 0 and of.learn_from_kept > 0
    assert "48 snippets x 1 draw" in found.kept_text
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"e2e\.cache_frozen_gib allows"):
        plan(dataset, tmp_path, *KEPT, "e2e.cache_frozen_gib=1e-6")


def test_the_gain_is_the_difference_of_the_epochs_that_read() -> None:
    found = cost(draws=1, read=0.001)
    # 30 ms plain; 30 ms in the epoch that fills, 6 ms in the four that read; 25 steps of 0.1 s.
    assert found.seconds(0) == pytest.approx(1000 * 5 * 0.030 + 2.5)
    assert found.seconds(1) == pytest.approx(1000 * (0.030 + 4 * 0.006) + 2.5)
    assert "saves about 2 min of 3 min" in found.lines()[-1]
    assert cost(draws=2, read=0.001, epochs=3, done=1).seconds(2) == pytest.approx(1000 * (0.03 + 2 * 0.006) + 1.5)


def test_validation_after_each_epoch_counts() -> None:
    found, without = cost(draws=1, read=0.001, validated=500), cost(draws=1, read=0.001)
    assert found.seconds(0) - without.seconds(0) == pytest.approx(500 * 5 * 0.018)
    # 27 ms in the epoch that fills, 3 ms in the four that read.
    assert found.seconds(1) - without.seconds(1) == pytest.approx(500 * (0.027 + 4 * 0.003))
    more = cost(draws=1, read=0.001, validated=500, done=2), cost(draws=1, read=0.001, done=2)
    assert more[0].seconds(1) - more[1].seconds(1) == pytest.approx(500 * 5 * 0.003)
    assert "validation on 500 snippets after each counted; inference not" in found.lines()[0]
    assert "; inference not" in without.lines()[0] and "validation" not in without.lines()[0]


def test_the_videos_that_are_validated_on_are_counted(kept_apart: Path, tmp_path: Path) -> None:
    apart = "data.validation_subset=apart"
    assert plan(kept_apart, tmp_path / "run", apart, "e2e.validate_epochs=true").validated == 12
    assert plan(kept_apart, tmp_path / "run", apart).validated == 0


def test_what_loses_is_refused_and_is_not_proposed() -> None:
    with pytest.raises(EtadError, match=r"e2e.cache_frozen=1 loses: 45 ms .* Set e2e.cache_frozen=0"):
        cost(draws=1, read=0.040).lines()
    # 30 ms plain; 31 ms to read: no more than timing errs by.
    assert cost(draws=1, read=0.026).lines()[-1].startswith("that saves nothing: 31 ms a snippet")
    assert not any("cache_frozen" in line for line in cost(draws=0, read=0.040).lines())
    assert "with e2e.cache_frozen=1" in cost(draws=0, read=0.001).lines()[-1]


@pytest.mark.parametrize("sets", [("e2e.memory=full",), ("encoder.frozen_stages=3",), ("e2e.ratio=0",)])
def test_every_way_of_training_has_a_plan(dataset: Path, tmp_path: Path, sets: tuple[str, ...]) -> None:
    assert plan(dataset, tmp_path, *sets).lines()


def test_the_command_prints_it(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert etad(["e2e", *options(dataset, tmp_path / "run"), "--plan"]) == 0
    printed = capsys.readouterr().out
    assert "train: 4 steps" in printed and "step: micro-batch" in printed
    assert not (tmp_path / "run" / "e2e").exists()
