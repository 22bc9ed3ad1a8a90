import json
import logging
from pathlib import Path

import pytest

import etad
from etad.pipeline.cli.main import run


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    database = {
        "a": {"subset": "test", "duration": 10, "annotations": [{"segment": [1, 4], "label": "Run"}]},
        "b": {"subset": "test", "duration": 10, "annotations": [{"segment": [2, 6], "label": "Jump"}]},
        "c": {"subset": "train", "duration": 10, "annotations": [{"segment": [2, 6], "label": "Jump"}]},
    }
    results = {
        "v_a": [{"segment": [1, 4], "label": "Run", "score": 0.9}],
        "c": [{"segment": [2, 6], "label": "Jump", "score": 0.9}],
    }
    annotations, detections = tmp_path / "annotations.json", tmp_path / "results.json"
    annotations.write_text(json.dumps({"database": database}))
    detections.write_text(json.dumps({"results": results}))
    return annotations, detections


def test_published_thumos_results_give_the_published_map(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = shared / "detections" / "thumos14_stpn_results.json"
    truth = shared / "annotations" / "thumos14.json"
    status = run(
        ["evaluate", str(results), "--annotations", str(truth), "--subset", "test", "--tiou", "0.3:0.1:0.7", "--json"]
    )
    printed = json.loads(capsys.readouterr().out)
    assert status == 0
    assert [round(100 * value, 1) for value in printed["mAP"].values()] == [34.7, 26.1, 17.7, 10.1, 5.0]
    assert list(printed["mAP"]) == ["0.3", "0.4", "0.5", "0.6", "0.7"]
    assert printed["videos"] == {"asked": 210, "found": 209, "missing": ["video_test_0000664"]}
    assert printed["average_mAP"] == pytest.approx(sum(printed["mAP"].values()) / 5)


def test_missing_videos_are_misses_and_unexpected_ones_are_listed(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, detections = files
    arguments = ["evaluate", str(detections), "--annotations", str(annotations), "--subset", "test", "--tiou", "0.5"]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert "mAP %    50.0    50.0" in out
    assert "1 of 2 annotated videos have results." in out
    assert "1 without results, counted as a miss: b." in out
    assert "1 video with results, but not in the subset, left out: c." in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--subset", "val"], "subset 'val' is empty. Subsets in this file: 'test' (2 videos), 'train' (1 video)"),
        (["--subset", "test", "--tiou", "x"], "--tiou x: expected FIRST:STEP:LAST"),
        (["--subset", "test", "--tiou", "0:0.5:1"], "thresholds lie above 0 and up to 1, and 0 does not"),
        (
            ["--subset", "test", "--tiou", "0,5"],
            "and 0 does not. Decimals take a point",
        ),
        (["--subset", "test", "--tiou", "0.7:0.1:0.3"], "no threshold lies in this range. Write the lowest first"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_status_2(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    annotations, detections = files
    assert run(["evaluate", str(detections), "--annotations", str(annotations), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_unknown_labels_are_named(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    annotations, detections = files
    detections.write_text(json.dumps({"results": {"a": [{"segment": [1, 2], "label": "Runn", "score": 1}]}}))
    assert run(["evaluate", str(detections), "--annotations", str(annotations), "--subset", "test"]) == 2
    err = capsys.readouterr().err
    assert "label 'Runn' is none of the 2 labels" in err
    assert "Did you mean 'Run'?" in err


def test_blocked_videos_are_left_out(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, detections = files
    blocked = tmp_path / "blocked.txt"
    blocked.write_text("v_b\n")
    arguments = ["evaluate", str(detections), "--annotations", str(annotations), "--subset", "test", "--json"]
    assert run([*arguments, "--blocked", str(blocked)]) == 0
    assert json.loads(capsys.readouterr().out)["average_mAP"] == 1.0


@pytest.mark.parametrize(
    ("blocked", "expected"),
    [(False, [75.61, 73.87, 71.13, 55.95, 35.15, 62.34]), (True, [75.56, 73.78, 70.75, 55.75, 35.40, 62.25])],
)
def test_the_public_thumos_annotations_measure_as_the_official_evaluation_does(
    shared: Path, capsys: pytest.CaptureFixture[str], blocked: bool, expected: list[float]
) -> None:
    reports = shared / "reports"
    words = ["--annotations", str(reports / "thumos14_excerpt.json"), "--subset", "test", "--tiou", "0.3:0.1:0.7"]
    words += ["--blocked", str(reports / "blocked5.txt")] if blocked else []
    assert run(["evaluate", str(reports / "thumos14_excerpt_pred.json"), *words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [round(100 * value, 2) for value in (*printed["mAP"].values(), printed["average_mAP"])] == expected
    told = printed.get("actions_outside_their_video", {})
    assert (sum(told.values()), len(told)) == ((0, 0) if blocked else (26, 3))


def test_actions_past_the_end_of_their_video_count_as_annotated_and_are_listed(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, detections = files
    tree = json.loads(annotations.read_text())
    tree["database"]["a"]["duration"] = 0.5
    tree["database"]["b"]["duration"] = 4.9
    annotations.write_text(json.dumps(tree))
    arguments = ["evaluate", str(detections), "--annotations", str(annotations), "--subset", "test", "--tiou", "0.5"]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert "mAP %    50.0    50.0" in out
    assert "2 actions of 2 videos lie past the video's annotated end, counted as annotated: a (1), b (1)." in out


def test_blocked_videos_are_left_out_before_anything_in_them_is_checked(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    annotations, detections = files
    tree = json.loads(annotations.read_text())
    tree["database"]["b"] = {"subset": "test", "duration": "unknown", "annotations": [{"segment": [6, 2]}]}
    annotations.write_text(json.dumps(tree))
    arguments = ["evaluate", str(detections), "--annotations", str(annotations), "--subset", "test"]
    assert run(arguments) == 2
    (tmp_path / "blocked.txt").write_text("v_b\n")
    assert run([*arguments, "--blocked", str(tmp_path / "blocked.txt")]) == 0


def test_what_no_subset_has_and_what_stands_twice_is_said(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    annotations, detections = files
    database = json.loads(annotations.read_text())["database"]
    entries = [f"{json.dumps(id)}: {json.dumps(video)}" for id, video in database.items()]
    lost = json.dumps({"d": {"subset": "test ", "annotations": []}})[1:-1]
    annotations.write_text(f'{{"database": {{{", ".join([*entries, lost, entries[0]])}}}}}')
    with caplog.at_level(logging.WARNING):
        assert run(["evaluate", str(detections), "--annotations", str(annotations), "--subset", "test"]) == 0
    assert caplog.messages == [
        f"{annotations}: 1 id stands twice, and the last entry of each counts: a.",
        f"{annotations}: 1 video in none of the subsets: subset 'test ', did you mean 'test'? (d).",
    ]


def _evaluated(files: tuple[Path, Path], results: object, *options: str) -> list[str]:
    annotations, detections = files
    detections.write_text(json.dumps({"results": results}))
    return ["evaluate", str(detections), "--annotations", str(annotations), "--subset", "test", *options]


def test_segments_alone_are_measured_beside_their_classes(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    # The one segment of `a` bears two labels, the wrong one first; that of `b` a wrong one alone.
    both = [{"segment": [1, 4], "label": label, "score": score} for label, score in (("Jump", 0.9), ("Run", 0.8))]
    results = {"a": both, "b": [{"segment": [2, 6], "label": "Run", "score": 0.7}]}
    assert run(_evaluated(files, results, "--tiou", "0.5", "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["mAP"], printed["localisation_mAP"]) == ({"0.5": 0.5}, {"0.5": 1.0})
    assert run(_evaluated(files, results, "--tiou", "0.5")) == 0
    out = capsys.readouterr().out
    assert "loc. %   100.0   100.0" in out
    assert "mean over tIoU 0.5:0.05:0.95" in out


def test_what_is_undefined_is_null_in_json(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_evaluated(files, {"a": [], "b": []}, "--json")) == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed["AR@AN"]["area"] is None and printed["average_mAP"] == 0
    assert run(_evaluated(files, {"a": [], "b": []})) == 0
    assert "nan" not in capsys.readouterr().out.lower()


_TEN = [{"segment": [0.1, 0.4], "label": "Run", "score": 0.9}] * 10


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"a.mp4": _TEN, "b": []}, "1 id of results carries a file's ending: a.mp4, where the annotations say 'a'"),
        (
            {"a": [{"segment": [4, 1], "label": "Run", "score": 0.9}]},
            "1 of 1 detection end before they begin, such as 4 to 1 of video 'a'. A segment is [start, end]",
        ),
        (
            {"a": [{"segment": [1000, 4000], "label": "Run", "score": 0.9}]},
            "begin after their video's end, such as 1000 to 4000 of video 'a'. Are these milliseconds or frames?",
        ),
        ({"a": _TEN}, "end within the first second of their video. Are these fractions of the video?"),
    ],
)
def test_results_in_another_measure_are_refused(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], results: object, message: str
) -> None:
    assert run(_evaluated(files, results)) == 2
    assert message in capsys.readouterr().err


def test_a_few_misplaced_detections_are_counted(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    segments = ([1, 4], [2, 4], [3, 5], [0, 9], [5, 2], [12, 13])
    entries = [{"segment": segment, "label": "Run", "score": 0.5} for segment in segments]
    assert run(_evaluated(files, {"a": entries})) == 0
    out = capsys.readouterr().out
    assert "Counted as wrong, with its end before its start: 1 detection, in a (1)." in out
    assert "Counted as wrong, after its video's end: 1 detection, in a (1)." in out


def test_actions_annotated_twice_are_kept_or_dropped_and_said_which(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, detections = files
    tree = json.loads(annotations.read_text())
    twice = [[1, 4], [1.0009, 3.9995], [1.0021, 4], [1, 4]]  # the third one is another action
    tree["database"]["a"]["annotations"] = [{"segment": segment, "label": "Run"} for segment in twice]
    annotations.write_text(json.dumps(tree))
    words = ["evaluate", str(detections), "--annotations", str(annotations), "--subset", "test", "--tiou", "0.5"]
    results = {}
    for rule in ("kept", "dropped"):
        assert run([*words, "--json", "--duplicates", rule]) == 0
        results[rule] = json.loads(capsys.readouterr().out)
        assert results[rule]["duplicated_actions"] == {"count": 2, "were": rule}
    assert results["kept"]["per_class"]["Run"] == pytest.approx(1 / 4)
    assert results["dropped"]["per_class"]["Run"] == pytest.approx(1 / 2)
    assert run(words) == 0
    assert "2 actions are annotated twice, counted as official evaluations do" in capsys.readouterr().out
    assert run([*words, "--set", "data.duplicates=dropped"]) == 0
    assert "2 actions are annotated twice, dropped as ActionFormer and OpenTAD do" in capsys.readouterr().out


def test_diagnosis_is_told_written_and_drawn(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, detections = files
    words = ["evaluate", str(detections), "--annotations", str(annotations), "--subset", "test", "--tiou", "0.5"]
    assert run([*words, "--diagnose", "--json", "--pictures", str(tmp_path / "new"), "--format", "svg"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["mAP"] == {"0.5": 0.5}
    assert printed["diagnosis"]["errors"]["missed"]["count"] == {"0.5": 1}
    assert [Path(file).suffix for file in printed["files"]] == [".json", ".svg"]
    assert all(Path(file).match("new/results_*_diagnosis.*") for file in printed["files"])
    assert all(Path(file).exists() for file in printed["files"])
    assert json.loads(Path(printed["files"][0]).read_text()) == printed["diagnosis"]
    assert run([*words, "--format", "svg"]) == 2
    assert "--diagnose" in capsys.readouterr().err


def test_from_python_the_rule_of_duplicates_is_an_argument(files: tuple[Path, Path]) -> None:
    import etad

    annotations, detections = files
    tree = json.loads(annotations.read_text())
    tree["database"]["a"]["annotations"] *= 2
    annotations.write_text(json.dumps(tree))
    found = {
        rule: etad.evaluate(annotations, detections, subset="test", duplicates=rule) for rule in ("kept", "dropped")
    }
    assert found["kept"].per_class["Run"] == pytest.approx(1 / 2)
    assert found["dropped"].per_class["Run"] == pytest.approx(1)


def test_classes_are_told_from_the_best_to_the_worst_and_one_video_has_no_interval(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"a": [{"segment": [1, 4], "label": "Run", "score": 0.9}]}
    assert run(_evaluated(files, found, "--tiou", "0.5")) == 0
    out = capsys.readouterr().out
    assert out.index("Run    100.0") < out.index("Jump     0.0")
    assert "Measured on 2 videos: on others like them, the average mAP would lie between" in out
    tree = json.loads(files[0].read_text())
    tree["database"]["b"]["annotations"] = []
    files[0].write_text(json.dumps(tree))
    assert run(_evaluated(files, found, "--tiou", "0.5")) == 0
    out = capsys.readouterr().out
    assert "Measured on one video with actions: what the mAP would be on others cannot be told." in out
    assert "-----  -----" not in out, "a single class is told as the mAP"
    tree["database"]["b"]["annotations"] = tree["database"]["a"]["annotations"]
    files[0].write_text(json.dumps(tree))
    assert run(_evaluated(files, {**found, "b": found["a"]}, "--tiou", "0.5")) == 0
    assert "of which every draw gives the same average mAP" in capsys.readouterr().out


def test_python_refuses_a_threshold_that_stands_twice(files: tuple[Path, Path]) -> None:
    annotations, detections = files
    assert etad.evaluate(annotations, detections, subset="test", tious=[0.3, 0.9]).tious == (0.3, 0.9)
    with pytest.raises(etad.EtadError, match="a threshold stands twice"):
        etad.evaluate(annotations, detections, subset="test", tious=[0.3, 0.9, 0.3])
