"""Detections come in and go out in ActivityNet's form, exactly."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etad.data.detections import Detections, read_detections, write_detections
from etad.data.errors import EtadError


def write(path: Path, results: Any) -> Path:
    path.write_text(json.dumps({"version": "x", "external_data": {}, "results": results}))
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {"segment": [1.0, 2.5], "label": "Diving", "score": 0.5} | changes


def test_entries_become_columns(tmp_path: Path) -> None:
    results = {"v_b": [entry(), entry(label="Archery", score="0.25", segment=["3", 4])], "v_a": [], "v_c": [entry(x=1)]}
    found = read_detections(write(tmp_path / "d.json", results))
    assert found.video_ids == ("v_b", "v_a", "v_c") and found.labels == ("Archery", "Diving") and len(found) == 3
    assert found.video.tolist() == [0, 0, 2] and found.label.tolist() == [1, 0, 1]
    assert found.start_seconds.tolist() == [1, 3, 1] and found.end_seconds.tolist() == [2.5, 4, 2.5]
    assert found.score.tolist() == [0.5, 0.25, 0.5] and found.score.dtype == np.float64


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    videos = [(f"v_{n}", rng.random((n, 2)), rng.integers(0, 3, n), rng.random(n)) for n in (3, 0, 2)]
    detections = Detections.join(videos, labels=["a", "b", "c"])
    details = {"used": True, "details": "features"}
    path = write_detections(tmp_path / "d.json", detections, external_data=details)
    back = read_detections(path)
    assert back.video_ids == ("v_3", "v_0", "v_2")
    np.testing.assert_array_equal(back.start_seconds, detections.start_seconds)
    np.testing.assert_array_equal(back.score, detections.score)
    names = [detections.labels[code] for code in detections.label]
    assert [back.labels[code] for code in back.label] == names
    assert json.loads(path.read_text())["external_data"] == details
    assert set(json.loads(path.read_text())) == {"version", "external_data", "results"}


def test_no_detections_at_all_is_a_file_too(tmp_path: Path) -> None:
    for detections in (Detections.join([], labels=[]), read_detections(write(tmp_path / "d.json", {"v_a": []}))):
        back = read_detections(write_detections(tmp_path / "empty.json", detections))
        assert len(back) == 0 and back.start_seconds.shape == back.video.shape == back.label.shape == (0,)


def test_codes_of_another_table_mark_what_it_lacks(tmp_path: Path) -> None:
    found = read_detections(write(tmp_path / "d.json", {"v_b": [entry()], "v_a": [entry(label="Archery")]}))
    assert found.video_codes({"v_a": 7}).tolist() == [-1, 7]
    assert found.label_codes({"Diving": 4}).tolist() == [4, -1]


def test_unlabelled_proposals_are_read(tmp_path: Path) -> None:
    proposals = {"v_a": [{"segment": [0, 1], "score": 0.5}]}
    found = read_detections(write(tmp_path / "d.json", proposals))
    assert found.labels == () and found.label.tolist() == [-1] and found.label_codes({"a": 0}).tolist() == [-1]
    assert "label" not in json.loads(write_detections(tmp_path / "e.json", found).read_text())["results"]["v_a"][0]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry(score=float("nan")), "its score is nan, expected a finite number"),
        (entry(score=None), "its score is None"),
        (entry(score=[1, 2]), r"its score is \[1, 2\]"),
        (entry(score="high"), "its score is 'high'"),
        (entry(score=float("inf")), "its score is inf"),
        (entry(segment=[1]), r"its segment is \[1\], expected two finite numbers"),
        (entry(segment=[1, 2, 3]), r"its segment is \[1, 2, 3\]"),
        (entry(segment=[1, "x"]), r"its segment is \[1, 'x'\]"),
        (entry(segment=None), "its segment is None"),
        (entry(segment="12"), "its segment is '12'"),
        (entry(segment=[None, 1]), r"its segment is \[None, 1\]"),
        (entry(segment={"start": 1}), "its segment is {'start': 1}"),
        (entry(segment=[0, float("nan")]), "its segment is"),
        (entry(label=3), "its label is 3, expected text"),
        (entry(label=None), "its label is None"),
        (entry(label=["a"]), r"its label is \['a'\]"),
        ({"segment": [1, 2], "score": 1}, "it has no label"),
        ({"label": "a", "score": 1}, "it has no segment"),
        ({"label": "a", "segment": [1, 2]}, "it has no score"),
        ("text", "it is a str, expected segment, label and score"),
        (None, "it is a NoneType"),
        ([1, 2], "it is a list"),
        (entry(score=10**400), "its score is inf, expected a finite number"),
        (entry(segment=[1, -(10**400)]), r"its segment is \[1, -inf\]"),
        (entry(score=[[[[[[[[[]]]]]]]]]), r"its score is \[+\.\.\.\]+"),
    ],
)
@pytest.mark.parametrize("beside", [[entry()], []])
def test_malformed_entry_is_named(tmp_path: Path, bad: Any, message: str, beside: list[Any]) -> None:
    path = write(tmp_path / "d.json", {"v_a": [entry()], "v_b": [*beside, bad]})
    words = rf"d\.json: video 'v_b', entry {len(beside)} \(counted from 0\): {message}"
    with pytest.raises(EtadError, match=words):
        read_detections(path)


def test_ids_and_labels_that_nothing_can_show_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"the id 'v\\x1b\[2J' holds a control character"):
        read_detections(write(tmp_path / "d.json", {"v\x1b[2J": [entry()]}))
    for results in ({"v\ud800": [entry()]}, {"v": [entry(label="a\udfff")]}):
        with pytest.raises(EtadError, match=r"d\.json: half a character .* stands at results / v"):
            read_detections(write(tmp_path / "d.json", results))


def test_ids_that_stand_twice_are_told_and_the_last_one_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, rows = tmp_path / "d.json", json.dumps([entry()])
    path.write_text(f'{{"results": {{"a": {rows}, "b": {rows}, "a": [], "b": {rows}, "c": {rows}}}}}')
    with caplog.at_level(logging.WARNING):
        found = read_detections(path)
    assert [found.video_ids[code] for code in found.video] == ["b", "c"]
    assert caplog.messages == [f"{path}: 2 ids stand twice, and the last entry of each counts: a, b."]


def test_a_label_of_the_name_of_a_key_is_nothing_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(read_detections(write(tmp_path / "d.json", {"a": [entry(label="segment")]}))) == 1
    assert not caplog.messages


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"results": {"a": [ENTRY]}, "results": {}}', '"results" stands twice'),
        (
            '{"results": {"a": [ENTRY, {"segment": [1, 2], "segment": [3, 4], "score": 1, "label": "x"}]}}',
            r"video 'a', entry 1 \(counted from 0\): \"segment\" stands twice",
        ),
    ],
)
def test_a_file_that_says_twice_what_is_read_of_it_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "d.json").write_text(content.replace("ENTRY", json.dumps(entry())))
    with pytest.raises(EtadError, match=message):
        read_detections(tmp_path / "d.json")


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    for content, message in [
        ("", "is no JSON from line 1"),
        ('{"results": {"v_a": [', "is no JSON from line 1, column 22"),
        ("[]", "has no 'results' by video"),
        ('{"results": []}', "has no 'results' by video"),
        ('{"database": {}}', "This looks like an annotation file"),
        ('{"results": {"v_a": {}}}', "results of video 'v_a' are a dict, expected a list"),
        ("[" * 100000, "nested too deeply"),
    ]:
        path.write_text(content)
        with pytest.raises(EtadError, match=message):
            read_detections(path)
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(EtadError, match=r"d\.json: is no "):
        read_detections(path)
    with pytest.raises(EtadError, match="there is no such file of detections"):
        read_detections(tmp_path / "nowhere.json")
    with pytest.raises(EtadError, match="cannot be read"):
        read_detections(tmp_path)


def test_real_results_are_read(shared: Path) -> None:
    sample = read_detections(shared / "detections" / "activitynet_sample_detection_prediction.json")
    assert len(sample.video_ids) == 4926 and len(sample.labels) == 200
    stpn = read_detections(shared / "detections" / "thumos14_stpn_results.json")
    content = json.loads((shared / "detections" / "thumos14_stpn_results.json").read_text())["results"]
    assert len(stpn) == sum(map(len, content.values()))
    first = content[stpn.video_ids[0]][0]
    assert [stpn.start_seconds[0], stpn.end_seconds[0]] == first["segment"]
    assert stpn.labels[stpn.label[0]] == first["label"] and stpn.score[0] == first["score"]


def test_rows_in_any_order_and_without_label_are_written(tmp_path: Path) -> None:
    mixed = Detections(
        video_ids=("v_a", "v_b", "v_c"),
        labels=("Diving", "Archery"),
        video=np.array([2, 0, 2]),
        label=np.array([1, -1, 0]),
        start_seconds=np.array([1.0, 2.0, 3.0]),
        end_seconds=np.array([2.0, 3.0, 4.0]),
        score=np.array([0.1, 0.2, 0.3]),
    )
    written = json.loads(write_detections(tmp_path / "d.json", mixed).read_text())["results"]
    assert written["v_a"] == [{"segment": [2.0, 3.0], "score": 0.2}] and written["v_b"] == []
    assert [(entry["label"], entry["score"]) for entry in written["v_c"]] == [("Archery", 0.1), ("Diving", 0.3)]


def test_numbers_that_json_has_not_are_not_written(tmp_path: Path) -> None:
    bad = Detections.join([("v_a", np.array([[0.0, np.nan]]), np.array([0]), np.array([0.5]))], labels=["a"])
    with pytest.raises(ValueError, match="not finite"):
        write_detections(tmp_path / "d.json", bad)
    assert not (tmp_path / "d.json").exists()


def test_rows_of_a_video_are_found_wherever_they_stand() -> None:
    video = np.array([1, 0, 1, 3, 1])
    zeros = np.zeros(5)
    found = Detections(("a", "b", "c", "d"), (), video, np.full(5, -1), zeros, zeros + 1, zeros)
    assert {id: found.rows_of(id).tolist() for id in found.video_ids} == {"a": [1], "b": [0, 2, 4], "c": [], "d": [3]}
    with pytest.raises(KeyError):
        found.rows_of("e")
