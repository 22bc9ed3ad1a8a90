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

from etad.data.errors import EtadError
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
