"""`etad reproduce` from the command line, on miniatures."""

import json
import shutil
from pathlib import Path

import miniature
import pytest
import torch
from miniature import SMALL_DEMO, complaint

from etad.data.errors import EtadError
from etad.pipeline.cli.main import run
from etad.pipeline.config import load_config
from etad.pipeline.experiments.page import put_into_page
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
    assert len(found["claims"]) == 3 and all(claim["holds"] is not None for claim in found["claims"])
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
    options = ["reproduce", "table6", "-o", command[3] + "-t6", *command[4:]]
    assert run(options) == 0
    assert "it trains through the encoder" in capsys.readouterr().out


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


@pytest.mark.parametrize("kind", ["half a mark", "a folder", "no text"])
def test_a_page_is_looked_at_before_anything_runs(
    table4: tuple[Path, list[str]], tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, command = table4
    page = tmp_path / "page.md"
    if kind == "a folder":
        page.mkdir()
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
    assert first["seconds"] > 0
    assert run(again) == 0
    assert json.loads(noted.read_text()) == first, "what is done takes no time, which is no news"
    # Earlier versions noted the number alone.
    noted.write_text("12.5")
    assert run(again) == 0
    assert "| 100 % at inference |" in (tmp_path / "t4/table4.md").read_text()
    for content in ("{", "{}", "[]", "null"):
        for name in ("base", "inference-10"):
            (tmp_path / f"t4/seed0/{name}.seconds.json").write_text(content)
        assert run(again) == 0
        assert json.loads(noted.read_text())["seconds"] is None, "nobody knows"
    noted.write_text(json.dumps(first))
    assert run([*again, "--set", "detect.training.epochs=2"]) == 0
    assert json.loads(noted.read_text())["seconds"] is None, "it went on with other settings"


def test_table_2_is_read_off_the_model_beside_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "table2", "-o", str(tmp_path), "--set", "detect.bins=32"]) == 0
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines() if line.startswith(("start/end", "centre", "IoU"))]
    assert len(lines) == 18 and all(line[-1] == "yes" for line in lines)
    assert "sigmoid" in printed and "128 x 32 x N" in (tmp_path / "table2.md").read_text()
    assert run(["reproduce", "table2", "-o", str(tmp_path), "--set", "detect.bins=8"]) == 0
    assert "Other sizes than the paper's: start/end offset input" in capsys.readouterr().out


@pytest.mark.slow
def test_table_6_runs_side_by_side_from_one_command_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "table6", "-o", str(tmp_path / "t6"), "--seed", "1", "--seeds", "1", "--jobs", "2", *SETS]
    assert run(command) == 0
    printed = capsys.readouterr().out
    for text in ("frozen encoder, gamma 0 %", "end to end, gamma 100 %", "seed 1", "38.67", "table6.png"):
        assert text in printed
    assert "SlowOnly: end to end, gamma 100 %: tsm_tiny is another encoder" in printed
    made_by = (tmp_path / "t6" / "table6.md").read_text().splitlines()[-1]
    assert made_by.startswith("`etad reproduce table6 --seeds 1 --seed 1 --set demo.videos=8 ")
    found = json.loads((tmp_path / "t6" / "table6.json").read_text())
    assert found["seeds"] == [1] and len(found["average_mAP"]) == 1 + 2 * 5
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
        (["--annotations", "annotations.json", "--weights", "w.pt"], "needs videos, or a cache of features"),
        (["--videos", "."], "Name their --annotations"),
        (["--features", "features.h5"], "nothing says which actions these features show"),
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
