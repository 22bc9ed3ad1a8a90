"""Under torchrun, the report that ends a failed job ends in our own sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from etad.data.errors import EtadError, OthersEndedError
from etad.pipeline.cli import main as cli


def failure(rank: int, error_file: Path, status: int = 2) -> ProcessFailure:
    return ProcessFailure(local_rank=rank, pid=1, exitcode=status, error_file=str(error_file))


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["detect", "-o", "run", "--annotations", "nothere.json"], 2, "nothere.json: there is no such file"),
        (["detekt"], 2, "there is no command 'detekt'"),
    ],
)
def test_the_report_of_torchrun_ends_in_the_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "error.json")
    assert cli.run(words) == status
    last = str(ChildFailedError("etad", {0: failure(0, tmp_path / "error.json")})).splitlines()[-2]
    assert sentence in last and "traceback : etad: " in last


def test_an_item_that_failed_is_pointed_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.setattr(cli.cli, "main", lambda **_: cli.WITH_FAILURES)
    assert cli.run([]) == cli.WITH_FAILURES
    assert "what failed stands above" in str(ChildFailedError("etad", {0: failure(0, tmp_path / "error.json", 1)}))


def test_the_process_that_made_the_mistake_is_the_cause_and_not_those_that_it_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = {}
    for rank, error in enumerate([OthersEndedError("another process has ended"), EtadError("a wrong input")]):

        def fail(error: EtadError = error, **_: object) -> None:
            raise error

        monkeypatch.setattr(cli.cli, "main", fail)
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / f"{rank}.json"))
        assert cli.run([]) == cli.USER_MISTAKE
        failures[rank] = failure(rank, tmp_path / f"{rank}.json")
    assert "a wrong input" in str(ChildFailedError("etad", failures)).splitlines()[-2]


def test_without_torchrun_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    assert cli.run(["detekt"]) == 2
    assert not list(tmp_path.iterdir())
