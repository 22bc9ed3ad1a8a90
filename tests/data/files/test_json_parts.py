"""A large object that is read in parts says what it says when it is read whole, or is refused."""

import json
from typing import Any

import pytest

from etad.data.files import json_parts
from etad.data.files.json_parts import CannotSplit, split


def together(content: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in split(content.encode(), "results"):
        found |= part
    return found


ROW = {"segment": [1, 2.5], "label": "a", "score": 0.5}
MANY: dict[str, Any] = {f"v{number}": [ROW] * (number % 3) for number in range(20)}


@pytest.mark.parametrize("size", [1, 10, 100, 10**6])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "results",
    [
        {},
        {"a": []},
        MANY,
        {"a": [{**ROW, "label": '}], "b": [{'}], "b": [ROW]},
        {"a": [{**ROW, "more": [{"x": [{}]}, {}], "label": "y"}], "b": [{"z": {}}], "c": [ROW, {"z": [{}]}]},
        {'é\\"': [ROW], "]}": [ROW]},
    ],
    ids=["nothing", "no row", "many", "text like a boundary", "nested", "odd ids"],
)
def test_parts_together_are_the_whole(
    monkeypatch: pytest.MonkeyPatch, results: dict[str, Any], indent: int | None, size: int
) -> None:
    monkeypatch.setattr(json_parts, "PART_BYTES", size)
    details = {"used": True, "details": "x", "more": {}}
    for content in ({"version": "1", "external_data": details, "results": results}, {"results": results, "x": details}):
        text = json.dumps(content, indent=indent, ensure_ascii=False)
        try:
            assert together(text) == results
        except CannotSplit:
            # Only what looks like a boundary and is none may stand in the way.
            assert size < 10**6 and ("}], " in text.replace('}], "v', "") or "odd" in text)


def test_many_videos_come_in_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_parts, "PART_BYTES", 10)
    assert len(list(split(json.dumps({"results": MANY}).encode(), "results"))) > 10


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"results": []}',
        '{"results": {"a": [{}]}',
        '{"results": {"a": [{}], "b": [{}}]}}',
        '{"results": {"a": [{}], "b": [{}],}}',
        '{"results": {"a": [{}] "b": [{}]}}',
        '{"external_data": {"results": {}}, "results": {"a": [{}]}}',
        '{"results": {"a": [{}]}, "results": {"b": [{}]}}',
        '{"results": {"a": [{"score": NaN}]}}',
    ],
)
def test_what_is_no_json_or_cannot_be_told_apart_is_refused(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    for size in (1, 10**6):
        monkeypatch.setattr(json_parts, "PART_BYTES", size)
        with pytest.raises(CannotSplit):
            together(content)


def test_text_of_another_encoding_is_refused() -> None:
    with pytest.raises(CannotSplit):
        list(split(json.dumps({"results": MANY}).encode("utf-16"), "results"))
