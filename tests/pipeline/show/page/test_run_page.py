"""The review page of a finished run, as `etad plot page` writes it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniature import complaint

from etad.data.annotations import read_annotations
from etad.data.detections import Detections, write_detections
from etad.data.video.video import write_video
from etad.pipeline.cli.main import run as etad
from etad.pipeline.show.page.run_page import MOST_DETECTIONS, count_thresholds
from etad.pipeline.stages.operating import OperatingThresholds, write_thresholds

Page = Callable[..., dict]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two videos, one of them without a file; detections of three classes."""
    (tmp_path / "clips").mkdir()
    frames = [np.full((16, 16, 3), number, np.uint8) for number in range(20)]
    write_video(tmp_path / "clips" / "a.mp4", frames, fps=5.0)
    entry = {"subset": "validation", "duration": 9.0, "annotations": [{"segment": [0, 1], "label": "run"}]}
    database = {"a": entry, "b": {**entry, "annotations": entry["annotations"] * 2}, "c": entry}
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}))
    folder = tmp_path / "runs" / "mine"
    (folder / "detect").mkdir(parents=True)
    (folder / "config.toml").write_text(
        f'[data]\nannotations = "{tmp_path / "annotations.json"}"\nvideos = "{tmp_path / "clips"}"\n'
    )
    segments = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]])
    rows = [(id, segments + k, np.array([0, 1, 1]), np.array([0.9, 0.5, 0.3]) - k / 10) for k, id in enumerate("ab")]
    write_detections(folder / "detect" / "detections.json", Detections.join(rows, labels=("jump", "run")))
    return folder


def data_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(text.split('id="data">')[1].split("</script>")[0])


def test_annotations_of_another_set_are_refused_and_a_video_without_any_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = json.loads((tmp_path / "annotations.json").read_text())["database"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"database": {f"x{id}": entry for id, entry in tree.items()}}))
    command = ["plot", "page", "-o", str(run), "--annotations", str(other)]
    assert "knows none of the 2 videos that were detected in (a, b)" in complaint(command, capsys)
    other.write_text(json.dumps({"database": {"a": tree["a"]}}))
    assert etad(command) == 0
    assert "Without annotations, and saved as of subset training: b." in (run / "plots/review.html").read_text()


def test_plot_page_shows_a_run_with_its_videos_rates_and_annotations(
    run: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    assert etad(["plot", "page", "-o", str(run)]) == 0
    page = run / "plots" / "review.html"
    assert f"wrote {page}" in capsys.readouterr().out
    data = data_of(page)
    first, second = data["videos"]
    assert (first["id"], first["url"], first["duration"], first["fps"]) == ("a", "../../../clips/a.mp4", 4.0, 5.0)
    assert (second["id"], second["url"], second["duration"], second["fps"]) == ("b", None, 9.0, None)
    assert first["subset"] == "validation" and first["truth"] == [[0.0, 1.0, 1]]
    assert first["detections"][0] == [0.0, 1.0, 0, 0.9]
    assert data["labels"] == ["jump", "run"] and "1 video not here" in caplog.text and ": b." in caplog.text


def test_plot_page_shows_the_videos_that_are_named_and_refuses_others(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert etad(["plot", "page", "-o", str(run), "--video", "b"]) == 0
    assert [video["id"] for video in data_of(run / "plots" / "review.html")["videos"]] == ["b"]
    assert etad(["plot", "page", "-o", str(run), "--video", "c"]) == 2
    assert "no result for video 'c'" in capsys.readouterr().err


def test_plot_page_begins_at_the_operating_thresholds_of_the_run_but_not_for_other_results(run: Path) -> None:
    thresholds = OperatingThresholds(0.7, {"run": 0.25}, 0.5, "validation", 2, is_tested_on=False)
    write_thresholds(run / "detect" / "thresholds.json", thresholds)
    assert etad(["plot", "page", "-o", str(run)]) == 0
    data = data_of(run / "plots" / "review.html")
    assert data["thresholds"] == [0.7, 0.25] and thresholds.text() in data["notes"]
    (run / "other.json").write_bytes((run / "detect" / "detections.json").read_bytes())
    assert etad(["plot", "page", "-o", str(run), "--results", str(run / "other.json")]) == 0
    assert data_of(run / "plots" / "review.html") == data
    (page,) = (run / "plots").glob("review_other_*.html")
    data = data_of(page)
    assert data["thresholds"] != [0.7, 0.25] and any("as many detections" in note for note in data["notes"])


def test_a_run_without_videos_still_gets_its_page(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert etad(["plot", "page", "-o", str(run), "--set", f'data.videos="{run / "none"}"']) == 0
    assert [video["url"] for video in data_of(run / "plots" / "review.html")["videos"]] == [None, None]
    assert "The page asks for each video" in caplog.text


def test_a_threshold_lets_through_as_many_detections_as_there_are_actions(run: Path) -> None:
    annotated = read_annotations(run.parent.parent / "annotations.json").videos
    rows = [("a", np.zeros((5, 2)), np.array([0, 0, 0, 1, 1]), np.array([0.5, 0.4, 0.3, 0.2, 0.1]))]
    found = Detections.join(rows, labels=("run", "turn"))
    chosen = count_thresholds(found, {"a": annotated["b"]})
    assert chosen == {"run": 0.4, "turn": 0.4}
    unlabelled = Detections.join([("a", np.zeros((1, 2)), np.array([-1]), np.array([0.5]))], labels=())
    assert count_thresholds(unlabelled, {"a": annotated["a"]}) == {"action": 0.5}


def test_of_hundreds_of_detections_the_best_are_shown_and_the_page_says_so(run: Path) -> None:
    scores = np.random.default_rng(0).uniform(size=MOST_DETECTIONS + 7)
    rows = [("a", np.tile([0.0, 1.0], (len(scores), 1)), np.full(len(scores), -1), scores)]
    write_detections(run / "detect" / "detections.json", Detections.join(rows, labels=()))
    assert etad(["plot", "page", "-o", str(run)]) == 0
    data = data_of(run / "plots" / "review.html")
    shown = [row[3] for row in data["videos"][0]["detections"]]
    assert shown == sorted(scores.tolist(), reverse=True)[:MOST_DETECTIONS]
    assert any("207" in note for note in data["notes"])


def test_results_of_one_name_from_two_folders_get_a_page_each(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = run / "detect" / "detections.json"
    pages = set()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(own, tmp_path / folder / "found.json")
        assert etad(["plot", "page", "-o", str(run), "--results", str(tmp_path / folder / "found.json")]) == 0
        pages.add(capsys.readouterr().out.split("wrote ")[1].strip())
    assert etad(["plot", "page", "-o", str(run), "--results", str(own)]) == 0
    assert capsys.readouterr().out.strip().endswith("review.html"), "the run's own, though named"
    assert len(pages) == 2 and all(Path(page).exists() for page in pages)
