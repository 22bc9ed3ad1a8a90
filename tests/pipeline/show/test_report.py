"""Tables line up, whatever their cells hold."""

import pytest

from etad.pipeline.show.report import percent, table


def test_numbers_stand_right_and_text_left() -> None:
    text = table([["v_a", 7, "short"], ["v_long", 12000, "no sound"]], heads=["video", "frames", "problem"])
    assert text.splitlines() == [
        "video   frames  problem",
        "------  ------  --------",
        "v_a          7  short",
        "v_long   12000  no sound",
    ]


def test_unknown_numbers_keep_their_column_right() -> None:
    assert table([["0.3", None], ["0.75", 0.123456]], heads=["tIoU", "mAP"]).splitlines()[2:] == [
        " 0.3       -",
        "0.75  0.1235",
    ]


def test_no_rows_no_table() -> None:
    assert table([], heads=["video"]) == ""


def test_control_characters_cannot_steer_the_terminal() -> None:
    text = table([["a\nb", "\x1b[31mred\x1b[0m"]], heads=["video", "problem"])
    assert len(text.splitlines()) == 3 and "\x1b" not in text
    assert "a\\nb" in text and "\\x1b[31mred" in text


def test_wide_letters_line_up() -> None:
    lines = table([["日本", 1], ["abcd", 2]], heads=["video", "n"]).splitlines()
    assert lines[2:] == ["日本   1", "abcd   2"]


@pytest.mark.parametrize("width", [30, 50])
def test_last_column_is_wrapped_under_itself(width: int) -> None:
    sentence = "the file ends in the middle of a frame; copy it again from where it came"
    lines = table([["v_a", sentence], ["v_b", "short"]], heads=["video", "problem"], width=width).splitlines()
    assert all(len(line) <= width for line in lines)
    wrapped = [line for line in lines[2:] if not line.startswith("v_b")]
    assert len(wrapped) > 1 and all(line.startswith("       ") for line in wrapped[1:])
    assert " ".join(line[7:] for line in wrapped) == sentence


def test_narrow_terminal_still_shows_words() -> None:
    text = table([["v" * 40, "a few words that say what is wrong"]], heads=["video", "problem"], width=30)
    assert "that say what" in " ".join(text.split())


def test_fractions_become_per_cent() -> None:
    assert percent(0.378) == "37.80" and percent(1, digits=0) == "100" and percent(None) == "-"
