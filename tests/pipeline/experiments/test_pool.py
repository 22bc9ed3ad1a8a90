"""Runs side by side end when the one that started them is asked to, and save where they are."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORK = """
import time
from pathlib import Path

def slow(job):
    Path(job).touch()
    try:
        time.sleep(120)
    except KeyboardInterrupt:
        Path(job + ".saved").touch()
        raise
"""
MAIN = """
import os, sys
from etad.data.interrupts import watching_signals
from etad.pipeline.experiments.pool import pool_of
from work import slow

if __name__ == "__main__":
    try:
        with watching_signals(), pool_of(slow, 2) as pool:
            pool.gather(sys.argv[1:], title="slow")
    except KeyboardInterrupt:
        os._exit(3)  # as the command line does
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_runs_end_with_the_process_that_started_them_and_save(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "main.py").write_text(MAIN)
    jobs = [str(tmp_path / f"job{number}") for number in range(3)]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    with (tmp_path / "told").open("w") as told:
        process = subprocess.Popen([sys.executable, "main.py", *jobs], cwd=tmp_path, env=environment, stderr=told)
    try:
        deadline = time.monotonic() + 60
        while not all(Path(job).exists() for job in jobs[:2]):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(how)  # to this one alone, as `kill` and some batch systems do
        assert process.wait(timeout=30) == (3 if how == signal.SIGTERM else -how)
        while not all(Path(job + ".saved").exists() for job in jobs[:2]):
            assert time.monotonic() < deadline, "runs went on"
            time.sleep(0.1)
    finally:
        process.kill()
    assert not Path(jobs[2]).exists()
    time.sleep(1.0)  # what tidies up after them has the last word
    assert "resource_tracker" not in (tmp_path / "told").read_text()


CHAIN = """
import sys, time
from pathlib import Path
from etad.pipeline.experiments.pool import pool_of
from work import wait_for

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    results = {}
    def done(key, result):
        results[key] = result
        return {"after": (folder, "after", "")} if key == "short" else {}
    jobs = {"long": (folder, "long", "after"), "short": (folder, "short", "")}
    with pool_of(wait_for, 2) as pool:
        pool.work(jobs, done, title="chain", total=3)
    assert results == {"short": "short", "after": "after", "long": "long"}, results
"""
WAIT = """
import time

def wait_for(job):
    folder, name, other = job
    deadline = time.monotonic() + 60
    while other and not (folder / other).exists():
        assert time.monotonic() < deadline, f"{other} was not begun"
        time.sleep(0.05)
    (folder / name).touch()
    return name
"""


def test_a_run_begins_as_soon_as_what_it_comes_after_is_done(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WAIT)
    (tmp_path / "main.py").write_text(CHAIN)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    # The long one ends only once the one after the short one has.
    subprocess.run([sys.executable, "main.py", str(tmp_path)], cwd=tmp_path, env=environment, check=True, timeout=100)


KILLED = """
import sys
from pathlib import Path
from etad.data.errors import EtadError
from etad.pipeline.experiments.pool import pool_of
from work import greedy

if __name__ == "__main__":
    folder, results = Path(sys.argv[1]), {}
    def done(key, result):
        results[key] = result
        return {"after": (folder, "after")} if key == "second" else {}
    jobs = {name: (folder, name) for name in ("first", "greedy", "unlucky", "second")}
    with pool_of(greedy, 2) as pool:
        pool.work(jobs, done, title="killed", total=5, killed=lambda: "killed")
    others = {name: name for name in ("first", "unlucky", "second", "after")}
    assert results == {**others, "greedy": "killed"}, results
    try:
        with pool_of(greedy, 2) as pool:
            pool.work(jobs, done, title="killed", total=5)
    except EtadError as error:
        assert "Ask for fewer at a time with --jobs" in str(error)
    else:
        raise AssertionError("nobody was told")
"""
GREEDY = """
import os, signal, time

def greedy(job):
    folder, name = job
    if name == "greedy":
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "at").mkdir(exist_ok=True)
    lock = folder / "at" / name
    lock.touch(exist_ok=False)  # nobody else is at it
    try:
        if name in ("first", "unlucky") and not (folder / name).exists():
            (folder / name).touch()
            time.sleep(3)  # under way when the other process is killed
    finally:
        try:
            if (folder / name).exists():
                time.sleep(1.5)  # what is asked to end saves
        finally:
            lock.unlink()
    return name
"""


def test_a_run_whose_process_is_killed_is_done_again_alone_and_then_noted_while_all_others_are_done(
    tmp_path: Path,
) -> None:
    (tmp_path / "work.py").write_text(GREEDY)
    (tmp_path / "main.py").write_text(KILLED)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "main.py", str(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, timeout=200, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "and then no more than 1 at a time" in ended.stderr
