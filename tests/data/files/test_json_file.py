"""JSON files are read quickly, and as the standard library would read them."""

import gc
import json
import math
from pathlib import Path

import pytest

from etad.data.errors import EtadError
from etad.data.files.json_file import read_bytes, read_json, repeated_keys, without_collector, write_large_json


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": [1, 2.5, -0.0, 1e-7, 0.1, 123456789.123456789], "b": null, "a\\u00e9": true}',
        '{"a": "é", "a": 2}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-8-sig"),
    ],
    ids=["numbers", "UTF-16", "byte order mark"],
)
def test_content_is_what_the_standard_library_reads(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert read_json(path, what="things") == json.loads(content)


def test_numbers_that_are_none_are_read_for_the_message_that_names_them(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"score": [NaN, -Infinity]}')
    found = read_json(path, what="things")["score"]
    assert math.isnan(found[0]) and found[1] == -math.inf


def test_whole_numbers_of_any_length_are_read_for_the_message_that_names_them(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'{{"a": {"1" * 25}, "b": {"1" * 400}, "c": -{"1" * 20000}, "d": 123456789012345678}}')
    for find_repeats in (False, True):
        found = read_json(path, what="things", find_repeats=find_repeats)
        assert found == {"a": float("1" * 25), "b": math.inf, "c": -math.inf, "d": 123456789012345678}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (r'"\ud800"', "its text"),
        (r'{"a": [1, {"b": "x\udfff"}]}', "a / 1 / b"),
        (r'{"a": {"\udc00\ud800": 1}}', r"a / \\udc00\\ud800"),
    ],
)
def test_half_a_character_is_refused_where_it_stands(tmp_path: Path, content: str, place: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    for find_repeats in (False, True):
        with pytest.raises(EtadError, match=rf"a\.json: half a character \(a lone surrogate\) stands at {place}\."):
            read_json(path, what="things", find_repeats=find_repeats)
    path.write_text(r'"\ud83d\ude00 \\ud800"')
    for find_repeats in (False, True):
        assert read_json(path, what="things", find_repeats=find_repeats) == "\U0001f600 \\ud800"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('{"a": 1,\n "b": }', "line 2, column 7"),
        ('{"a": 1} x', "line 1, column 10"),
        ('[1,\n2,\n"x', "line 3, column 1"),
    ],
)
def test_broken_file_is_told_with_line_and_column(tmp_path: Path, content: str, place: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(EtadError, match=rf"a\.json: is no JSON from {place} on .*, expected things\."):
        read_json(path, what="things")


def test_large_json_keeps_numbers_and_letters(tmp_path: Path) -> None:
    value = {"é": [0.1 + 0.2, 1e-300, 5e-324, 1 / 3, -0.0, 2**53 + 1.0], "n": 2**60, "none": None}
    path = write_large_json(tmp_path / "a.json", value)
    assert json.loads(path.read_text(encoding="utf-8")) == value and path.read_bytes().endswith(b"}\n")


def test_the_collector_comes_back_even_after_a_mistake(tmp_path: Path) -> None:
    assert gc.isenabled()
    with pytest.raises(EtadError):
        read_json(tmp_path / "nowhere.json", what="things")
    with pytest.raises(ZeroDivisionError), without_collector():
        assert not gc.isenabled()
        _ = 1 / 0
    assert gc.isenabled()


def test_keys_that_stand_twice_are_found_on_request_and_the_last_value_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": {"x": 1, "y": 2, "x": 3, "x": 4}, "b": {"x": 1}}')
    found = read_json(path, what="things", find_repeats=True)
    assert found == read_json(path, what="things") == {"a": {"x": 4, "y": 2}, "b": {"x": 1}}
    assert repeated_keys(found["a"]) == ("x",) and repeated_keys(found["b"]) == repeated_keys(found) == ()


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="this system has no /dev/zero")
def test_a_device_that_never_ends_is_refused() -> None:
    with pytest.raises(EtadError, match="is a device, expected a file of annotations"):
        read_bytes(Path("/dev/zero"), what="annotations")
