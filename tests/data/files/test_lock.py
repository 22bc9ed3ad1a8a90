"""A lock names its holder, and a dead holder's lock is taken over."""

import errno
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etad.data.errors import EtadError, UnwritableError
from etad.data.files.lock import holding


def leave_lock(path: Path, **changes: object) -> None:
    holder = {"host": socket.gethostname(), "pid": 1, "since": time.time(), "purpose": "packing"} | changes
    path.write_text(json.dumps(holder))


def test_second_process_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "features.h5.lock"
    with holding(lock, "packing"):
        words = rf"process {os.getpid()} on .* \(packing since .*\) holds this lock"
        with pytest.raises(EtadError, match=words), holding(lock, "repairing"):
            pytest.fail("two held it")
        assert lock.exists()
    assert not lock.exists()
    with holding(lock, "packing"):
        pass


def test_lock_is_freed_when_the_work_fails(tmp_path: Path) -> None:
    lock = tmp_path / "features.h5.lock"
    with pytest.raises(RuntimeError), holding(lock, "packing"):
        raise RuntimeError
    assert not lock.exists()


def test_killed_holders_lock_is_taken_over_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock = tmp_path / "features.h5.lock"
    script = (
        "import os, signal, sys; from pathlib import Path; from etad.data.files.lock import holding\n"
        "with holding(Path(sys.argv[1]), 'packing'):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(lock)], check=False, cwd=tmp_path)
    assert ran.returncode == -signal.SIGKILL and lock.exists()
    with caplog.at_level(logging.WARNING), holding(lock, "packing"):
        pass
    assert "which is gone; taking over" in caplog.text and not lock.exists()


def test_a_granted_lock_decides_whichever_machine_wrote_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock = tmp_path / "features.h5.lock"
    leave_lock(lock, host="node7", pid=4711)  # killed there, queued again here
    with caplog.at_level(logging.WARNING), holding(lock, "packing"):
        pass
    assert "left by process 4711 on node7" in caplog.text and not lock.exists()


def test_on_a_disk_without_locks_another_machines_file_is_respected_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = tmp_path / "features.h5.lock"
    leave_lock(lock, host="node7", pid=4711)
    words = r"process 4711 on node7 .* if it was killed, delete this file"
    with pytest.raises(EtadError, match=words), holding(lock, "packing"):
        pytest.fail("taken from a living holder")
    assert lock.exists()
    leave_lock(lock, host="node7", since=time.time() - 2 * 86400)
    with holding(lock, "packing"):
        pass
    leave_lock(lock, pid=os.getpid())
    with pytest.raises(EtadError, match="may hold this lock"), holding(lock, "packing"):
        pytest.fail("taken from a living holder")


@pytest.mark.parametrize("content", ["", "{}", "[1]", "nonsense", '{"since": "x"}'])
def test_unreadable_lock_of_nobody_is_taken(tmp_path: Path, content: str) -> None:
    lock = tmp_path / "features.h5.lock"
    lock.write_text(content)
    with holding(lock, "packing"):
        pass
    assert not lock.exists()


def test_link_in_the_place_of_a_lock_is_refused_and_not_followed(tmp_path: Path) -> None:
    precious, lock = tmp_path / "precious", tmp_path / "features.h5.lock"
    precious.write_text("old")
    lock.symlink_to(precious)
    with pytest.raises(EtadError, match="this is a link, and a lock is a file of its own"), holding(lock, "packing"):
        pytest.fail("held a link")
    lock.unlink()
    lock.symlink_to(tmp_path / "nowhere")
    with pytest.raises(EtadError, match="this is a link"), holding(lock, "packing"):
        pytest.fail("held a link")
    lock.unlink()
    os.link(precious, lock)  # a second name is no link that could be told: the file is never written to
    with holding(lock, "packing"):
        assert lock.read_text() != "old"
    assert precious.read_text() == "old" and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_place_where_no_lock_can_be_made_is_named(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "open", refuse)
    words = rf"features\.h5\.lock: cannot be used \({os.strerror(code)}\)"
    with pytest.raises(UnwritableError, match=words), holding(tmp_path / "features.h5.lock", "packing"):
        pytest.fail("held nothing")


@pytest.mark.parametrize("has_locks", [True, False])
def test_processes_that_start_at_once_take_turns(tmp_path: Path, has_locks: bool) -> None:
    script = (
        "import errno, fcntl, sys; from pathlib import Path; from etad.data.files.lock import holding\n"
        "def fail(*_): raise OSError(errno.ENOLCK, 'No locks available')\n"
        "if sys.argv[2] == 'False': fcntl.flock = fail\n"
        "count = Path(sys.argv[1]) / 'count'\n"
        "for _ in range(20):\n"
        "    with holding(Path(sys.argv[1]) / 'lock', 'counting', wait_seconds=60):\n"
        "        number = int(count.read_text())\n"
        "        count.write_text(str(number + 1))\n"
    )
    (tmp_path / "count").write_text("0")
    words = [sys.executable, "-c", script, str(tmp_path), str(has_locks)]
    workers = [subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [worker.communicate()[1] for worker in workers] == [""] * 3
    assert (tmp_path / "count").read_text() == "60" and [path.name for path in tmp_path.iterdir()] == ["count"]
