"""Presentation times in order, and the frame that each moment shows."""

from fractions import Fraction

import numpy as np
import pytest

from etad.data.video.frame_index import FrameIndex, PacketTime, index_by_order, index_by_packets


def test_equal_and_missing_times_still_order_frames() -> None:
    packets = [PacketTime(pts, 1, pts == 0) for pts in (0, 3, 1, 2, 3)]
    assert index_by_packets(packets, tick_seconds=Fraction(1, 10), usual_fps=None).num_frames == 4
    index = index_by_order([None, 2, 1], tick_seconds=Fraction(1, 1000), usual_fps=Fraction(10))
    assert index.in_order and index.fps == 10 and index.duration_seconds == pytest.approx(0.3)
    lone = index_by_packets([PacketTime(5, 0, True)], tick_seconds=Fraction(1, 1000), usual_fps=None)
    assert lone.duration_seconds == pytest.approx(0.04)


def test_frames_before_the_first_key_frame_do_not_count() -> None:
    packets = [PacketTime(pts, 1, pts == 4) for pts in (2, 3, 4, 5)]
    assert index_by_packets(packets, tick_seconds=Fraction(1, 10), usual_fps=None).ticks.tolist() == [4, 5]


@pytest.mark.parametrize("fps", [10, 23.976, 29.97, 60])
def test_rounded_times_neither_skip_nor_repeat_a_frame(fps: float) -> None:
    ticks = np.round(np.arange(2000) * 1000 / fps).astype(np.int64) + 12345
    index = FrameIndex(ticks, ticks[:1], Fraction(1, 1000), 1)
    assert index.shown_at(np.arange(2000) / index.fps).tolist() == list(range(2000))
