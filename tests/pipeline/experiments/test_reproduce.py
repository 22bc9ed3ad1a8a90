"""`etad reproduce` from the command line, on miniatures."""

import json
import os
import shutil
import time
from pathlib import Path

import miniature
import miniature_e2e
import pytest
import torch
from miniature import SMALL_DEMO, complaint

from etad.data.errors import EtadError
from etad.pipeline.cli.main import run
from etad.pipeline.config import Config, load_config
from etad.pipeline.experiments.grid import Cell, CellStage, Grid
from etad.pipeline.experiments.page import put_into_page
from etad.pipeline.experiments.runs import Clock, Inputs, Job, Measured, run_job
from etad.pipeline.experiments.step_memory import step_bytes

SETS = [word for value in SMALL_DEMO for word in ("--set", value)]


@pytest.fixture(scope="module")
def table4(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Table 4 on a small cache, done once: its folder, and the command."""
    folder = tmp_path_factory.mktemp("table4")
    cache, annotations = miniature.make(folder, num_videos=9)
    command = ["reproduce", "table4", "-o", str(folder / "t4"), "--features", str(cache), "--seeds", "1", "--jobs", "1"]
    command += ["--annotations", str(annotations), *miniature.set_options("detect.training.epochs=1")]
    assert run([*command, "--page", str(folder / "results.md")]) == 0
    return folder / "t4", command


def made(folder: Path) -> dict[Path, int]:
    """When each checkpoint and prediction was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name in ("last.pt", "raw.h5")}


def test_a_table_on_features_alone_is_printed_written_and_drawn(table4: tuple[Path, list[str]]) -> None:
    folder, _ = table4
    found = json.loads((folder / "table4.json").read_text())
    assert list(found["average_mAP"]) == [f"{share} % at inference" for share in (100, 20, 15, 10, 6)]
    assert all(value is not None and len(value) == 1 for value in found["average_mAP"].values())
    assert len(found["claims"]) == 5 and all(claim["holds"] is not None for claim in found["claims"])
    assert (folder / "table4.png").stat().st_size > 5000
    page = (folder.parent / "results.md").read_text()
    assert page.startswith("# Results") and "| 6 % at inference |" in page and "etad reproduce table4" in page


def test_one_trained_detector_serves_all_shares_at_inference(table4: tuple[Path, list[str]]) -> None:
    folder, _ = table4
    assert [path.relative_to(folder) for path in folder.rglob("last.pt")] == [
        Path("seed0/base/detect/checkpoints/last.pt")
    ]
    assert len(list(folder.rglob("raw.h5"))) == 1 + 5


def test_a_cell_that_is_gone_is_done_again_and_no_other(
    table4: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, command = table4
    before, figures = made(folder), (folder / "table4.csv").read_text()
    (folder / "seed0/inference-10/detect/raw.h5").unlink()
    assert run(command) == 0
    after = made(folder)
    assert {path.parts[-3] for path in after if after[path] != before[path]} == {"inference-10"}
    assert (folder / "table4.csv").read_text() == figures
    assert "6 % at inference" in capsys.readouterr().out


def test_cells_that_need_videos_are_left_out_where_there_are_features_alone(
    table4: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, command = table4
    assert run(["reproduce", "table3", "-o", command[3] + "-t3", *command[4:]]) == 0
    printed = capsys.readouterr().out
    assert "end to end, 6 %: it trains through the encoder" in printed and "- frozen, 6 %" not in printed
    # A table of nothing else is none.
    for table in ("table6", "table7", "demo"):
        told = complaint(["reproduce", table, "-o", command[3] + table, *command[4:]], capsys)
        assert f"{table}: no row of it can be run." in told and "name --videos instead" in told
        assert not Path(command[3] + table).exists()


def test_a_table_that_comes_to_nothing_takes_no_other_ones_place(
    table4: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, command = table4
    page = tmp_path / "page.md"
    page.write_text("<!-- table4: begin -->\nhours of work\n<!-- table4: end -->\n")
    place = tmp_path / "t4"
    shutil.copytree(folder, place)
    before = {path: path.read_bytes() for path in [page, *place.glob("table4.*")]}

    def fail(job: Job) -> Measured:
        return Measured() if job.cell.folder == "base" else Measured(failed="no room")

    monkeypatch.setattr("etad.pipeline.experiments.reproduce.run_job", fail)
    again = ["reproduce", "table4", "-o", str(place), *command[4:], "--page", str(page)]
    assert run(again) == 1
    printed = capsys.readouterr().out
    assert "no run came to a figure" in printed and "6 % at inference, seed 0: no room" in printed
    assert {path: path.read_bytes() for path in before} == before and len(before) == 6


def test_a_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Mine\n\nBefore.\n\n<!-- table4: begin -->\nlast year\n<!-- table4: end -->\n\nAfter.\n")
    put_into_page(page, "table4", "| a \\1 |\n")
    text = page.read_text()
    assert text.startswith("# Mine\n\nBefore.\n") and text.endswith("\n\nAfter.\n")
    assert "last year" not in text and "| a \\1 |" in text
    put_into_page(page, "table5", "new")
    assert page.read_text() == text + "\n<!-- table5: begin -->\n\nnew\n\n<!-- table5: end -->\n"


def test_a_page_with_half_a_mark_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- table2: begin -->\n")
    command = ["reproduce", "table2", "--data", "demo", "-o", str(tmp_path), "--page", str(page)]
    assert "the marks of table2 do not stand there once each" in complaint(command, capsys)


@pytest.mark.parametrize("order", ["4b 5b 5e 4e", "4b 5b 4e 5e", "5b 4b 5e 4e"])
def test_a_page_whose_blocks_overlap_is_refused_and_kept(tmp_path: Path, order: str) -> None:
    page = tmp_path / "page.md"
    edges = {"b": "begin", "e": "end"}
    page.write_text("\n".join(f"<!-- table{mark[0]}: {edges[mark[1]]} -->\nprecious" for mark in order.split()))
    before = page.read_text()
    with pytest.raises(EtadError, match="stands between the marks of table4, and what is there would be lost"):
        put_into_page(page, "table4", "new")
    assert page.read_text() == before


@pytest.mark.parametrize("kind", ["half a mark", "a folder", "no text", "a pipe"])
def test_a_page_is_looked_at_before_anything_runs(
    table4: tuple[Path, list[str]], tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, command = table4
    page = tmp_path / "page.md"
    if kind == "a folder":
        page.mkdir()
    elif kind == "a pipe":
        os.mkfifo(page)
    else:
        page.write_bytes(b"\xff\xfe" if kind == "no text" else b"<!-- table4: begin -->\n")
    again = [*command[:2], "-o", str(tmp_path / "t4"), *command[4:], "--page", str(page)]
    assert "JSON" not in complaint(again, capsys)
    assert not (tmp_path / "t4").exists()


def test_seconds_are_of_the_settings_and_what_is_noted_damaged_is_made_again(
    table4: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, command = table4
    again = [*command[:2], "-o", str(tmp_path / "t4"), *command[4:]]
    shutil.copytree(folder, tmp_path / "t4")
    noted = tmp_path / "t4/seed0/base.seconds.json"
    first = json.loads(noted.read_text())
    assert set(first["stages"]) == {"detect"} and first["stages"]["detect"] > 0
    assert run(again) == 0
    assert json.loads(noted.read_text()) == first, "what is done takes no time, which is no news"
    for content in ("{", "{}", "[]", "null", "12.5", '{"settings": 1, "stages": []}'):
        for name in ("base", "inference-10"):
            (tmp_path / f"t4/seed0/{name}.seconds.json").write_text(content)
        assert run(again) == 0
        found = json.loads((tmp_path / "t4/table4.json").read_text())["seconds"]
        assert found["10 % at inference"] == [None] != found["6 % at inference"], "nobody knows"
    noted.write_text(json.dumps(first))
    assert run([*again, "--set", "detect.training.epochs=2"]) == 0
    assert "minutes of computing" not in (tmp_path / "t4/table4.md").read_text(), "it went on with other settings"


def test_stages_of_a_run_that_tables_share_are_timed_each_and_one_that_was_interrupted_is_not(tmp_path: Path) -> None:
    def clock(*stages: CellStage) -> Clock:
        cell = Cell(name="base", folder="base", stages=stages, after=None)
        return Clock(Job(load_config("demo"), cell, (), tmp_path, tmp_path, Inputs()))

    def do(stages: tuple[CellStage, ...], failing: str = "") -> float | None:
        times = clock(*stages)
        for stage in stages:
            with times.timing(stage):
                (tmp_path / "base").mkdir(exist_ok=True)
                if stage == failing:
                    raise KeyboardInterrupt
                time.sleep(0.01)
        return times.seconds

    first = do(("pretrain", "extract"))
    both = do(("pretrain", "extract", "detect"))
    assert first is not None and both is not None and both >= first + 0.01
    assert do(("pretrain", "extract")) == first
    with pytest.raises(KeyboardInterrupt):
        do(("pretrain", "extract", "e2e"), failing="e2e")
    assert do(("pretrain", "extract", "e2e")) is None and do(("pretrain", "extract", "detect")) == both


def test_table_2_is_read_off_the_model_beside_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "table2", "-o", str(tmp_path), "--set", "detect.bins=32"]) == 0
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines() if line.startswith(("start/end", "centre", "IoU"))]
    assert len(lines) == 18 and all(line[-1] == "yes" for line in lines)
    assert "sigmoid" in printed and "128 x 32 x N" in (tmp_path / "table2.md").read_text()
    assert run(["reproduce", "table2", "-o", str(tmp_path), "--set", "detect.bins=8"]) == 0
    assert "Other sizes than the paper's, which are of 32 bins: start/end offset input" in capsys.readouterr().out
    table = (tmp_path / "table2.csv").read_text().splitlines()
    assert len(table) == 1 + 18 and table[0].startswith("chain,layer,ours")
    assert "`etad reproduce table2 --set detect.bins=8`" in (tmp_path / "table2.md").read_text()


def test_table_2_takes_the_channels_of_features_and_nothing_that_it_does_not_read(
    table4: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = table4[1][table4[1].index("--features") + 1]
    sizes = []
    for options in (["--features", cache], ["--set", "detect.in_channels=2048"]):
        assert run(["reproduce", "table2", "-o", str(tmp_path / "t2"), *options]) == 0
        sizes.append(capsys.readouterr().out.split("enhancement ")[1].split(",")[0])
    assert sizes[0] != sizes[1]
    for option, value in {"annotations": "a.json", "videos": ".", "weights": "w.pt", "seeds": "2", "jobs": "1"}.items():
        assert run(["reproduce", "table2", "-o", str(tmp_path / "t"), f"--{option}", value]) == 2
        assert f"leave --{option} out" in capsys.readouterr().err
    (tmp_path / "broken.h5").write_bytes(b"no cache")
    assert "broken.h5" in complaint(["reproduce", "table2", "--features", str(tmp_path / "broken.h5")], capsys)


def test_features_of_an_own_data_set_are_extracted_once_for_all_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = miniature_e2e.make(tmp_path / "set")
    sets = [word for each in miniature_e2e.SETS if "init" not in each for word in ("--set", each)]
    source = [*sets, "--set", "pretrain.source=synthetic", "--set", "pretrain.steps=1"]
    assert run(["pretrain", "-o", str(tmp_path / "p"), *source]) == 0
    command = ["reproduce", "table4", "-o", str(tmp_path / "t4"), "--jobs", "1", *sets]
    command += ["--videos", str(annotations.parent / "videos"), "--annotations", str(annotations)]
    command += ["--weights", str(tmp_path / "p/pretrain/encoder.pt")]
    assert run([*command, "--seeds", "2"]) == 0
    assert f"{tmp_path / 't4/features.log'}, " in capsys.readouterr().err
    caches = {path: path.stat().st_mtime_ns for path in (tmp_path / "t4").rglob("*.h5") if path.name != "raw.h5"}
    assert [path.relative_to(tmp_path / "t4") for path in caches] == [Path("features/features.h5")]
    assert len(list((tmp_path / "t4").rglob("last.pt"))) == 2
    assert run([*command, "--seeds", "1", "--seed", "2"]) == 0
    assert {path: path.stat().st_mtime_ns for path in caches} == caches
    assert len(list((tmp_path / "t4").rglob("last.pt"))) == 3


@pytest.mark.slow
def test_table_6_runs_side_by_side_from_one_command_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "table6", "-o", str(tmp_path / "t6"), "--seed", "1", "--seeds", "1", "--jobs", "2", *SETS]
    assert run(command) == 0
    printed = capsys.readouterr().out
    for text in ("frozen encoder, gamma 0 %", "end to end, gamma 100 %", "seed 1", "38.67", "table6.png"):
        assert text in printed
    assert "The paper's figures of SlowOnly, which has a preset of its own" in printed
    made_by = (tmp_path / "t6" / "table6.md").read_text().splitlines()[-1]
    assert made_by.startswith("`etad reproduce table6 --seeds 1 --seed 1 --set demo.videos=8 ")
    found = json.loads((tmp_path / "t6" / "table6.json").read_text())
    assert found["seeds"] == [1] and len(found["average_mAP"]) == 1 + 5
    assert (tmp_path / "t6" / "table6.png").stat().st_size > 5000
    weights = {p: p.stat().st_mtime_ns for p in (tmp_path / "t6").rglob("last.pt")}
    assert len(weights) == 1 + 5
    assert (tmp_path / "t6" / "seed1" / "gamma30-gradnorm" / "e2e" / "metrics.json").exists()
    assert run(command) == 0
    assert {p: p.stat().st_mtime_ns for p in weights} == weights
    assert json.loads((tmp_path / "t6" / "table6.json").read_text()) == found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--annotations", "annotations.json"], "name it with --weights"),
        (["--annotations", "annotations.json", "--weights", "."], "needs videos, or a cache of features"),
        (["--annotations", "annotations.json", "--weights", "w.pt"], "Check what --weights names"),
        (["--videos", "."], "Name their --annotations"),
        (["--features", "."], "nothing says which actions these features show"),
        (["--features", "features.h5"], "features.h5: there is no such cache. Check what --features names"),
        (["--set", "detect.labels.source=scores"], "give --scores FILE"),
        (["--data", "no-such-preset"], "neither a preset nor a TOML file"),
    ],
)
def test_what_cannot_be_measured_is_refused_beforehand(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", "table6", "-o", str(tmp_path / "t6"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "t6").exists()


@pytest.mark.parametrize(
    ("table", "setting", "said"),
    [
        ("table3", "e2e.start=scratch", "Set e2e.start=detector"),
        ("table6", "e2e.start=scratch", "Set e2e.start=detector"),
        ("table7", "e2e.start=scratch", "Set e2e.start=detector"),
        ("demo", "e2e.start=scratch", "Set e2e.start=detector"),
        ("table7", "e2e.memory_budget_gib=8", "table 7 is trained without gradient sampling"),
        ("table7", "encoder.adapter=series", "Set encoder.adapter=none"),
    ],
)
def test_what_the_rows_of_a_table_would_not_be_is_refused_before_anything_is_drawn(
    table: str, setting: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["--set", "encoder.name=videomae_tiny", "--set", setting] if "adapter" in setting else ["--set", setting]
    assert said in complaint(["reproduce", table, "-o", str(tmp_path / "t"), *sets], capsys)
    assert not (tmp_path / "t").exists()


def test_all_tables_but_those_that_cannot_be_are_run_and_these_are_named_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    begun: dict[str, range] = {}

    def run_table(grid: Grid, config: Config, *_: object, seeds: int, **__: object) -> int:
        ran.append(grid.name)
        begun[grid.name] = range(config.seed, config.seed + seeds)
        if fails:
            raise EtadError("no room")
        return 0

    monkeypatch.setattr("etad.pipeline.cli.reproduce._run_table", run_table)
    fails = False
    assert run(["reproduce", "all", "-o", str(tmp_path), "--set", "e2e.start=scratch"]) == 1
    assert ran == ["table1", "table4", "table5"]
    told = capsys.readouterr().out
    assert told.index("table7 is left out: e2e.start=scratch") < told.index("Table 2")
    assert run(["reproduce", "all", "-o", str(tmp_path), "--weights", "no.pt"]) == 2
    assert "Check what --weights names" in capsys.readouterr().err
    # One that fails is told, and the next one comes.
    ran.clear()
    fails = True
    assert run(["reproduce", "all", "-o", str(tmp_path)]) == 1
    assert ran == ["table1", "table3", "table4", "table5", "table6", "table7", "demo"]
    assert capsys.readouterr().out.count("no room") == len(ran)
    assert begun["table1"] == range(11, 14) and begun["table6"] == range(6, 11) and begun["demo"] == range(11, 16)
    # Where sets are drawn, no table begins with a seed that its settings were chosen on, whatever its config is called.
    assert "no room" in complaint(["reproduce", "table6", "-o", str(tmp_path), "--data", "demo"], capsys)
    assert begun["table6"] == range(6, 11)


def test_a_run_that_memory_does_not_hold_is_a_run_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object, **__: object) -> None:
        torch.empty(10**14)

    monkeypatch.setattr("etad.pipeline.experiments.runs.ensure_synthetic_set", too_much)
    cell = Cell(name="base", folder="base", stages=("pretrain",), after=None)
    found = run_job(Job(load_config("demo"), cell, (), tmp_path, tmp_path, Inputs()))
    assert found.failed == "out of memory"


def test_a_step_that_samples_takes_less_memory_than_one_that_does_not() -> None:
    sets = ["detect.num_snippets=16", "detect.max_duration=8", "e2e.micro_batch=2", "e2e.first_pass_cache=nothing"]
    sets += ["clips.crop=64", "clips.resize=[64,64]"]
    peaks = {
        memory: step_bytes(load_config("demo", [*sets, *more]), channels=None, device=torch.device("cpu"))
        for memory, more in {
            "sgs": ["e2e.ratio=0.3"],
            "by gradient": ["e2e.ratio=0.3", "e2e.strategy=coreset"],
            "full": ["e2e.memory=full", "e2e.cache_frozen=0"],
        }.items()
    }
    # Most of it is the detector's, which is the same.
    assert min(peaks["full"] - peaks["sgs"], peaks["full"] - peaks["by gradient"]) > 5e6


def test_a_step_is_measured_with_the_adapters_that_are_trained() -> None:
    sets = ["encoder.name=videomae_tiny", "encoder.frozen_stages=0", "clips.clip_frames=4", "clips.resize=[32,32]"]
    sets += ["clips.crop=32", "detect.num_snippets=8", "detect.max_duration=8", "e2e.batch=1"]
    peaks = {
        adapter: step_bytes(
            load_config("demo", [*sets, f"encoder.adapter={adapter}"]), channels=None, device=torch.device("cpu")
        )
        for adapter in ("none", "side")
    }
    # Nothing is kept of the blocks for a backward pass that goes beside them.
    assert 0 < peaks["side"] < peaks["none"]
