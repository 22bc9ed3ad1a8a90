"""`etad compare`: runs side by side on the same videos, paired draw by draw."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniature import complaint

from etad.pipeline.cli.main import run
from etad.pipeline.config import load_config
from etad.pipeline.experiments.compare import compare_runs

LABELS = ("jump", "run")
NUM_VIDEOS = 12


def write_annotations(path: Path, *, reverse: bool = False, num_videos: int = NUM_VIDEOS, shift: float = 0.0) -> Path:
    numbers = range(num_videos)[::-1] if reverse else range(num_videos)
    database = {}
    for number in numbers:
        actions = [
            {"segment": [start + shift, start + 5.0], "label": LABELS[(number + i) % 2]}
            for i, start in enumerate((2.0, 20.0))
        ]
        database[f"v{number:02d}"] = {"subset": "validation", "duration": 40.0, "annotations": actions}
    path.write_text(json.dumps({"database": database}))
    return path


def write_run(folder: Path, annotations: Path, *, wrong: int, stage: str = "detect") -> Path:
    """A run whose detections are perfect but for the first `wrong` videos, where they are far off."""
    (folder / stage).mkdir(parents=True)
    config = load_config(None, [f"data.annotations={annotations}"])
    (folder / "config.toml").write_text(config.to_toml())
    results = {}
    for id, entry in json.loads(annotations.read_text())["database"].items():
        shift, score = 8.0 if int(id[1:]) < wrong else 0.0, 0.9 - int(id[1:]) / 100
        results[id] = [
            {
                "segment": [each["segment"][0] + shift, each["segment"][1] + shift],
                "label": each["label"],
                "score": score,
            }
            for each in entry["annotations"]
        ]
    (folder / stage / "detections.json").write_text(json.dumps({"results": results}))
    return folder


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    return write_annotations(tmp_path / "annotations.json")


def test_runs_are_paired_and_a_difference_is_told_from_chance(
    tmp_path: Path, annotations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, near = (
        write_run(tmp_path / name, annotations, wrong=wrong) for name, wrong in (("good", 0), ("bad", 8), ("near", 1))
    )
    assert run(["compare", str(good), str(bad), str(near), "--tiou", "0.5,0.9", "--json"]) == 0
    found = {Path(each["run"]).name: each for each in json.loads(capsys.readouterr().out)["runs"]}
    assert found["good"]["average_mAP"] == pytest.approx(1.0)
    low, high = found["bad"]["difference_interval"]
    assert low < found["bad"]["difference"] < high < 0
    assert found["near"]["difference"] < 0 and found["near"]["difference_interval"][1] == 0.0
    assert run(["compare", str(good), str(bad), str(near), "--tiou", "0.5,0.9"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if str(tmp_path) in line}
    assert [rows[str(place)][-1] for place in (good, bad, near)] == ["-", "yes", "no"]


def test_runs_with_other_rules_for_actions_annotated_twice_are_told_so_and_one_rule_brings_them_together(
    tmp_path: Path, annotations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = json.loads(annotations.read_text())
    actions = tree["database"]["v00"]["annotations"]
    actions.append(actions[0])
    annotations.write_text(json.dumps(tree))
    kept, dropped = (write_run(tmp_path / name, annotations, wrong=0) for name in ("kept", "dropped"))
    config = load_config(None, [f"data.annotations={annotations}", "data.duplicates=dropped"])
    (dropped / "config.toml").write_text(config.to_toml())
    words = ["compare", str(kept), str(dropped)]
    assert "Name one rule for all of them with --duplicates" in complaint(words, capsys)
    for more in (["--duplicates", "dropped"], ["--set", "data.duplicates=dropped"]):
        assert run([*words, *more]) == 0
        assert "1 action annotated twice: dropped" in " ".join(capsys.readouterr().out.split())
    assert run([*words, "--duplicates", "kept", "--set", "detect.tious=[0.5]", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["duplicated_actions"] == {"count": 1, "were": "kept"}
    assert [list(each["mAP"]) for each in found["runs"]] == [["0.5"], ["0.5"]]


def test_the_same_detections_do_not_differ_in_whatever_order_their_videos_are_annotated(
    tmp_path: Path, annotations: Path
) -> None:
    first = write_run(tmp_path / "first", annotations, wrong=5)
    other = write_run(tmp_path / "other", write_annotations(tmp_path / "back.json", reverse=True), wrong=5)
    found = compare_runs([first, other], load_config())
    assert np.array_equal(found.runs[0].values, found.runs[1].values)
    assert found.difference(found.runs[1]) == (0.0, (0.0, 0.0))


def test_both_stages_of_a_run_are_compared_with_each_other(
    tmp_path: Path, annotations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write_run(tmp_path / "both", annotations, wrong=3)
    write_run(tmp_path / "tuned", annotations, wrong=0, stage="e2e")
    (tmp_path / "tuned" / "e2e").rename(place / "e2e")
    assert run(["compare", str(place)]) == 0
    assert f"{place}, e2e" in capsys.readouterr().out
    assert "is one result alone" in complaint(["compare", str(place), "--stage", "e2e"], capsys)


def test_runs_on_other_videos_or_actions_are_refused(
    tmp_path: Path, annotations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_run(tmp_path / "first", annotations, wrong=0)
    fewer = write_run(tmp_path / "fewer", write_annotations(tmp_path / "fewer.json", num_videos=10), wrong=0)
    said = complaint(["compare", str(first), str(fewer)], capsys)
    assert "was tested on 12 videos" in said and "on 10" in said and "first alone has v10, v11" in said
    moved = write_run(tmp_path / "moved", write_annotations(tmp_path / "moved.json", shift=0.5), wrong=0)
    assert "were tested on other actions of 12 videos: v00" in complaint(["compare", str(first), str(moved)], capsys)
    nothing = tmp_path / "nothing"
    assert "neither the folder of a run nor a file" in complaint(["compare", str(first), str(nothing)], capsys)
    (first / "detect" / "detections.json").unlink()
    assert "holds no detections of `detect`" in complaint(["compare", str(first), str(fewer)], capsys)


def test_results_that_find_nothing_are_told_as_evaluate_tells_them(
    tmp_path: Path, annotations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_run(tmp_path / "good", annotations, wrong=0) / "detect" / "detections.json"

    def changed(name: str, change: Callable[[dict[str, list[dict]]], object]) -> str:
        tree = json.loads(good.read_text())
        change(tree["results"])
        (tmp_path / name).write_text(json.dumps(tree))
        return str(tmp_path / name)

    def turned(results: dict[str, list[dict]], ids: list[str]) -> None:
        for id in ids:
            for each in results[id]:
                each["segment"].reverse()

    def compared(other: str) -> list[str]:
        return ["compare", str(good), other, "--annotations", str(annotations), "--subset", "validation"]

    reversed_ = changed("reversed.json", lambda results: turned(results, list(results)))
    assert "end before they begin" in complaint(compared(reversed_), capsys)
    drawn = ["plot", "qualitative", reversed_, "--annotations", str(annotations), "--to", str(tmp_path / "x.png")]
    assert "end before they begin" in complaint(drawn, capsys)
    late = changed("late.json", lambda found: [e.update(segment=[9e4, 9e5]) for each in found.values() for e in each])
    assert "begin after their video's end" in complaint(compared(late), capsys)
    one = changed("one.json", lambda results: turned(results, ["v03"]))
    assert run(compared(one)) == 0
    assert (
        f"{one}: Counted as wrong, with its end before its start: 2 detections, in v03 (2)." in capsys.readouterr().out
    )
    few = changed("few.json", lambda results: results.update(foo=results.pop("v03")))
    assert run(compared(few)) == 0
    printed = capsys.readouterr().out
    assert f"{few}: 1 without results, counted as a miss: v03." in printed
    assert f"{few}: 1 video with results, but not in the subset, left out: foo." in printed
    assert run([*compared(few), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert [each["videos_without_results"] for each in found] == [[], ["v03"]]
    assert found[1]["results_of_other_videos"] == ["foo"]


def test_a_threshold_that_stands_twice_is_refused(
    tmp_path: Path, annotations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_run(tmp_path / "good", annotations, wrong=0) / "detect" / "detections.json"
    for command in (["evaluate", str(good)], ["compare", str(good), str(good)]):
        again = [*command, "--annotations", str(annotations), "--subset", "validation"]
        assert "stands twice" in complaint([*again, "--tiou", "0.3,0.5,0.30"], capsys)
        assert "names a threshold twice" in complaint([*again, "--set", "detect.tious=[0.3, 0.3]"], capsys)


def test_videos_that_tell_nothing_of_others_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_annotations(tmp_path / "one.json", num_videos=1)
    places = [str(write_run(tmp_path / name, one, wrong=wrong)) for name, wrong in (("right", 0), ("wrong", 1))]
    assert run(["compare", *places]) == 0
    said = capsys.readouterr().out
    assert "cannot be told" in said and "yes" not in said.split()
    assert "one alone has actions" in " ".join(said.split())
    assert run(["compare", *places, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert [each["interval"] for each in found] == [None, None] and found[1]["difference_interval"] is None

    # Both videos lose the same: no draw differs from another.
    two = write_annotations(tmp_path / "two.json", num_videos=2)
    places = [str(write_run(tmp_path / name, two, wrong=wrong)) for name, wrong in (("all", 0), ("none", 2))]
    assert run(["compare", *places]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "cannot be told" in said and "Every draw gives the same difference" in said
