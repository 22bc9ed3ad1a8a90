"""What is doubtful in labels is named, with what is meant to be doubtful in them."""

import pytest

from etad.data.annotations import Action, Video
from etad.pipeline.init.labels import CASE_OR_BLANKS, ONE_LETTER, class_table, doubts, look_alikes


def video(id: str, subset: str, *actions: tuple[float, float, str], duration: float | None = None) -> Video:
    return Video(id, subset, duration, tuple(Action(*action) for action in actions))


@pytest.mark.parametrize(
    ("label", "other", "how"),
    [
        ("Sway", "sway ", CASE_OR_BLANKS),
        ("long jump", "LongJump", CASE_OR_BLANKS),
        ("long_jump", "long jump", CASE_OR_BLANKS),
        ("Straße", "STRASSE", CASE_OR_BLANKS),
        ("caf\u00e9s", "cafe\u0301s", CASE_OR_BLANKS),
        ("walk", "walks", ONE_LETTER),
        ("swinging", "singing", ONE_LETTER),
        ("turning", "turming", ONE_LETTER),
        ("step1", "step2", None),
        ("A", "B", None),
        ("hop", "hip", None),
        ("run fast", "run slow", None),
        ("stand", "standing", None),
    ],
)
def test_labels_that_look_alike_are_named(label: str, other: str, how: str | None) -> None:
    assert [pair.how for pair in look_alikes([label, other])] == ([how] if how else [])
    assert len(look_alikes([label, other, label])) == (1 if how else 0)


def test_each_kind_of_doubt_is_found_and_nothing_else() -> None:
    sound = [
        video("a", "training", (1, 2, "run"), (2, 3, "jump"), duration=10.2),
        video("b", "validation", (1, 2, "run"), (5, 7, "jump")),
    ]
    measured = {"a": 10.0, "b": 10.0}
    assert doubts(sound, measured) == []
    wrong = {
        "are two classes": video("a", "training", (1, 2, "run"), (4, 5, "Run"), (8, 9, "jump")),
        "1 class without an example to train on: jump": video("a", "training", (1, 2, "run")),
        "another duration than labelled: a (20.00 s annotated, 10.00 s measured)": video(
            "a", "training", (1, 2, "run"), (8, 9, "jump"), duration=20.0
        ),
        "1 action dropped as outside the video: a: run 11-12 s": video(
            "a", "training", (1, 2, "run"), (8, 9, "jump"), (11, 12, "run")
        ),
        "1 action dropped empty": video("a", "training", (1, 2, "run"), (8, 9, "jump"), (5, 5, "run")),
        "1 action dropped duplicate": video("a", "training", (1, 2, "run"), (8, 9, "jump"), (1, 2, "run")),
        "1 pair of actions of one class overlap": video("a", "training", (1, 4, "run"), (8, 9, "jump"), (3, 5, "run")),
        "1 pair of actions of two classes overlap": video("a", "training", (1, 4, "run"), (3, 9, "jump")),
    }
    for what, first in wrong.items():
        found = doubts([first, sound[1]], measured)
        if "two classes:" in what or "are two classes" in what:  # the third class is not tested on, either
            assert any(what in doubt.what for doubt in found)
            continue
        assert [what in doubt.what for doubt in found] == [True], (what, found)
        assert found[0].advice
    untested = doubts([sound[0], video("b", "validation", (1, 2, "run"))], measured)
    assert [doubt.is_problem for doubt in untested] == [False]
    assert "1 class without an example to test on: jump" in untested[0].what


def test_counts_and_lengths_of_each_class_stand_in_one_table() -> None:
    rows = class_table(
        [
            video("a", "training", (0, 2, "run"), (4, 8, "run"), (0, 1, "jump")),
            video("b", "training", (0, 3, "run")),
            video("c", "validation", (0, 10, "run")),
        ]
    )
    assert rows == [("jump", 1, 1, 0, 0, 1.0, 1.0, 1.0), ("run", 3, 2, 1, 1, 2.0, 3.5, 10.0)]
