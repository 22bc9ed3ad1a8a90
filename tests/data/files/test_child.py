"""A child process takes the harm that damaged bytes do, and says whose they were."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from etad.data.errors import DiskError
from etad.data.files import child
from etad.data.files.child import fatal_steps


def loop() -> None:
    while True:
        pass


def test_sound_and_merely_wrong_steps_are_not_fatal() -> None:
    assert fatal_steps(lambda: [("sound", lambda: None), ("wrong", lambda: 1 / 0)]) == {}
    assert fatal_steps(lambda: 1 / 0) == {}  # type: ignore[arg-type]


def test_crash_is_named_and_the_steps_behind_it_are_done_all_the_same() -> None:
    steps = [("a", os.abort), ("b", lambda: None), ("c", lambda: os.kill(os.getpid(), signal.SIGSEGV))]
    assert fatal_steps(lambda: steps) == {"a": "ends the process (SIGABRT)", "c": "ends the process (SIGSEGV)"}


def test_hang_is_cut_short_by_the_processor_time_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_STEP_SECONDS", 1)
    start = time.process_time()
    assert fatal_steps(lambda: [("sound", lambda: None), ("hang", loop)]) == {"hang": "never ends"}
    assert time.process_time() - start < 1, "the parent does not wait actively"


def test_slow_disk_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_STEP_SECONDS", 0)  # of processor time; one second is the finest
    assert fatal_steps(lambda: [("slow", lambda: time.sleep(0.3))]) == {}
    monkeypatch.setattr(child, "_SILENCE_SECONDS", 0.1)
    with pytest.raises(DiskError, match="the disk does not answer"):
        fatal_steps(lambda: [("dead", lambda: time.sleep(60))])


def test_step_that_takes_all_memory_is_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_SPARE_BYTES", 2**28)
    steps = [("large", lambda: bytearray(2**40)), ("sound", lambda: bytearray(2**20))]
    assert fatal_steps(lambda: steps) == {"large": "takes more memory than it can need"}


def test_too_many_crashes_count_for_the_whole() -> None:
    steps = [(str(number), os.abort) for number in range(9)]
    found = fatal_steps(lambda: steps, most=2)
    assert set(found) == {"0", "1", ""} and "in many places" in found[""]
    assert fatal_steps(os.abort) == {"": "ends the process (SIGABRT)"}


def test_threads_and_open_files_of_the_parent_do_not_matter(capfd: pytest.CaptureFixture[str]) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    print("written once", end="")
    try:
        before = set(Path("/proc/self/fd").iterdir())
        assert fatal_steps(lambda: [("a", os.abort)])
        assert set(Path("/proc/self/fd").iterdir()) == before
    finally:
        stop.set()
        thread.join()
    out, err = capfd.readouterr()
    assert out == "written once" and err == ""
