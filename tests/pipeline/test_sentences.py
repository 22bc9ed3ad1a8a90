"""What is wrong with a run's files, the machine or the command line is one sentence, whatever it is."""

import ctypes
import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import miniature
import pytest
from miniature import complaint

from etad.pipeline.cli import main as cli


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A run folder with a cache and annotations, ready to detect."""
    miniature.make(tmp_path)
    return tmp_path


def detect(folder: Path, *sets: str) -> list[str]:
    options = miniature.set_options("detect.training.epochs=1", *sets)
    return ["detect", "-o", str(folder), "--annotations", str(folder / "annotations.json"), *options]


@pytest.mark.slow
def test_damaged_files_of_a_run_are_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(detect(data, "detect.labels.source=classifier")) == 0
    capsys.readouterr()
    again = detect(data, "detect.labels.source=classifier")
    more = detect(data, "detect.labels.source=classifier", "detect.training.epochs=2")
    checkpoint = "detect/checkpoints/last.pt"
    for name, content, arguments, said in [
        ("config.toml", b"\xff\xfe", again, "is no text"),
        ("config.toml", b"a = [", again, "no valid TOML"),
        ("config.toml", b"data = 3", again, "data=3"),
        ("config.toml", b"a." * 3000 + b"a = 1", again, "nested more than 16 levels"),
        (".detect.toml", b"[" * 3000, again, "is nested more than 16 levels"),
        (".detect.toml", b"seed = " + b"1" * 5000, again, "no valid TOML"),
        ("detect/log.jsonl", b"\xff", more, "log.jsonl: line 1 is none of etad's training log"),
        ("detect/log.jsonl", b'{"epoch": 1}\n', more, "log.jsonl: line 1"),
        ("detect/log.jsonl", b'{"epoch": "1"', ["plot", "curves", "-o", str(data)], "log.jsonl: line 1"),
        ("detect/classifier.pt", b"no", again, "classifier.pt: cannot be read as a checkpoint"),
        (checkpoint, b"no", again, "last.pt: cannot be read as a checkpoint"),
    ]:
        path = data / name
        before = path.read_bytes()
        path.write_bytes(content)
        assert said in complaint(arguments, capsys), name
        path.write_bytes(before)
    # What says only whether something is up to date is made again.
    (data / "detect" / "classifier.digest").write_bytes(b"\xff")
    (data / "detect" / "metrics.json").write_bytes(b"\xff")
    assert cli.run(again) == 0
    json.loads((data / "detect" / "metrics.json").read_text())


def test_what_no_config_can_mean_is_refused_at_once(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = ".".join(["a"] * 3000)
    for value, said in [
        (f"{deep}=1", "more than 16 names"),
        ("detect.tious=" + "[" * 3000 + "]" * 3000, "nested more than 16 levels"),
        (f"detect={{{deep}=1}}", "nested more than 16 levels"),
        ("seed=" + "1" * 5000, "seed="),
        ("detect.inference.sigma=1" + "0" * 4000, "detect.inference.sigma="),
        ("detect.inference.sigma=0x" + "f" * 9000, "detect.inference.sigma="),
        ("seed=1\nworkers=3", "seed="),
        ("seed=0x" + "f" * 40, "at most 63 bits"),
        ("detect.tious=[0.5, nan]", "expected a finite number"),
        ("data.videos=~nobody-of-that-name/x", "nobody of that name has a home folder here"),
        ('data.videos="a\\u0000b"', "cannot hold the character NUL"),
    ]:
        assert said in complaint([*detect(data), "--set", value], capsys)[:2000]
    for text, said in [
        (f"[{deep}]", "nested more than 16 levels"),
        ("a = " + "{a=" * 3000 + "1" + "}" * 3000, "nested more than 16 levels"),
        ("seed = " + "1" * 5000, "no valid TOML"),
        ('seed = """' + "[" * 3000 + '"""', "seed="),
    ]:
        (data / "deep.toml").write_text(text)
        assert said in complaint([*detect(data), "-c", str(data / "deep.toml")], capsys)
    assert "neither a preset" in complaint([*detect(data), "-c", "x" * 5000], capsys)
    assert "xxx" in complaint([*detect(data), "--annotations", "x" * 5000], capsys)
    assert "~nobody-of-that-name/x.toml" in complaint([*detect(data), "-c", "~nobody-of-that-name/x.toml"], capsys)
    assert "are no UTF-8 text" in complaint([*detect(data), "-o", "a\udcff"], capsys)
    assert "are no UTF-8 text" in complaint([*detect(data), "--set", "data.test_subset=\ud800"], capsys)


def test_what_a_sentence_quotes_is_not_obeyed_by_the_terminal(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "blocked.txt").write_text("no\x1b[2Jvideo\x07\n")
    said = complaint([*detect(data), "--set", f"data.blocked={data / 'blocked.txt'}"], capsys)
    assert "no\\x1b[2Jvideo\\x07" in said and said.isprintable()


def test_a_long_chain_of_configs_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(40):
        (data / f"{number}.toml").write_text(f'base = "{data / str(number + 1)}.toml"')
    assert "more than 16 configs are based on each other" in complaint(["check", "-c", str(data / "0.toml")], capsys)


def test_an_output_that_cannot_be_written_is_said(data: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "etad", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("etad: the output cannot be written (No space left on device).")
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_who_leaves_ends_a_command_quietly() -> None:
    command = [sys.executable, "-m", "etad", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 0)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "", "/x/y"), "/x/y: cannot be used (Permission denied)"),
        (OSError(errno.EROFS, "", "/x\x1b[2J"), "/x\\x1b[2J: cannot be used (Read-only file system)"),
        (OSError(errno.ENOSPC, ""), "a file: cannot be used (No space left on device)"),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_what_the_system_refuses_is_no_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, data: Path, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("etad.pipeline.stages.inputs.read_data", refused)
    assert said in complaint(detect(data), capsys)


def test_an_error_of_ours_with_no_room_for_its_traceback_still_says_where_it_was(
    monkeypatch: pytest.MonkeyPatch, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("oops")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("etad.pipeline.stages.inputs.read_data", broken)
    monkeypatch.setattr("tempfile.mkdtemp", full)
    assert cli.run(detect(data)) == 70
    said = capsys.readouterr().err
    assert "our own error (ZeroDivisionError: oops)" in said
    assert "test_sentences.py, line" in said and "in broken" in said


def _go_without() -> None:
    """Drop root's right to pass over permissions (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH) before a program begins."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


@pytest.mark.slow
def test_a_run_folder_without_rights_is_named() -> None:
    # Root may write anywhere, unless it goes without that right.
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        miniature.make(folder)
        folder.chmod(0o755)
        environment = {**os.environ, "TQDM_DISABLE": "1", "HOME": place}
        for more, mode, said in [
            ([], 0o555, "cannot be used (Permission denied)"),
            (["--features", str(folder / "features.h5"), "-o", f"{place}/new/run"], 0o555, "cannot be a run folder"),
            ([], 0o000, "is not readable"),
        ]:
            folder.chmod(mode)
            command = [sys.executable, "-m", "etad", *detect(folder), *more]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment, preexec_fn=_go_without
            )
            assert done.returncode == 2, done
            assert said in done.stderr and "Traceback" not in done.stderr, done.stderr
        folder.chmod(0o755)


@pytest.mark.parametrize("size", ["two", "0", "-1", ""])
def test_a_number_of_processes_that_is_none_gets_a_sentence(
    data: Path, size: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    assert f"WORLD_SIZE='{size}' is no number of processes" in complaint(detect(data), capsys)
