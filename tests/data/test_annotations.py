import json
import sys
from pathlib import Path

import pytest

from etad.data.annotations import Action, Annotations, Video, match_ids, read_annotations, read_ids
from etad.data.errors import EtadError


def write(path: Path, database: object) -> Path:
    path.write_text(json.dumps({"database": database}))
    return path


def entry(**changes: object) -> dict[str, object]:
    return {"subset": "training", "duration": 10, "annotations": [{"segment": [1, 2], "label": "Run"}], **changes}


def nested(depth: int) -> list:
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


def test_numbers_may_arrive_as_strings_and_durations_may_be_absent(shared: Path) -> None:
    annotations = read_annotations(shared / "annotations" / "thumos14.json")
    assert len(annotations.subset("training")) == 200
    assert len(annotations.subset("testing")) == 210
    video = annotations.videos["video_test_0000896"]
    assert video.duration_seconds is None
    assert video.actions[0] == Action(18.6, 24.8, "HighJump")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": 0}, "video 'x': duration is 0 s. Expected a positive"),
        ({"duration": -3}, "video 'x': duration is -3 s"),
        ({"duration": "soon"}, "video 'x': duration: expected a number of seconds, found 'soon'"),
        ({"duration": float("nan")}, "expected a finite number"),
        ({"annotations": [{"segment": [3, 2], "label": "Run"}]}, "annotation 1: segment ends at 2 s before it starts"),
        ({"annotations": [{"segment": [3], "label": "Run"}]}, r"expected \"segment\": \[start, end\]"),
        ({"annotations": [{"segment": [1, 2]}]}, 'expected "label": a name, found None'),
        ({"annotations": {}}, '"annotations" is no list'),
        ({"annotations": [{"segment": 10**5000, "label": "Run"}]}, r"expected \"segment\": .* found inf\."),
        ({"duration": 10**5000}, "duration: expected a finite number of seconds, found inf"),
        ({"duration": "9" * 5000}, r"expected a finite number of seconds, found '9+\.\.\.9+'\."),
        ({"annotations": [{"segment": [1, nested(900)], "label": "Run"}]}, r"found \[+\.\.\.\]+\."),
        ({"annotations": [{"segment": [1, 2], "label": list(range(10**5))}]}, r"found \[0, 1, 2, 3, 4, 5, \.\.\.\]"),
    ],
)
def test_a_bad_entry_gets_a_sentence(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    sys.set_int_max_str_digits(0)  # to write what is to be read
    try:
        path = write(tmp_path / "a.json", {"x": entry(**changes)})
    finally:
        sys.set_int_max_str_digits(sys.int_info.default_max_str_digits)
    with pytest.raises(EtadError, match=message) as error:
        read_annotations(path)
    assert str(path) in str(error.value) and len(str(error.value)) < len(str(path)) + 250


def test_segments_past_the_end_of_their_video_are_read_as_annotated(tmp_path: Path) -> None:
    items = [{"segment": [11, 12], "label": "Run"}, {"segment": [1, 11.5], "label": "Run"}]
    annotations = read_annotations(write(tmp_path / "a.json", {"x": entry(annotations=items)}))
    assert annotations.videos["x"].actions == (Action(11, 12, "Run"), Action(1, 11.5, "Run"))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"database": ' * 100_000, '{"database": {"x": ' + "[" * 3000])
def test_deeply_nested_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(EtadError, match=r"a\.json: is nested too deeply for a file of annotations"):
        read_annotations(tmp_path / "a.json")


def test_ids_that_a_terminal_would_obey_are_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"the id 'x\\x1b\[2J' holds a control character") as error:
        read_annotations(write(tmp_path / "a.json", {"x\x1b[2J": entry()}))
    assert "\x1b" not in str(error.value)
    annotations = read_annotations(write(tmp_path / "a.json", {"ビデオ　1": entry(subset="\x1b[2J")}))
    assert "\x1b" not in str(annotations.strays(["training"])[0])


def test_all_videos_with_bad_entries_are_counted_at_once(tmp_path: Path) -> None:
    bad = entry(annotations=[{"segment": [3, 2], "label": "Run"}])
    path = write(tmp_path / "a.json", {"x": entry(), "y": bad, "z": [], "u": entry(duration=-1)})
    with pytest.raises(EtadError, match=r"video 'y', annotation 1: .* So have 2 other videos: z, u\."):
        read_annotations(path)


def test_videos_that_are_left_out_are_not_looked_at(tmp_path: Path) -> None:
    content = json.dumps({"x": entry(), "y": {"annotations": [3, {"label": "Jump"}]}, "z": 3})
    path = tmp_path / "a.json"
    path.write_text(f'{{"database": {content[:-1]}, "y": 5}}}}')
    annotations = read_annotations(path, leave_out=lambda ids: {id for id in ids if id != "x"})
    assert list(annotations.videos) == ["x"] and annotations.repeated == ()
    path.write_text(f'{{"database": {content}}}')
    annotations = read_annotations(path, leave_out=lambda ids: {"y", "z"})
    assert annotations.labels == ("Run",) and annotations.known_labels == {"Jump"}


def test_a_file_that_is_missing_or_no_json_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"there is no such file of annotations"):
        read_annotations(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(EtadError, match="is no JSON from line 1"):
        read_annotations(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(EtadError, match='no "database"'):
        read_annotations(tmp_path / "list.json")


def test_an_empty_subset_lists_those_there_are(tmp_path: Path) -> None:
    annotations = read_annotations(write(tmp_path / "a.json", {"x": entry()}))
    with pytest.raises(EtadError, match=r"subset 'validation' is empty. Subsets in this file: 'training' \(1 video\)"):
        annotations.subset("validation")


def test_videos_in_no_subset_are_told_with_the_name_that_was_probably_meant(tmp_path: Path) -> None:
    missing = entry()
    del missing["subset"]
    database = {
        "fine": entry(),
        "elsewhere": entry(subset="testing"),
        "missing": missing,
        "null": entry(subset=None),
        "misspelt": entry(subset="trianing"),
        "twin": entry(subset="trianing"),
        "blank": entry(subset="training "),
        "apart": entry(subset="fold7"),
        "kind": entry(subset=3),
    }
    annotations = read_annotations(write(tmp_path / "a.json", database))
    strays = annotations.strays(["training", "validation"])
    assert [(stray.subset, stray.nearest, stray.ids, stray.is_mistake) for stray in strays] == [
        ("", "", ("missing", "null"), True),
        ("trianing", "training", ("misspelt", "twin"), True),
        ("training ", "training", ("blank",), True),
        ("fold7", "", ("apart",), False),
        ("3", "", ("kind",), False),
    ]
    assert str(strays[0]) == "2 videos in none of the subsets: no subset stated (missing, null)"
    assert str(strays[2]) == "1 video in none of the subsets: subset 'training ', did you mean 'training'? (blank)"
    assert [stray.subset for stray in annotations.strays(["training", "fold7"])] == ["", "trianing", "training ", "3"]


def test_ids_that_stand_twice_are_told_and_the_last_entry_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    first, last = json.dumps(entry()), json.dumps(entry(duration=20))
    path.write_text(f'{{"database": {{"x": {first}, "y": {first}, "x": {last}, "z": {first}, "z": {first}}}}}')
    annotations = read_annotations(path)
    assert annotations.repeated == ("x", "z")
    assert annotations.videos["x"].duration_seconds == 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"database": {}, "database": {}}', r'a\.json: "database" stands twice. Keep one of them'),
        ('{"database": {"x": {"annotations": [], "annotations": []}}}', "video 'x': \"annotations\" stands twice"),
        (
            '{"database": {"x": {"annotations": [{"label": "a", "label": "b", "segment": [1, 2]}]}}}',
            "video 'x', annotation 1: \"label\" stands twice",
        ),
    ],
)
def test_entries_that_say_twice_what_is_read_of_them_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(EtadError, match=message):
        read_annotations(tmp_path / "a.json")


def test_dropped_labels_leave_their_videos() -> None:
    video = Video("x", "training", 10, (Action(1, 2, "Ambiguous"), Action(3, 4, "Run")))
    annotations = Annotations(Path("a.json"), {"x": video}).without_labels(["Ambiguous"])
    assert annotations.videos["x"].actions == (Action(3, 4, "Run"),) and annotations.known_labels == {"Ambiguous"}


def test_ids_match_exactly_first_then_with_or_without_prefix() -> None:
    assert match_ids(["v_a", "b", "c"], ["v_a", "a", "v_b"], where="cache") == {"v_a": "v_a", "b": "v_b"}


def test_an_ambiguous_id_is_an_error() -> None:
    with pytest.raises(EtadError, match="cache: 'v_a' could be 'v_v_a' or 'a'"):
        match_ids(["v_a"], ["v_v_a", "a"], where="cache")
    with pytest.raises(EtadError, match="cache: 'a' could be 'a' or 'v_a'"):
        match_ids(["v_a", "a"], ["a"], where="cache")


def test_id_lists_pass_over_comments(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\n\n# note\nb # gone\n")
    assert read_ids(tmp_path / "ids.txt") == ["a", "b"]
    with pytest.raises(EtadError, match="cannot read the list of ids"):
        read_ids(tmp_path / "none.txt")
