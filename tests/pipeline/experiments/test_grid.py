"""Cells of a grid: what they come after, what cannot exist, which of the paper's claims hold."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.pipeline.config import load_config
from etad.pipeline.experiments.catalogue import TABLES
from etad.pipeline.experiments.grid import Cell, Claim, Grid, unfit
from etad.pipeline.experiments.outcome import Outcome
from etad.pipeline.experiments.reproduce import reproduce_grid
from etad.pipeline.experiments.runs import Inputs, Job, Measured
from etad.pipeline.experiments.written import as_csv, heads, markdown, rows

BASE = Cell(name="features", folder="base", stages=("extract",), after=None, is_row=False)


def cell(name: str, paper: float, *, against: str = "", left_out: str = "") -> Cell:
    figures = {"average": paper, "0.5": paper + 10}
    return Cell(
        name=name, folder=name, stages=("detect",), against=against, paper=figures, left_out=left_out, cost=paper
    )


def outcome(values: dict[str, list[float]], *, failed: str = "") -> Outcome:
    """A grid of cells a, b and c, of which c was left out."""
    cells = (BASE, cell("a", 36.0), cell("b", 35.0, against="a"), cell("c", 34.0, against="a", left_out="no | room"))
    claims = (
        Claim(text="a beats b", left="a", right="b"),
        Claim(text="b is as good as a", left="b", right="a", within=1.5),
        Claim(text="b beats c", left="b", right="c"),
    )
    grid = Grid(name="tableX", title="Table X", of="a set", cells=cells, claims=claims)
    found = {
        name: tuple(Measured(average_mAP=value / 100, mAP={"0.5": value / 50}, seconds=3.0) for value in of_seed)
        for name, of_seed in values.items()
    }
    if failed:
        found["b"] = (*found["b"][:-1], Measured(failed=failed))
    return Outcome(grid, tuple(range(len(values["a"]))), found)


def test_gains_are_paired_seed_by_seed() -> None:
    found = outcome({"a": [30.0, 50.0, 40.0], "b": [40.0, 60.0, 53.0]})
    gain = found.gain(found.grid.cell("b"), found.grid.cell("a"))
    assert gain is not None and gain.p is not None
    assert gain.mean == pytest.approx(11.0)
    assert gain.deviation == pytest.approx(1.73, abs=0.01)
    assert gain.p == pytest.approx(0.0082, abs=1e-4)  # t = 11, two degrees of freedom
    same = outcome({"a": [30.0, 50.0], "b": [30.0, 50.0]})
    assert same.gain(same.grid.cell("b"), same.grid.cell("a")) == (0.0, 0.0, None)
    alone = outcome({"a": [30.0], "b": [31.0]})
    assert alone.gain(alone.grid.cell("b"), alone.grid.cell("a")) == (pytest.approx(1.0), 0.0, None)


def test_claims_that_hold_those_that_do_not_and_those_that_nobody_knows_are_told_apart() -> None:
    better = outcome({"a": [41.0, 51.1, 42.0], "b": [40.0, 50.0, 41.1]}).verdicts()
    assert [verdict.holds for verdict in better] == [True, True, None]
    assert "a beats b (+1.00 in the paper): holds, +1.0 +- 0.1 points, p 0.0033" in better[0].text
    assert "not known, without c" in better[2].text
    worse = outcome({"a": [38.0, 51.0, 42.0], "b": [43.0, 49.9, 46.0]}).verdicts()
    assert [verdict.holds for verdict in worse] == [False, True, None]
    chance = outcome({"a": [43.0, 50.0, 42.0], "b": [40.0, 49.9, 42.2]}).verdicts()
    told = "a beats b (+1.00 in the paper): holds in the mean, but may be chance, +1.0 +- 1.8 points, p 0.44"
    assert chance[0].text == told
    lost = outcome({"a": [40.0, 49.9, 42.2], "b": [43.0, 50.0, 42.0]}).verdicts()
    assert "does not hold in the mean, which may be chance, -1.0 +- 1.8 points, p 0.44" in lost[0].text
    # About as good is tested where it would end to be so: at 1.5 points lower.
    assert "holds in the mean, but may be chance, -1.0 +- 1.8 points, p 0.65 against -1.5" in chance[1].text
    alone = outcome({"a": [43.0], "b": [42.0]}).verdicts()
    assert alone[0].text.endswith("holds on this one set, which may be chance, +1.0 points")
    assert alone[1].text.endswith("holds on this one set, which may be chance, -1.0 points")
    nothing = outcome({"a": [0.0, 0.0], "b": [0.0, 0.0]}).verdicts()
    assert nothing[1].text.endswith("holds in the mean, but may be chance, +0.0 points") and nothing[1].p is None


def test_cells_that_failed_of_different_seeds_are_not_compared() -> None:
    found = outcome({"a": [40.0, 50.0], "b": [41.0, 51.0]}, failed="no room")
    runs = dict(found.found) | {"a": (Measured(failed="no memory"), found.found["a"][1])}
    verdicts = Outcome(found.grid, found.seeds, runs).verdicts()
    assert verdicts[0].holds is None and verdicts[0].text.endswith("not known, no seed has both")


def test_markdown_and_csv_hold_the_same_rows_with_the_papers_beside_ours() -> None:
    found = outcome({"a": [30.0, 50.0], "b": [40.0, 61.0]})
    lines = [line for line in markdown(found, made_by="by hand").splitlines() if line.startswith("| ")]
    read = [[each.strip() for each in line.replace("\\|", "\0").strip("|").split("|")] for line in lines]
    assert [tuple(line) for line in read] == [heads(found), *rows(found)]
    table = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [tuple(row[head] for head in heads(found)) for row in table] == rows(found)
    assert table[1]["seed 1"] == "61.0" and table[1]["gain"] == "+10.5 +- 0.7" and table[1]["paper"] == "35.00"
    assert table[1]["tIoU 0.5"] == "101.0" and table[1]["paper, 0.5"] == "45.00"
    assert table[2]["mean +- sd"] == "-" and table[2]["why not"] == "no | room"
    assert "- c: no | room" in markdown(found) and "by hand" in markdown(found, made_by="by hand")
    failed = list(csv.DictReader(io.StringIO(as_csv(outcome({"a": [30.0], "b": [40.0]}, failed="no memory")))))
    assert [row["why not"] for row in failed] == ["", "seed 0: no memory", "no | room"]


def test_gains_over_the_row_above_are_told_so() -> None:
    grids = {name: TABLES[name].cells(load_config("demo"), Inputs()) for name in ("table3", "table5", "table7")}
    measured = (Measured(average_mAP=0.3),)
    told = {
        name: markdown(Outcome(grid, (0,), {cell.folder: measured for cell in grid.to_run}))
        for name, grid in grids.items()
    }
    assert "Gain: over the row above, in points" in told["table3"]
    assert "Gain: over ETAD, random, in points" in told["table5"]
    tuned = "fine-tuned encoder, 64x64, crop, frozen 2"
    of_all = "of all others over '32x32, crop, frozen 2', in points"
    assert f"Gain: of '{tuned}' over '64x64, crop, frozen 2', {of_all}" in told["table7"]
    one = markdown(Outcome(grids["table7"], (0,), {"small-crop-frozen2": measured, "small-none-frozen2": measured}))
    assert "Gain: over 32x32, crop, frozen 2, in points" in one  # of rows with figures


def test_averages_over_other_thresholds_than_the_papers_are_told() -> None:
    runs = outcome({"a": [30.0], "b": [40.0]})
    assert "Paper: a set. Averages over tIoU 0.5, the paper's over 0.5:0.05:0.95: they are not" in markdown(runs)
    same = Measured(average_mAP=0.3, mAP=dict.fromkeys(["0.3", "0.4", "0.5", "0.6", "0.7"], 0.3))
    grid = TABLES["table6"].cells(load_config("table6"), Inputs())
    found = Outcome(grid, (0,), {cell.folder: (same,) for cell in grid.to_run})
    assert "Paper: THUMOS-14. Averages over tIoU 0.3:0.1:0.7. Gain" in markdown(found)


def test_a_run_that_failed_is_told_and_its_seed_counts_nowhere() -> None:
    found = outcome({"a": [30.0, 50.0], "b": [40.0, 60.0]}, failed="out of memory")
    assert found.failures == [("b, seed 1", "out of memory")]
    gain = found.gain(found.grid.cell("b"), found.grid.cell("a"))
    assert gain is not None and gain.mean == pytest.approx(10.0) and gain.p is None
    assert np.isnan(found.values(found.grid.cell("b"))[1])
    assert found.as_json()["average_mAP"]["b"] == [0.4, None]


@pytest.mark.parametrize("name", [name for name in TABLES if name.startswith("table")])
def test_every_claim_is_true_of_the_papers_own_figures(name: str) -> None:
    grid = TABLES[name].cells(load_config(TABLES[name].preset), Inputs())
    assert grid.claims
    for claim in grid.claims:
        left, right = (np.array(grid.cell(folder).paper[claim.column]) for folder in (claim.left, claim.right))
        assert claim.holds(claim.differences(left, right).item()), claim.text
        assert left != right or claim.within is not None, claim.text


def test_orderings_of_memory_time_and_single_thresholds_are_told_in_their_units() -> None:
    grid = TABLES["table5"].cells(load_config("demo"), Inputs())
    runs = {cell.folder: (Measured(average_mAP=0.3, mAP={"0.5": 0.5}),) * 3 for cell in grid.to_run}
    for folder, (memory, seconds, exact) in {
        "random": (100, (30.0, 33.0, 27.0), 0.14),
        "bmn": (120, (60.0, 60.0, 60.0), 0.1),
        "bmn-tcanet": (90, (31.0, 33.0, 26.0), 0.2),
    }.items():
        runs[folder] = tuple(
            Measured(average_mAP=0.3, mAP={"0.95": exact + 0.01 * n}, seconds=each, memory_bytes=memory * 10**6 + n)
            for n, each in enumerate(seconds)
        )
    told = {each.claim.text: each.text for each in Outcome(grid, (1, 2, 3), runs).verdicts()}
    assert told["BMN needs more memory than ETAD"].endswith("(+269 % in the paper): holds, +20 %")
    assert told["BMN + TCANet needs more memory than ETAD"].endswith(": does not hold, -10 %")
    assert told["BMN takes longer than ETAD"].endswith("(+16 % in the paper): holds, +101 +- 20 %, p 0.013")
    longer = told["BMN + TCANet takes longer than ETAD"]
    assert longer.endswith("(+108 % in the paper): does not hold in the mean, which may be chance, -0 +- 4 %, p 0.96")
    # The same on each set: nothing to test against.
    exact = told["ETAD's best boundaries beat TCANet's"]
    assert exact.endswith(
        "(+2.31 in the paper): does not hold in the mean, which may be chance, -6.0 points at tIoU 0.95"
    )
    assert told["TCANet's good boundaries beat ETAD's"].endswith("not known, without BMN + TCANet")


def test_cells_come_after_those_they_take_from_and_the_longest_come_first() -> None:
    grid = TABLES["table7"].cells(load_config("demo"), Inputs())
    assert [cell.folder for cell in grid.after(None)] == ["base"]
    after = [cell.folder for cell in grid.after("base")]
    assert after[:2] == ["tuned-encoder", "large"] and "small-crop-frozen2" in after
    assert [cell.folder for cell in grid.after("tuned-encoder")] == ["tuned"]
    assert "large-crop-frozen2" in [cell.folder for cell in grid.after("large")]
    assert [each.folder for each in grid.chain(grid.cell("tuned"))] == ["tuned-encoder", "base"]


def test_what_cannot_exist_on_a_data_set_says_why() -> None:
    config = load_config("demo")
    assert unfit(config, ("detect.sampling.strategy=block",)) == ""
    too_large = unfit(config, ("detect.sampling.strategy=block", "detect.sampling.ratio=0.5"))
    assert "a block of 50% of the proposals does not fit" in too_large
    assert "is none" in unfit(config, ("detect.sampling.ratio=0.0001",))
    assert unfit(config, ("detect.no_such=1",)) == "this version of etad has no setting detect.no_such"
    whole = load_config("demo", ["detect.sampling.ratio=0.6"])
    block = TABLES["table5"].cells(whole, Inputs()).cell("block")
    assert "does not fit into their map" in block.left_out


def test_a_synthetic_set_gets_a_smaller_tcanet_and_the_table_says_so() -> None:
    cells = TABLES["table5"].cells
    drawn = cells(load_config("demo"), Inputs())
    assert "detect.tcanet.width=256" in drawn.cell("bmn-tcanet").sets and drawn.cell("bmn").sets == (
        "detect.model=bmn",
    )
    assert "detect.tcanet.width=256" in drawn.notes[-1]
    # Sizes that somebody chose stand, and so do the published ones on a real data set.
    features = Inputs(features=Path(__file__))
    for config, inputs in (
        (load_config("demo", ["detect.tcanet.encoders=1"]), Inputs()),
        (load_config("demo", ["data.annotations=annotations.json"]), features),
    ):
        grid = cells(config, inputs)
        assert grid.cell("bmn-tcanet").sets == ("detect.model=bmn+tcanet",) and len(grid.notes) == 1


def test_an_encoder_that_the_paper_does_not_have_is_named_by_its_own_name_beside_no_figures() -> None:
    grid = TABLES["table6"].cells(load_config("table6-videomae"), Inputs())
    run = [cell for cell in grid.rows if not cell.left_out]
    assert [cell.name for cell in run[1:3]] == [
        "videomae_tiny, series adapters: frozen encoder, gamma 0 %",
        "videomae_tiny, series adapters: end to end, gamma 10 %, coreset",
    ]
    assert not any(cell.paper for cell in run)
    values = {cell.folder: (Measured(average_mAP=0.4), Measured(average_mAP=0.5)) for cell in run}
    verdicts = Outcome(grid, (0, 1), values).verdicts()
    assert verdicts[0].holds is False and "paper" not in verdicts[0].text
    assert not any(cell.left_out for cell in grid.rows)
    assert any("of TSM" in note and "100 % 38.79" in note for note in grid.notes)
    assert any("of SlowOnly" in note and "--data thumos14-e2e-slowonly" in note for note in grid.notes)
    # The source set trains the encoder itself; adapters come when it is tuned.
    assert grid.cell("base").sets == ("encoder.adapter=none",)


def test_a_frozen_encoder_encodes_once_where_every_epoch_shows_the_same_frames() -> None:
    fixed, drawn, unkept = (
        TABLES["table6"].cells(load_config("table6", [each]), Inputs()).cell("gamma0-grid").sets
        for each in ("e2e.crop=centre", "e2e.crop=random", "e2e.cache_frozen=0")
    )
    assert fixed == (*drawn, "encoder.frozen_stages=4", "e2e.cache_frozen=1")
    assert unkept == drawn, "what is kept may not fit, unless the config says so"


def test_shares_of_gradients_are_sampled_whatever_memory_the_config_asks_for() -> None:
    grid = TABLES["table6"].cells(load_config("table6", ["e2e.memory=checkpoint", "e2e.cache_frozen=0"]), Inputs())
    assert all("e2e.memory=sgs" in cell.sets for cell in grid.rows if cell.stages == ("e2e",) and not cell.left_out)


def test_a_frozen_encoders_detector_goes_on_from_where_the_one_that_is_trained_end_to_end_does() -> None:
    grid = TABLES["table3"].cells(load_config("demo"), Inputs())
    frozen, tuned = grid.cell("frozen-6"), grid.cell("e2e-6")
    assert frozen.stages == tuned.stages == ("e2e",) and frozen.after == tuned.after == "detector-6"
    assert "e2e.ratio=0" in frozen.sets and grid.cell("detector-6") not in grid.rows
    alone = TABLES["table3"].cells(load_config("demo", ["data.annotations=a.json"]), Inputs(features=Path(__file__)))
    assert alone.cell("frozen-6").stages == ("detect",) and alone.cell("e2e-6").left_out


def test_a_seed_goes_on_without_waiting_for_another_and_past_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []

    def run_job(job: Job) -> Measured:
        begun.append(f"{job.cell.folder} {job.config.seed}")
        return Measured(failed="no room") if begun[-1] == "large 4" else Measured(average_mAP=0.5, seconds=1.0)

    monkeypatch.setattr("etad.pipeline.experiments.reproduce.run_job", run_job)
    config = load_config("demo")
    grid = TABLES["table7"].cells(config, Inputs())
    found = reproduce_grid(grid, config, tmp_path, seeds=(4, 5), inputs=Inputs(), jobs=1)
    assert begun[:4] == ["base 4", "base 5", "tuned-encoder 4", "large 4"]
    assert begun.index("small-crop-frozen2 4") < begun.index("tuned-encoder 5")
    assert "large-crop-frozen2 5" in begun and "large-crop-frozen2 4" not in begun
    assert sorted(set(begun)) == sorted(begun)
    failed = dict(found.failures)
    assert failed["features of 64x64, seed 4"] == "no room"
    assert failed["64x64, crop, frozen 2, seed 4"] == "it comes after features of 64x64, which failed: no room"
    assert all(name.endswith("seed 4") for name in failed) and len(found.found) == len(grid.to_run)
    assert "table7: runs: 100%" in capsys.readouterr().err  # those that could not be done are counted, too


def test_what_all_come_after_stops_the_table_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etad.pipeline.experiments.reproduce.run_job", lambda job: Measured(failed="no videos"))
    config = load_config("demo")
    grid = TABLES["demo"].cells(config, Inputs())
    with pytest.raises(EtadError, match="no videos"):
        reproduce_grid(grid, config, tmp_path, seeds=(1, 2), inputs=Inputs(), jobs=1)
    # One seed's takes nothing from the others.
    monkeypatch.setattr(
        "etad.pipeline.experiments.reproduce.run_job",
        lambda job: Measured(failed="no room") if job.config.seed == 1 else Measured(average_mAP=0.5),
    )
    found = reproduce_grid(grid, config, tmp_path, seeds=(1, 2), inputs=Inputs(), jobs=1)
    assert found.seeds == (1, 2) and all(found.values(cell)[1] == 50 for cell in grid.rows)
    assert len(found.failures) == len(grid.to_run) and all(name.endswith("seed 1") for name, _ in found.failures)


def test_what_all_seeds_share_is_done_once_and_where_it_fails_none_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def run_job(job: Job) -> Measured:
        begun.append(str(job.run.path.relative_to(tmp_path)))
        return Measured(failed="no room") if fails else Measured(average_mAP=0.5, seconds=1.0)

    monkeypatch.setattr("etad.pipeline.experiments.reproduce.run_job", run_job)
    config = load_config("demo", ["data.annotations=a.json", "data.videos=videos"])
    inputs = Inputs(weights=Path(__file__))
    grid, fails = TABLES["table4"].cells(config, inputs), False
    found = reproduce_grid(grid, config, tmp_path, seeds=(4, 5), inputs=inputs, jobs=1)
    assert begun[0] == "features" and begun.count("features") == 1 and {"seed4/base", "seed5/base"} <= set(begun)
    assert found.seconds == len(begun)
    begun.clear()
    fails = True
    with pytest.raises(EtadError, match="it comes after features, for all seeds, which failed: no room"):
        reproduce_grid(grid, config, tmp_path, seeds=(4, 5), inputs=inputs, jobs=1)
    assert begun == ["features"]


@pytest.mark.parametrize(("table", "shared"), [("table7", "large-features"), ("demo", "still-features")])
def test_other_features_of_an_own_data_set_are_extracted_once_too(
    table: str, shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def run_job(job: Job) -> Measured:
        begun.append(job.run.path.name)
        return Measured(failed="no room") if begun[-1] == shared and fails else Measured(average_mAP=0.5, seconds=1.0)

    monkeypatch.setattr("etad.pipeline.experiments.reproduce.run_job", run_job)
    config = load_config("demo", ["data.annotations=a.json", "data.videos=videos"])
    inputs, fails = Inputs(weights=Path(__file__)), False
    grid = TABLES[table].cells(config, inputs)
    after = next(cell for cell in grid.cells if cell.after == shared)
    assert after.stages == ("detect",) and after.sets == grid.cell(shared).sets
    found = reproduce_grid(grid, config, tmp_path, seeds=(4, 5), inputs=inputs, jobs=1)
    assert begun.count(shared) == begun.count("features") == 1 and begun.count(after.folder) == 2
    assert found.failures == []
    fails = True
    told = dict(reproduce_grid(grid, config, tmp_path, seeds=(4, 5), inputs=inputs, jobs=1).failures)
    name = grid.cell(shared).name
    assert told[name] == "no room"
    assert told[f"{after.name}, seeds 4, 5"] == f"it comes after {name}, which failed: no room"


def test_the_demos_rows_have_no_column_of_the_papers() -> None:
    grid = TABLES["demo"].cells(load_config("demo"), Inputs())
    runs = {cell.folder: (Measured(average_mAP=0.5, seconds=3.0), Measured(average_mAP=0.25)) for cell in grid.to_run}
    found = Outcome(grid, (1, 2), runs)
    assert "paper" not in heads(found) and all(len(row) == len(heads(found)) for row in rows(found))
    text = markdown(found)
    assert "aper" not in text and "- motion is needed" in text
    assert "| untrained encoder | 50.0 | 25.0 | 37.5 +- 17.7 |" in text
