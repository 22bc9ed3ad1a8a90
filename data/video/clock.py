"""Where the clock of a file restarts, as it does in transport streams that were joined."""

from __future__ import annotations

from fractions import Fraction

import av
from av.format import Flags

# Steps of the clock, in the order of decoding, that only a restart explains, in formats that allow one: as players
# have it.
_LARGEST_STEP_BACK_SECONDS, _LARGEST_STEP_SECONDS = 0.1, 10.0


def is_restart(step_seconds: Fraction) -> bool:
    """Whether a clock that steps so far has restarted."""
    return not -_LARGEST_STEP_BACK_SECONDS <= step_seconds <= _LARGEST_STEP_SECONDS


class Restarts:
    """Follow one stream's packets from the first one on, in their order, and notice each restart of the clock."""

    def __init__(self, form: av.ContainerFormat, tick_seconds: Fraction) -> None:
        self._may_restart = bool(form.flags & int(Flags.ts_discont.value))  # type: ignore[call-overload]
        self._tick_seconds = tick_seconds
        self._last: int | None = None
        self._largest_delay = 0

    def at(self, packet: av.Packet) -> bool:
        """Whether the clock restarts with this packet.

        Before a restart, demuxers may give a packet the time that the next one is shown at: that is mended here.
        """
        if not self._may_restart or packet.dts is None:
            return False
        delay = 0 if packet.pts is None else packet.pts - packet.dts
        if is_restart(delay * self._tick_seconds):
            packet.pts = packet.dts + self._largest_delay
        else:
            self._largest_delay = max(self._largest_delay, delay)
        before, self._last = self._last, packet.dts
        if before is None:
            return False
        return is_restart((packet.dts - before) * self._tick_seconds)
