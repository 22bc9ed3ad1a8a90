"""Channels are told from snippets by what videos share."""

import pytest

from etad.data.errors import EtadError
from etad.data.importers.features.shapes import channels_of
from etad.data.importers.features.stored import two_axes


def test_transposed_arrays_are_found_by_the_axis_on_which_videos_agree() -> None:
    shapes = {"a": (400, 10), "b": (400, 12), "c": (400, 10)}
    with pytest.raises(EtadError, match=r"stored \[C, T\].*has 400 along its first.*10, 12.*--channels-first"):
        channels_of(shapes, channels_first=False)
    assert channels_of(shapes, channels_first=True) == (400, {})


def test_arrays_that_are_not_transposed_are_found_so() -> None:
    with pytest.raises(EtadError, match=r"they are \[T, C\]. Leave out --channels-first"):
        channels_of({"a": (10, 400), "b": (12, 400)}, channels_first=True)


def test_videos_of_one_shape_are_taken_as_stated() -> None:
    assert channels_of({"a": (100, 400), "b": (100, 400)}, channels_first=False) == (400, {})
    assert channels_of({"a": (100, 400)}, channels_first=True) == (100, {})


def test_few_videos_of_another_number_of_channels_are_named() -> None:
    channels, wrong = channels_of({"a": (9, 4), "b": (8, 4), "c": (7, 5), "d": (4, 6)}, channels_first=False)
    assert channels == 4
    assert wrong["c"] == "has 5 channels, most others have 4"
    assert wrong["d"] == "has 6 channels, most others have 4, and they along its other axis"


def test_videos_that_do_not_agree_are_refused_with_their_shapes() -> None:
    with pytest.raises(EtadError, match=r"different numbers of channels: a \[9, 4\], b \[8, 5\], c \[7, 6\]"):
        channels_of({"a": (9, 4), "b": (8, 5), "c": (7, 6)}, channels_first=False)


@pytest.mark.parametrize("shape", [(3,), (), (2, 3, 4), (0, 3), (3, 0), (1, 2, 3, 4)])
def test_arrays_of_other_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(EtadError, match="expected"):
        two_axes(shape)


def test_axes_of_length_one_are_dropped() -> None:
    assert two_axes((1, 5, 7)) == two_axes((5, 7, 1, 1)) == two_axes((1, 5, 7, 1)) == (5, 7)
    assert two_axes((1, 1, 7)) == (1, 7)
