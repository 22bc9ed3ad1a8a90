import re

import pytest

from etad.data.progress import PartBar, StepBar, progress_bar, redraw_still


def test_a_bar_counts_what_passes_through_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar("check", iter("abc"), unit="video", total=3)) == ["a", "b", "c"]
    drawn = capsys.readouterr()
    assert "check: 100%" in drawn.err and "3/3" in drawn.err and drawn.out == ""
    with progress_bar("extract", unit="video", total=2, shown=False) as bar:
        bar.update()
    assert capsys.readouterr().err == ""


def test_a_resumed_trainings_bar_goes_on_at_its_step(capsys: pytest.CaptureFixture[str]) -> None:
    with StepBar("train", done=500, total=510) as after_step:
        for step in (501, 502):
            after_step(step, 510, 0.25)
        after_step(503, 510, 0.125)
    drawn = capsys.readouterr().err
    assert "500/510" in drawn, "it is there before the first step is done"
    last = drawn.splitlines()[-1].split("\r")[-1]
    assert "503/510" in last and "loss 0.125" in last
    with StepBar("pretrain", done=0, total=4, describe=lambda loss: f"{loss:.0%} right") as after_step:
        after_step(1, 4, 0.5)
    assert re.search(r"1/4 .*50% right", capsys.readouterr().err)


def test_a_bar_moves_within_a_long_item_and_tells_whole_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with PartBar("extract", unit="video", total=2) as bar:
        bar.mininterval = 0
        for share in (0.25, 0.5, 0.1):
            bar.within(share)
        assert bar.n == 0.5, "a video that is read again does not move it back"
        bar.finish_one()
        bar.within(0.5)
    drawn = re.findall(r"extract: +(\d+)%.*?\| (\d)/2", capsys.readouterr().err)
    assert list(dict.fromkeys(drawn)) == [("0", "0"), ("12", "0"), ("25", "0"), ("50", "1"), ("75", "1")]


def test_a_bar_over_nothing_and_one_that_only_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with PartBar("extract", unit="video", total=0):
        pass
    assert list(progress_bar("check", [], unit="video")) == []
    assert capsys.readouterr().err == "", "where there is nothing to do there is nothing to see"
    with PartBar("extract", unit="video", total=3, shown=False) as bar:
        bar.within(0.5)
        bar.finish_one()
        assert bar.whole == 1
    assert capsys.readouterr().err == ""


def test_a_bar_that_nothing_moves_is_drawn_again_so_that_its_clock_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("train", unit="fit", total=1) as bar:
        capsys.readouterr()
        redraw_still(bar.last_print_t + 1)
        assert capsys.readouterr().err == ""
        redraw_still(bar.last_print_t + 5)
        assert "train:   0%" in capsys.readouterr().err
