import json
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import SMALL_DEMO

from etad.data.cache.cache import FeatureCache
from etad.data.checkpoint import load_checkpoint
from etad.pipeline.cli.main import run
from etad.pipeline.config import load_config
from etad.pipeline.experiments.synthetic_set import ensure_synthetic_set
from etad.pipeline.experiments.tables.demo_rows import NAMES

SETS = [word for value in SMALL_DEMO for word in ("--set", value)]


def stamps(folder: Path) -> dict[str, int]:
    """When each file that costs time was written."""
    names = ("*.mp4", "encoder.pt", "features.h5", "last.pt", "raw.h5")
    return {str(path): path.stat().st_mtime_ns for name in names for path in folder.rglob(name)}


@pytest.mark.slow
def test_the_demo_goes_the_whole_way_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path("runs/demo")  # as the README has it: relative to the place of the call
    assert run(["demo", "-o", str(out), "--seed", "3", "--jobs", "2", *SETS]) == 0
    captured = capsys.readouterr()
    printed, told = captured.out, captured.err
    assert f"7 parts, 2 at a time, whose bars go to {out / 'parts'}; about 4 minutes" in told
    assert "part 1 of 7 done in " in told and "part 7 of 7 done in " in told and "part 8" not in told
    assert "100 is all" in printed and "next: etad plot page" in printed
    assert "pretrain: 100%" in (out / "parts" / "pretrain.log").read_text() and "pretrain: 100%" not in told
    methods = ["random proposals", *NAMES.values()]
    for name in methods:
        assert name in printed
    found = json.loads((out / "demo.json").read_text())
    assert [name for name in found if name in methods] == methods
    for picture in ("qualitative", "curves", "e2e_curves", "baselines"):
        assert (out / "plots" / f"{picture}.png").stat().st_size > 5000
        assert f"{picture}.png" in printed
    before = stamps(out)
    assert len(before) == 8 + 1 + 3 * 3 + 2 * 3
    assert run(["demo", "-o", str(out), "--seed", "3", "--jobs", "1", *SETS]) == 0
    told = capsys.readouterr().err
    assert "7 parts; about 4 minutes" in told and "part 7 of 7 done in " in told
    assert stamps(out) == before
    assert json.loads((out / "demo.json").read_text()) == found


@pytest.mark.parametrize(
    ("value", "said"),
    [("e2e.cache_frozen=1", "e2e.cache_frozen=1 loses"), ("e2e.start=scratch", "Set e2e.start=detector")],
)
@pytest.mark.parametrize("command", [["demo"], ["reproduce", "demo", "--seeds", "1"]])
def test_settings_of_the_last_part_are_checked_before_the_first(
    command: list[str], value: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "-o", str(tmp_path), *SETS, "--set", value]) == 2
    told = capsys.readouterr().err
    assert said in told and "part 1 of 7" not in told
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_the_demo_over_seeds_trains_the_detector_alone_and_then_the_encoder_too(tmp_path: Path) -> None:
    more = ["e2e.epochs=2", "e2e.decay_after=2", "e2e.cache_frozen=1"]
    sets = [*SETS, *(word for value in more for word in ("--set", value))]
    assert run(["reproduce", "demo", "-o", str(tmp_path), "--seed", "3", "--seeds", "1", "--jobs", "1", *sets]) == 0
    of_seed = tmp_path / "seed3"
    before = load_checkpoint(of_seed / "base" / "pretrain" / "encoder.pt")["encoder"]
    for row, is_same in (("detector_alone", True), ("tuned", False)):
        after = load_checkpoint(of_seed / row / "e2e" / "encoder.pt")["encoder"]
        learned = [name for name in before if not name.endswith("num_batches_tracked")]  # a count that nothing reads
        assert all(torch.equal(before[name], after[name]) for name in learned) == is_same, row
    table = (tmp_path / "demo.md").read_text()
    assert all(f"| {name} |" in table for name in NAMES.values()) and "paper" not in table
    untrained, trained = (FeatureCache(of_seed / row / "features.h5") for row in ("untrained", "base"))
    assert not np.array_equal(untrained.read("target_0000"), trained.read("target_0000"))


def test_a_demo_of_another_seed_is_refused_in_the_same_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "synthetic.json").write_text(json.dumps({"digest": "another"}))
    assert run(["demo", "-o", str(tmp_path), *SETS]) == 2
    assert "holds a synthetic set of another kind" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "nothing is bound to the wrong seed"


@pytest.mark.slow
def test_one_part_after_another_in_this_process_learns_from_the_drawn_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [*SETS, "--set", "pretrain.source=videos", "--set", "encoder.init=random"]
    assert run(["demo", "-o", str(tmp_path), "--seed", "3", "--jobs", "1", *sets]) == 0
    told = capsys.readouterr().err
    assert told.index(": draw the videos: ") < told.index(": pretrain the encoder") < told.index("part 7 of 7 done in ")
    assert not (tmp_path / "parts").exists()


@pytest.mark.slow
def test_a_part_that_fails_ends_the_others_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = ["--set", "pretrain.lr=1e30"]
    assert run(["demo", "-o", str(tmp_path), "--seed", "3", "--jobs", "2", *SETS, *broken]) == 2
    told = capsys.readouterr().err
    assert "pretrain the encoder on the source set: the loss is nan" in told and "Lower pretrain.lr=1e+30" in told
    assert "Traceback" not in told
    assert "Lower pretrain.lr=1e+30" in (tmp_path / "parts" / "pretrain.log").read_text()
    assert not (tmp_path / "baselines" / "still").exists() and not (tmp_path / "detect").exists()


def test_what_lies_where_bars_should_go_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "parts").touch()
    assert run(["demo", "-o", str(tmp_path), "--jobs", "2", *SETS]) == 2
    assert f"{tmp_path / 'parts'}: cannot be a folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_drawn_video_that_was_damaged_is_named_and_drawn_again_once_it_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ensure_synthetic_set(load_config("demo", [*SMALL_DEMO, "seed=3"]), tmp_path / "data")
    damaged = tmp_path / "data" / "videos" / "target_0001.mp4"
    damaged.write_bytes(damaged.read_bytes()[:200])
    call = ["demo", "-o", str(tmp_path), "--seed", "3", "--jobs", "1", *SETS]
    assert run(call) == 2
    told = capsys.readouterr().err
    assert told.count("Remove what lies there, and repeat the command") == 1 and "target_0001 in " in told
    damaged.unlink()
    assert run(call) == 0
