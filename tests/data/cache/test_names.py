"""Ids become names that stay in their folder, and come back."""

from pathlib import Path

import pytest

from etad.data.cache.names import escape, id_of_part, part_name, unescape
from etad.data.errors import EtadError

IDS = [
    "v_a",
    "a/b",
    "..",
    "...",
    ".hidden",
    "a.b",
    "%",
    "%41",
    "a\0b",
    "\n",
    "Ä",
    "x" * 1000,
    "~a~",
    "A",
    "a",
    "日" * 100,
]


@pytest.mark.parametrize("video_id", IDS)
def test_escaped_id_comes_back_and_is_one_plain_component(video_id: str) -> None:
    name = escape(video_id)
    assert unescape(name) == video_id
    assert name.isascii() and name.isprintable() and "/" not in name and "\\" not in name and name[0] != "."


@pytest.mark.parametrize("video_id", IDS)
def test_part_name_fits_any_file_system_and_tells_its_id(video_id: str) -> None:
    name = part_name(video_id)
    assert len(name) <= 255 and Path(name).name == name and name.endswith(".h5")
    assert id_of_part(Path("features.h5.parts") / name) == (video_id if len(escape(video_id)) <= 180 else None)


def test_names_differ_where_case_does_not_count() -> None:
    assert len({part_name(video_id).lower() for video_id in IDS}) == len(IDS)
    assert part_name("x" * 200 + "a").lower() != part_name("x" * 200 + "A").lower()


@pytest.mark.parametrize("name", ["other.h5", "v_a~00000000.h5", "v_a.h5", "~12345678.h5", "v_a~ffffffff.txt"])
def test_file_of_another_name_is_no_part(name: str) -> None:
    assert id_of_part(Path(name)) is None


@pytest.mark.parametrize("video_id", ["", "\udce9", "x" * 4097])
def test_id_that_cannot_be_a_name_is_refused(video_id: str) -> None:
    with pytest.raises(EtadError, match="video id"):
        escape(video_id)
