"""Where features of others stand in time, as their makers say, and whether annotated durations agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...durations import DURATION_SECONDS, DURATION_SHARE
from ...errors import EtadError, counted, listing
from ...timeline import Timing, count_frames

# Durations that contradict the features' timing are a note where few do, and a wrong stride or rate where most do.
_MOST_CONFLICTS = 0.5


@dataclass(frozen=True)
class SnippetTiming:
    """How snippets follow each other: snippet t is made of `clip_frames` frames from offset + t * stride on.

    Parameters
    ----------
    fps
        Frames per second that the other counts are in.
    stride_frames
        From one snippet to the next.
    clip_frames
        Frames of a snippet.
    offset_frames
        First frame of the first snippet.
    """

    fps: float
    stride_frames: float
    clip_frames: int
    offset_frames: float = 0.0

    def spanned_seconds(self, length: int) -> float:
        """End of the last snippet's last frame, in seconds.

        Examples
        --------
        >>> SnippetTiming(fps=10, stride_frames=5, clip_frames=10).spanned_seconds(3)
        2.0
        """
        return (self.offset_frames + (length - 1) * self.stride_frames + self.clip_frames) / self.fps

    def of(self, length: int, duration_seconds: float | None) -> Timing:
        """Timing of a video's features; where nobody states its duration, it ends with its last snippet."""
        duration = self.spanned_seconds(length) if duration_seconds is None else duration_seconds
        return Timing(
            duration_seconds=duration,
            fps=self.fps,
            num_frames=count_frames(duration, self.fps),
            clip_frames=self.clip_frames,
            frame_step=1,
            first_center_seconds=(self.offset_frames + self.clip_frames / 2) / self.fps,
            center_step_seconds=self.stride_frames / self.fps,
        )

    def conflict(self, length: int, duration_seconds: float) -> str | None:
        """Say how a duration contradicts the features' number; None where it does not.

        A last stride may be missing at the end, or be padded.
        """
        stride = self.stride_frames / self.fps
        spanned = self.spanned_seconds(length)
        tolerance = max(DURATION_SECONDS, DURATION_SHARE * duration_seconds) + stride
        fewest, most = spanned - max(self.clip_frames / self.fps, stride), spanned
        if fewest - tolerance <= duration_seconds <= most + tolerance:
            return None
        return f"{counted(length, 'snippet')} end at {spanned:.2f} s, the annotations say {duration_seconds:.2f} s"


@dataclass(frozen=True)
class RescaledTiming:
    """Every video was resized to some number of snippets, which share its whole duration evenly."""

    def of(self, length: int, duration_seconds: float | None) -> Timing:
        """Timing of a video's features.

        Raises
        ------
        EtadError
            Nobody states its duration.

        Examples
        --------
        >>> RescaledTiming().of(100, 50.0).centers(100)[:3].tolist()
        [0.25, 0.75, 1.25]
        """
        if duration_seconds is None:
            raise EtadError(
                "it was resized, so its duration must be known, and the annotations state none; name annotations that "
                "do with --annotations"
            )
        step = duration_seconds / length
        return Timing(
            duration_seconds=duration_seconds,
            fps=length / duration_seconds,
            num_frames=length,
            clip_frames=1,
            frame_step=1,
            first_center_seconds=step / 2,
            center_step_seconds=step,
        )

    def conflict(self, length: int, duration_seconds: float) -> str | None:
        """Nothing contradicts a duration that the timing is made of."""
        return None


def snippet_timing(
    *, fps: float | None, stride_frames: float | None, clip_frames: int | None, offset_frames: float, rescaled: bool
) -> SnippetTiming | RescaledTiming:
    """Choose the timing that is stated.

    Raises
    ------
    EtadError
        Too little is stated, too much, or a number that cannot be.
    """
    given = {"--fps": fps, "--stride": stride_frames, "--clip-frames": clip_frames}
    if rescaled:
        named = [name for name, value in given.items() if value is not None]
        if offset_frames:
            named.append("--offset")
        if named:
            raise EtadError(
                f"{named[0]} does not go with --rescaled: resized snippets share the whole duration evenly. Leave one "
                "of them out."
            )
        return RescaledTiming()
    missing = [name for name, value in given.items() if value is None]
    if fps is None or stride_frames is None or clip_frames is None:
        raise EtadError(
            f"{', '.join(missing)} not given: how many frames a second the features were made from, how many frames "
            "lie between two of them, and how many one is made of. If every video was resized to one number of "
            "snippets, as BMN's 100, say --rescaled instead."
        )
    for name, value in given.items():
        if value is None or not 0 < value < 1e6:
            raise EtadError(f"{name} {value}: expected a number above 0.")
    if not abs(offset_frames) < 1e9:
        raise EtadError(f"--offset {offset_frames}: expected a number of frames.")
    return SnippetTiming(fps, stride_frames, clip_frames, offset_frames)


def note_conflicts(conflicts: Mapping[str, str], *, compared: int) -> list[str]:
    """Word contradictions between durations and timing as a note.

    Parameters
    ----------
    conflicts
        By video.
    compared
        Videos of which a duration is annotated.

    Raises
    ------
    EtadError
        Most videos contradict it: the timing that was stated is wrong, or the annotations are of other videos.
    """
    if not conflicts:
        return []
    named = [f"{id} ({what})" for id, what in conflicts.items()]
    if len(conflicts) > _MOST_CONFLICTS * compared:
        raise EtadError(
            f"of {len(conflicts)} of the {counted(compared, 'video')} that have an annotated duration, the features do "
            f"not fit it: {listing(named, most=3)}. Is it another --fps or --stride, were the features resized "
            "(--rescaled), or are they stored [C, T] (--channels-first)?"
        )
    return [f"durations are the annotations', which do not fit the features of {listing(named, most=5)}"]
