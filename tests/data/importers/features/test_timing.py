"""Snippets stand where the features' makers say, and annotated durations are compared with that."""

import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.data.importers.features.timing import RescaledTiming, SnippetTiming, note_conflicts, snippet_timing
from etad.data.timeline import strided


def test_snippets_stand_where_extraction_would_have_put_them() -> None:
    timeline = strided(duration_seconds=10, fps=30, clip_frames=16, stride_frames=4)
    timing = SnippetTiming(30, 4, 16).of(timeline.num_snippets, 10.0)
    np.testing.assert_allclose(timing.centers(timeline.num_snippets), timeline.centers_seconds)
    assert timing.num_frames == timeline.num_frames


def test_an_offset_moves_all_snippets() -> None:
    assert SnippetTiming(10, 5, 10, offset_frames=-5).of(3, 2.0).centers(3).tolist() == [0.0, 0.5, 1.0]


def test_a_duration_that_nobody_states_ends_with_the_last_snippet() -> None:
    assert SnippetTiming(50, 25, 50).of(822, None).duration_seconds == 411.5


@pytest.mark.parametrize(("seconds", "fits"), [(411.96, True), (411, True), (412.4, True), (440, False), (206, False)])
def test_durations_fit_but_for_a_stride_and_rounding(seconds: float, fits: bool) -> None:
    assert (SnippetTiming(50, 25, 50).conflict(822, seconds) is None) == fits


def test_a_few_durations_that_do_not_fit_are_a_note_and_many_a_wrong_stride() -> None:
    (note,) = note_conflicts({"a": "x"}, compared=4)
    assert "do not fit the features of a (x)" in note
    with pytest.raises(EtadError, match=r"do not fit it: a \(x\), b \(y\)\. Is it another --fps or --stride"):
        note_conflicts({"a": "x", "b": "y"}, compared=3)
    assert note_conflicts({}, compared=3) == []


def test_resized_features_need_a_duration() -> None:
    with pytest.raises(EtadError, match="its duration must be known"):
        RescaledTiming().of(100, None)
    assert RescaledTiming().of(100, 20.0).centers(100)[-1] == pytest.approx(19.9)


def test_timing_that_is_half_stated_or_stated_twice_is_refused() -> None:
    stated = {"fps": 30.0, "stride_frames": 4.0, "clip_frames": 16, "offset_frames": 0.0, "rescaled": False}
    assert snippet_timing(**stated) == SnippetTiming(30, 4, 16)  # type: ignore[arg-type]
    for change, said in (
        ({"fps": None}, "--fps not given"),
        ({"fps": 0.0}, r"--fps 0\.0: expected a number above 0"),
        ({"stride_frames": float("nan")}, "--stride nan"),
        ({"clip_frames": -1}, "--clip-frames -1"),
        ({"offset_frames": float("inf")}, "--offset inf"),
        ({"rescaled": True}, "--fps does not go with --rescaled"),
    ):
        with pytest.raises(EtadError, match=said):
            snippet_timing(**(stated | change))  # type: ignore[arg-type]
