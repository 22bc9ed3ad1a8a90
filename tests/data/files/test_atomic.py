"""A reader finds the old file or the whole new one."""

import errno
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etad.data.errors import EtadError, UnwritableError
from etad.data.files.atomic import (
    TEMPORARY_PREFIX,
    is_temporary,
    naming_access,
    open_to_append,
    process_is_alive,
    remove_leftovers,
    replacing,
    write_bytes,
    write_json,
    write_text,
)


def test_file_appears_whole_and_alone(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a.txt").exists()
        assert is_temporary(temporary)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def test_failing_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError, match="half way"), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("ne")
        raise RuntimeError("half way")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_interrupted_block_leaves_no_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_bytes(tmp_path / "run" / "detect" / "raw.bin", b"123")
    assert (tmp_path / "run" / "detect" / "raw.bin").read_bytes() == b"123"


def test_name_of_greatest_length_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), "long")
    assert (tmp_path / ("x" * 255)).read_text() == "long"


def test_link_to_a_folder_is_followed_and_one_to_a_file_replaced(tmp_path: Path) -> None:
    (tmp_path / "large_disk").mkdir()
    (tmp_path / "precious").write_text("old")
    (tmp_path / "run").symlink_to(tmp_path / "large_disk")
    for name, target in (("a.txt", "precious"), ("b.txt", "nowhere"), ("c.txt", "/dev/null")):
        (tmp_path / "large_disk" / name).symlink_to(tmp_path / target)
        write_text(tmp_path / "run" / name, "new")
        written = tmp_path / "large_disk" / name
        assert not written.is_symlink() and written.read_text() == "new"
    assert (tmp_path / "run").is_symlink() and (tmp_path / "precious").read_text() == "old"
    assert not (tmp_path / "nowhere").exists() and Path("/dev/null").is_char_device()


def test_what_the_system_refuses_is_a_sentence_and_tells_itself_from_other_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableError, match=r"a\.txt: this file cannot be written \(No space left on device\)"):
        write_text(tmp_path / "a.txt", "new")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UnwritableError, match=r"b: cannot be used \(No such file"), naming_access(tmp_path):
        (tmp_path / "b").stat()


def test_new_file_has_the_usual_rights(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    write_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == plain.stat().st_mode


def test_place_that_is_a_folder_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(EtadError, match=r"a\.txt: this is no regular file"):
        write_text(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_device_is_never_replaced_by_a_file() -> None:
    with pytest.raises(EtadError, match="no regular file"):
        write_text("/dev/null", "new")
    assert not Path("/dev/null").is_file()


def test_file_in_the_way_of_a_folder_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(EtadError, match="cannot be written"):
        write_text(tmp_path / "run" / "a.txt", "new")


def test_trouble_with_another_file_keeps_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "a.txt"):
        (tmp_path / "elsewhere").read_text()


def test_json_holds_no_nan_and_keeps_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"label": "Größe"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"label": "Größe"}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"mAP": float("nan")})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"label": "Größe"}\n'


def test_killed_writers_file_is_removed_and_a_living_ones_is_kept(tmp_path: Path) -> None:
    script = (
        "import os, sys, signal; from etad.data.files.atomic import replacing\n"
        "with replacing(sys.argv[1]) as path:\n"
        "    path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.txt")], check=False, cwd=tmp_path)
    left = list(tmp_path.iterdir())
    assert len(left) == 1 and is_temporary(left[0])
    with replacing(tmp_path / "b.txt") as temporary:
        temporary.write_text("at work")
        assert remove_leftovers(tmp_path) == left
        assert temporary.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_other_machines_file_is_given_up_after_a_day(tmp_path: Path) -> None:
    other = tmp_path / f"{TEMPORARY_PREFIX}{socket.gethostname()}x-1-00"
    other.write_text("half")
    assert remove_leftovers(tmp_path) == []
    two_days_ago = time.time() - 2 * 86400
    os.utime(other, (two_days_ago, two_days_ago))
    assert remove_leftovers(tmp_path) == [other]


def test_own_process_is_alive() -> None:
    assert process_is_alive(os.getpid())


def test_a_log_is_written_on_at_its_end_and_never_through_a_link(tmp_path: Path) -> None:
    log, elsewhere = tmp_path / "run.log", tmp_path / "elsewhere"
    for word in ("one\n", "two\n"):
        with open_to_append(log) as file:
            file.write(word)
    assert log.read_text() == "one\ntwo\n"
    elsewhere.write_text("kept")
    (tmp_path / "link.log").symlink_to(elsewhere)
    with pytest.raises(EtadError, match=r"link\.log: cannot be written on"):
        open_to_append(tmp_path / "link.log")
    assert elsewhere.read_text() == "kept"
