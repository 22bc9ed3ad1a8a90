from pathlib import Path

import pytest

from etad.data.errors import EtadError
from etad.extract.clips import Failure
from etad.pipeline.cli.result import print_result
from etad.pipeline.stages.result import StageNotes, StageResult


def test_a_video_that_failed_or_is_missing_is_told_and_changes_the_exit_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = StageResult(Path("run"), notes=("weights: random",), summary="3 videos extracted")
    assert whole.left_out == () and print_result(whole, whole.summary, "") == 0
    assert capsys.readouterr().out == "weights: random\n3 videos extracted\n"
    failure = Failure("b", Path("videos/b.mp4"), "no video stream")
    part = StageResult(Path("run"), failed=(failure,), missing=("c", "b"))
    assert part.left_out == ("b", "c") and print_result(part, "done") == 1
    printed = capsys.readouterr().out.splitlines()
    assert "b.mp4" in printed[-2] and "no video stream" in printed[-2] and printed[-1] == "done"
    assert print_result(StageResult(Path("run"), missing=("c",))) == 1


def test_where_nothing_was_measured_the_last_note_says_why() -> None:
    notes = StageNotes(Path("runs/one/detect"))
    notes.lines += ["training skipped", "no evaluation: no video of subset 'test' has an action"]
    found = notes.result(None)
    assert found.path == notes.folder and found.summary == ""
    with pytest.raises(EtadError, match=r"one/detect: nothing was measured: no evaluation: no video of subset 'test'"):
        found.measured()
