"""Three forms of video-level class scores are read, and nothing that only looks like them."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etad.data.class_scores import UCF101_LABELS, ClassScores, read_class_scores, write_class_scores
from etad.data.errors import EtadError


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def small(path: Path) -> ClassScores:
    return read_class_scores(
        write(path, {"labels": ["a", "b", "c"], "scores": {"v_x": [0.1, 0.6, 0.3], "y": [1, 0, 0]}})
    )


def test_our_own_form_comes_back(tmp_path: Path) -> None:
    scores = {"v_x": np.array([0.25, 1 / 3]), "v_y": np.array([0.0, 1.0])}
    back = read_class_scores(write_class_scores(tmp_path / "s.json", ["a", "b"], scores))
    assert back.labels == ("a", "b") and set(back.scores) == {"v_x", "v_y"}
    np.testing.assert_array_equal(back.of("v_x"), scores["v_x"])


def test_cuhk_form_is_read(tmp_path: Path) -> None:
    content = {"class": ["Archery", "Diving"], "results": {"--abc": [0.1, 0.9]}}
    found = read_class_scores(write(tmp_path / "cuhk_val.json", content))
    assert found.labels == ("Archery", "Diving") and found.top("--abc", 1) == [("Diving", 0.9)]


def test_top_is_sorted_and_ties_keep_the_order_of_labels(tmp_path: Path) -> None:
    found = small(tmp_path / "s.json")
    assert found.top("v_x", 2) == [("b", 0.6), ("c", 0.3)]
    assert found.top("y", 9) == [("a", 1.0), ("b", 0.0), ("c", 0.0)]


def test_scores_can_be_put_in_order_for_a_data_set(tmp_path: Path) -> None:
    aligned = small(tmp_path / "s.json").aligned(["c", "a"], ["x", "v_y"])
    assert (
        aligned.labels == ("c", "a") and aligned.of("x").tolist() == [0.3, 0.1] and aligned.of("v_y").tolist() == [0, 1]
    )
    with pytest.raises(EtadError, match=r"has no class 'bb' \(missing: 1 of 2 labels\)\. Did you mean 'b'\?"):
        small(tmp_path / "s.json").aligned(["a", "bb"], [])
    with pytest.raises(EtadError, match=r"no class scores of 1 of 2 videos: v_z\."):
        small(tmp_path / "s.json").aligned(["a"], ["x", "v_z"])
    with pytest.raises(EtadError, match=r"no class scores of video 'v_xx'\. Did you mean 'v_x'\?"):
        small(tmp_path / "s.json").of("v_xx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "has a list, expected 'labels' and 'scores'"),
        ({"scores": {}}, "has keys 'scores', expected"),
        ({"labels": "abc", "scores": {}}, "'labels' is no list of label names"),
        ({"labels": [], "scores": {}}, "'labels' is no list of label names"),
        ({"labels": ["a", "b", "a"], "scores": {}}, "label 'a' stands twice"),
        ({"labels": ["a"], "scores": [[1]]}, "'scores' is a list, expected scores by video id"),
        (
            {"labels": ["a", "b"], "scores": {"v": [1]}},
            r"'v' has scores of shape \[1\], expected one for each of 2",
        ),
        ({"labels": ["a"], "scores": {"v": ["x"]}}, "scores of video 'v' are no list of numbers"),
        ({"labels": ["a"], "scores": {"v": {"a": 1}}}, "scores of video 'v' are no list of numbers"),
        ({"labels": ["a", "b"], "scores": {"v": [[1], [1, 2]]}}, "scores of video 'v' are no list of numbers"),
        ({"labels": ["a", "b"], "scores": {"v": [1, float("nan")]}}, "video 'v' has score nan for class 'b'"),
        ({"labels": ["a", "b"], "scores": {"v": [-0.5, 1]}}, "video 'v' has score -0.5 for class 'a'"),
    ],
)
def test_malformed_scores_are_one_sentence(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(EtadError, match=message):
        read_class_scores(write(tmp_path / "s.json", content))


def test_arrays_of_other_forms_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npy"
    for table, message in [
        (np.zeros((3, 20)), r"is an array \[3, 20\] of float64, expected numbers with a row for each THUMOS-14"),
        (np.zeros(101), r"is an array \[101\]"),
        (np.full((1, 101), "x"), "expected numbers"),
        (np.full((2, 101), np.nan), "video 'video_test_0000001' has score nan for class 'ApplyEyeMakeup'"),
    ]:
        np.save(path, table)
        with pytest.raises(EtadError, match=message):
            read_class_scores(path)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(EtadError, match="cannot be read as an array of numbers"):
        read_class_scores(path)
    path.write_bytes(b"")
    with pytest.raises(EtadError, match="cannot be read as an array of numbers"):
        read_class_scores(path)
    with pytest.raises(EtadError, match="there is no such file"):
        read_class_scores(tmp_path / "nowhere.npy")


def test_ucf101_has_its_classes_in_order() -> None:
    assert len(UCF101_LABELS) == len(set(UCF101_LABELS)) == 101
    assert list(UCF101_LABELS) == sorted(UCF101_LABELS, key=str.lower)


def test_real_scores_recognise_thumos_test_videos(shared: Path) -> None:
    found = read_class_scores(shared / "detections" / "thumos14_untrimmednet_video_scores.npy")
    assert len(found.scores) == 1574
    database = json.loads((shared / "annotations" / "thumos14.json").read_text())["database"]
    truth = {
        video_id: {action["label"] for action in video["annotations"]}
        for video_id, video in database.items()
        if video["subset"] == "test"
    }
    labels = sorted(set().union(*truth.values()))
    assert len(labels) == 20
    aligned = found.aligned(labels, list(truth))
    right = [aligned.top(video_id, 1)[0][0] in actions for video_id, actions in truth.items()]
    assert np.mean(right) > 0.8, f"top-1 accuracy is {np.mean(right):.3f}"
    among_all = [found.top(video_id, 1)[0][0] in actions for video_id, actions in truth.items()]
    assert np.mean(among_all) > 0.7, f"top-1 accuracy among all 101 classes is {np.mean(among_all):.3f}"


def test_ids_that_stand_twice_are_told_and_the_last_one_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"labels": ["a", "b"], "scores": {"x": [0, 1], "x": [1, 0]}}')
    with caplog.at_level(logging.WARNING):
        assert read_class_scores(path).of("x").tolist() == [1, 0]
    assert caplog.messages == [f"{path}: 1 id stands twice, and the last entry of each counts: x."]
    path.write_text('{"labels": ["a", "b"], "scores": {"x": [0, 1]}, "scores": {}}')
    with pytest.raises(EtadError, match='"scores" stands twice'):
        read_class_scores(path)


@pytest.mark.parametrize("value", ["1" + "0" * 400, "1" * 5000, "[" * 900 + "]" * 900, '{"a": 1}', "null", '"\\ud800"'])
def test_scores_that_no_array_holds_get_a_sentence(tmp_path: Path, value: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(f'{{"labels": ["a", "b"], "scores": {{"x": [0.5, {value}]}}}}')
    with pytest.raises(
        EtadError, match=r"s\.json: (video 'x' has score|scores of video 'x' are no list|half a char|is n)"
    ):
        read_class_scores(path)
    path.write_text('{"labels": ["a", "b"], "scores": {"x\\u0007": [0.5, 0.5]}}')
    with pytest.raises(EtadError, match=r"the id 'x\\x07' holds a control character"):
        read_class_scores(path)


def test_archives_and_headers_that_promise_too_much_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npy"
    with path.open("wb") as file:
        np.savez(file, scores=np.zeros((2, 101)))
    with pytest.raises(EtadError, match=r"s\.npy: is an archive of arrays \(\.npz: scores\), expected one array"):
        read_class_scores(path)
    for shape in ("(1000000000000, 101)", "(-5, 101)", "(10**30, 101)", "(2.5, 101)", "'x'", "(" + "1, " * 80 + ")"):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(808))
        with pytest.raises(EtadError, match=r"s\.npy: (cannot be read as|is) an array"):
            read_class_scores(path)
    whole = np.zeros((3, 101))
    np.save(path, whole)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(EtadError, match="cannot be read as an array"):
        read_class_scores(path)
