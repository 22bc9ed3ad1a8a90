"""How many channels features of others have, and whether they are stored [T, C] or [C, T]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ...errors import EtadError, counted, listing

# Videos of another number of channels are left out where at least this share agrees.
_LEAST_AGREEMENT = 0.5


def channels_of(shapes: Mapping[str, tuple[int, int]], *, channels_first: bool) -> tuple[int, dict[str, str]]:
    """Find the number of channels that videos share.

    Parameters
    ----------
    shapes
        By video: its two axes as stored.
    channels_first
        They are [C, T].

    Returns
    -------
    tuple
        Channels C, and by video what is wrong with one that has another number.

    Raises
    ------
    EtadError
        The axes are the other way round, or most videos differ.

    Examples
    --------
    >>> channels_of({"a": (10, 4), "b": (12, 4), "c": (9, 5)}, channels_first=False)
    (4, {'c': 'has 5 channels, most others have 4'})
    """
    axis, other = (0, 1) if channels_first else (1, 0)
    counts, others = (Counter(shape[each] for shape in shapes.values()) for each in (axis, other))
    channels, agreeing = counts.most_common(1)[0]
    if agreeing < len(shapes) and others.most_common(1)[0][1] == len(shapes):
        sizes = listing(map(str, sorted(counts)), most=4)
        common = next(iter(others))
        if channels_first:
            raise EtadError(
                f"every video has {common} along its second axis, and along its first {sizes}: they are [T, C]. Leave "
                "out --channels-first."
            )
        raise EtadError(
            f"the features are stored [C, T], not [T, C]: every video has {common} along its first axis, and along "
            f"its second {sizes}. Say --channels-first."
        )
    if agreeing < _LEAST_AGREEMENT * len(shapes):
        named = [f"{id} {list(shape)}" for id, shape in shapes.items()]
        raise EtadError(
            f"the videos have different numbers of channels: {listing(named, most=4)}; at most "
            f"{counted(agreeing, 'video')} agree. Features of one cache have one number of channels."
        )
    wrong = {}
    for id, shape in shapes.items():
        if shape[axis] != channels:
            turned = ", and they along its other axis" if shape[other] == channels else ""
            wrong[id] = f"has {counted(shape[axis], 'channel')}, most others have {channels}{turned}"
    return channels, wrong
