"""`etad plot`: which options go with which picture, where pictures go, and what is said of what cannot be drawn."""

from pathlib import Path

import numpy as np
import pytest
from miniature import LABELS, complaint, make, set_options

from etad.data.annotations import read_annotations
from etad.data.detections import Detections, write_detections
from etad.pipeline.cli.main import run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two run folders that hold features, annotations and detections, as far as pictures need them."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("one", "two"):
        _, annotations = make(folder / name, num_videos=4)
        read = read_annotations(annotations)
        (folder / name / "config.toml").write_text(f'[data]\nannotations = "{annotations}"\n')
        random = np.random.default_rng(len(name))
        rows = [
            (id, np.sort(random.uniform(0, 20, (30, 2))), random.integers(0, 3, 30), random.random(30))
            for id in read.videos
        ]
        (folder / name / "detect").mkdir()
        write_detections(folder / name / "detect" / "detections.json", Detections.join(rows, labels=LABELS))
    return folder


def test_two_runs_are_drawn_under_each_other_and_a_results_file_counts_as_one(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = runs / "one", runs / "two" / "detect" / "detections.json"
    assert run(["plot", "qualitative", str(one), str(other), "--video", "v01", "--format", "svg"]) == 0
    (picture,) = (one / "plots").glob("qualitative_one_detections_*.svg")
    assert capsys.readouterr().out == f"wrote {picture}\n"
    # Runs elsewhere that have the same names get a picture of their own.
    assert run(["plot", "qualitative", str(one), str(one / "detect" / "detections.json"), "--format", "svg"]) == 0
    assert len(list((one / "plots").glob("qualitative_one_detections_*.svg"))) == 2
    assert "v01 (run)" in picture.read_text()


def test_one_run_may_be_coloured_by_tiou_and_goes_where_it_is_asked_to(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "figures" / "three.pdf"
    words = ["plot", "qualitative", "-o", str(runs / "one"), "--colour", "tiou", "--video", "v00", "--to", str(to)]
    assert run(words) == 0
    assert to.read_bytes().startswith(b"%PDF")
    assert "wrote" in capsys.readouterr().out


def test_snippets_and_the_model_of_a_run_are_drawn(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plot", "sampling", str(runs / "one"), "--ratio", "0.5", "--format", "svg"]) == 0
    assert "FPS, 8 sampled" in (runs / "one" / "plots" / "sampling.svg").read_text()
    assert run([*set_options(), "plot", "architecture", "-o", str(runs / "one"), "--format", "svg"]) == 0
    assert "snippet features  16 x 16" in (runs / "one" / "plots" / "architecture.svg").read_text()
    assert run(["plot", "architecture", "-c", "thumos14", "--to", str(runs / "no.svg")]) == 2
    assert "how many channels the features have is not known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["curves", "--ratio", "0.5", "--colour", "tiou"], "--colour and --ratio do not apply to `plot curves`"),
        (["page", "--format", "pdf"], "--format does not apply to `plot page`"),
        (["sampling", "--colour", "tiou"], "--colour does not apply to `plot sampling`"),
        (["qualitative", "--to", "a.png", "--format", "pdf"], "--to names one file"),
        (["sampling", "--video", "v99"], "has no video 'v99'"),
        (["qualitative", "--to", "a.bmp"], "pictures are written as .png, .pdf or .svg"),
        (["qualitative", "two"], "names one run, and two another"),
    ],
)
def test_what_does_not_go_together_is_told(
    runs: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    assert run(["plot", *words, "-o", str(runs / "one")]) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_results_is_not_forgotten_beside_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(runs / "one/detect/detections.json")
    for named in ([str(runs / "one"), str(runs / "two")], [file]):
        assert run(["plot", "qualitative", *named, "--results", file]) == 2
        assert "name it beside them" in capsys.readouterr().err


def test_a_video_that_is_named_twice_is_drawn_once(runs: Path) -> None:
    words = ["plot", "qualitative", str(runs / "one")]
    once, again = runs / "once.svg", runs / "again.svg"
    for path, videos in ((once, ["v00"]), (again, ["v00", "v00"])):
        assert run([*words, "--to", str(path), *(word for id in videos for word in ("--video", id))]) == 0
    assert once.stat().st_size == again.stat().st_size


def test_runs_that_are_not_there_are_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(["plot", "qualitative", str(runs / "one"), str(runs / "three")], capsys)
    assert "three" in said
    assert run(["plot", "curves", str(runs / "one"), str(runs / "two")]) == 2
    assert "`plot curves` draws one run: name its folder, and no other one or file" in capsys.readouterr().err
