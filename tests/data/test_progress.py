import re

import pytest

from etad.data.progress import progress_bar, step_bar


def test_a_bar_counts_what_passes_through_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar("check", iter("abc"), unit="video", total=3)) == ["a", "b", "c"]
    drawn = capsys.readouterr()
    assert "check: 100%" in drawn.err and "3/3" in drawn.err and drawn.out == ""
    with progress_bar("extract", unit="video", total=2, shown=False) as bar:
        bar.update()
    assert capsys.readouterr().err == ""


def test_a_resumed_trainings_bar_goes_on_at_its_step(capsys: pytest.CaptureFixture[str]) -> None:
    with step_bar("train") as after_step:
        for step in (501, 502):
            after_step(step, 510, 0.25)
        after_step(503, 510, 0.125)
    last = capsys.readouterr().err.splitlines()[-1].split("\r")[-1]
    assert "503/510" in last and "loss 0.125" in last
    with step_bar("pretrain", describe=lambda loss: f"{loss:.0%} right") as after_step:
        after_step(1, 4, 0.5)
    assert re.search(r"1/4 .*50% right", capsys.readouterr().err)
