"""What a user worked on stays, under another name, where something else is written in its place."""

import logging
from pathlib import Path

import pytest

from etad.data.errors import UnwritableError
from etad.data.files import keep
from etad.data.files.atomic import write_text
from etad.data.files.keep import keeping


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_other_content_is_kept_under_a_name_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "labels.json"
    with caplog.at_level(logging.WARNING):
        for content in ("first", "second", "third", "third"):
            with keeping(place):
                write_text(place, content)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "labels.json": "third",
        "labels.json.before": "first",
        "labels.json.before-2": "second",
    }
    assert [record.message.split(", ")[1] for record in caplog.records] == [
        "which is kept as labels.json.before.",
        "which is kept as labels.json.before-2.",
    ]


def test_a_write_that_fails_leaves_no_copy_and_one_after_it_keeps_it(tmp_path: Path) -> None:
    place = write_text(tmp_path / "labels.json", "mine")
    with pytest.raises(ZeroDivisionError), keeping(place):
        raise ZeroDivisionError
    assert names(tmp_path) == ["labels.json"]
    with pytest.raises(ZeroDivisionError), keeping(place):
        write_text(place, "theirs")
        raise ZeroDivisionError
    assert (tmp_path / "labels.json.before").read_text() == "mine"


def test_a_link_is_replaced_and_its_file_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("mine")
    place = tmp_path / "labels.json"
    place.symlink_to(tmp_path / "mine.json")
    with keeping(place):
        write_text(place, "theirs")
    assert names(tmp_path) == ["labels.json", "mine.json"]
    assert (tmp_path / "mine.json").read_text() == "mine"
    # A link in the copy's place, though it leads nowhere, is not written through either.
    (tmp_path / "labels.json.before").symlink_to(tmp_path / "elsewhere")
    with keeping(place):
        write_text(place, "others")
    assert (tmp_path / "labels.json.before-2").read_text() == "theirs"
    assert not (tmp_path / "elsewhere").exists()


def test_without_room_for_the_copy_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_text(tmp_path / "labels.json", "mine")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keep.shutil, "copyfile", full)
    with pytest.raises(UnwritableError, match="No space left"), keeping(place):
        write_text(place, "theirs")
    assert place.read_text() == "mine"
    assert names(tmp_path) == ["labels.json"]
