"""What is known about one video's features: when, by which encoder, from which file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ... import __version__
from ..errors import EtadError, counted
from ..timeline import READING_RULES, Timing

_TIMING_FLOATS = ("duration_seconds", "fps", "first_center_seconds", "center_step_seconds")
_TIMING_COUNTS = ("num_frames", "clip_frames", "frame_step")
# Absent from caches of older versions, which then have these.
_LATER_COUNTS = {"reading_rules": 1, "lost_frames": 0, "source_modified_ns": 0}
_TEXTS = ("encoder", "weights_sha256", "source_name", "source_sha256", "compute_dtype", "etad_version")


@dataclass(frozen=True)
class FeatureMeta:
    """Everything that is stored beside the features of one video.

    Parameters
    ----------
    timing
        Where the snippets stand.
    encoder
        Name of the encoder.
    weights_sha256
        Digest of its weights; a word such as `random` where there is no file.
    transform
        What was done to the frames, as JSON can hold it: size, crop, clip length, edges.
    source_name, source_bytes, source_sha256
        The video file: its name without folders, its size, its digest.
    compute_dtype
        dtype that the encoder computed in.
    etad_version
        Which etad wrote it.
    reading_rules
        Version of the rules by which the file was read into frames and times.
    lost_frames
        Frames that could not be decoded, or not rightly.
    source_modified_ns
        When the file was written last, by its disk; 0: unknown.
    """

    timing: Timing
    encoder: str
    weights_sha256: str
    transform: Mapping[str, Any]
    source_name: str
    source_bytes: int
    source_sha256: str
    compute_dtype: str
    etad_version: str = __version__
    reading_rules: int = READING_RULES
    lost_frames: int = 0
    source_modified_ns: int = 0

    @property
    def is_imported(self) -> bool:
        """Whether somebody else made the features: nothing is known of how their frames were read."""
        return "imported" in self.transform

    @property
    def transform_json(self) -> str:
        return json.dumps(self.transform, sort_keys=True, ensure_ascii=False)

    def check(self, num_snippets: int) -> None:
        """Refuse a timing that cannot belong to `num_snippets` snippets.

        Raises
        ------
        EtadError
            A time is not finite, a count not positive, or the centres are too many, too few or far outside the video.
        """
        timing = self.timing
        for name in _TIMING_FLOATS:
            if not math.isfinite(getattr(timing, name)):
                raise EtadError(f"{name} is {getattr(timing, name)}, expected a finite number")
        for name in ("duration_seconds", "fps", *_TIMING_COUNTS):
            if getattr(timing, name) <= 0:
                raise EtadError(f"{name} is {getattr(timing, name)}, expected more than 0")
        if timing.centers_seconds is not None:
            if len(timing.centers_seconds) != num_snippets:
                listed = counted(len(timing.centers_seconds), "snippet centre")
                raise EtadError(f"{listed} listed for {counted(num_snippets, 'snippet')}")
            if not np.isfinite(timing.centers_seconds).all():
                raise EtadError("a listed snippet centre is not finite")
        # A clip may reach over either end of its video, its centre by no more than a clip.
        clip_seconds = timing.clip_frames * timing.frame_step / timing.fps
        centers = timing.centers(num_snippets)
        if centers.min() < -clip_seconds or centers.max() > timing.duration_seconds + clip_seconds:
            raise EtadError(
                f"its snippets stand between {centers.min():.3f} s and {centers.max():.3f} s, but the video lasts "
                f"{timing.duration_seconds:.3f} s"
            )

    def to_attributes(self) -> dict[str, Any]:
        """All but the listed centres, as attributes of an HDF5 group."""
        values = {name: float(getattr(self.timing, name)) for name in _TIMING_FLOATS}
        counts = {name: int(getattr(self.timing, name)) for name in _TIMING_COUNTS}
        counts |= {name: int(getattr(self, name)) for name in _LATER_COUNTS}
        texts = {name: str(getattr(self, name)) for name in _TEXTS}
        return {**values, **counts, **texts, "source_bytes": int(self.source_bytes), "transform": self.transform_json}

    @classmethod
    def from_attributes(cls, found: Mapping[str, Any], centers_seconds: np.ndarray | None) -> FeatureMeta:
        """Undo `to_attributes`.

        Raises
        ------
        EtadError
            An attribute is missing or of the wrong type; the message names the attribute alone.
        """

        def take(name: str, kind: type) -> Any:
            if name not in found:
                raise EtadError(f"attribute '{name}' is missing")
            value = found[name]
            try:
                return kind(value.decode() if isinstance(value, bytes) else value)
            except (TypeError, ValueError, OverflowError) as error:
                raise EtadError(f"attribute '{name}' is {value!r}, expected a {kind.__name__}") from error

        timing = Timing(
            **{name: take(name, float) for name in _TIMING_FLOATS},
            **{name: take(name, int) for name in _TIMING_COUNTS},
            centers_seconds=None if centers_seconds is None else tuple(centers_seconds.tolist()),
        )
        try:
            transform = json.loads(take("transform", str))
        except json.JSONDecodeError as error:
            raise EtadError("attribute 'transform' is no JSON") from error
        rest: dict[str, Any] = {name: take(name, str) for name in _TEXTS}
        rest |= {name: take(name, int) if name in found else value for name, value in _LATER_COUNTS.items()}
        return cls(timing=timing, transform=transform, source_bytes=take("source_bytes", int), **rest)


@dataclass(frozen=True)
class Kind:
    """What all features of one cache must share, since a detector reads them as one."""

    encoder: str
    weights_sha256: str
    transform: str
    compute_dtype: str
    clip_frames: int
    frame_step: int
    store_dtype: str
    channels: int

    @classmethod
    def of(cls, meta: FeatureMeta, *, store_dtype: str, channels: int) -> Kind:
        return cls(
            encoder=meta.encoder,
            weights_sha256=meta.weights_sha256,
            transform=meta.transform_json,
            compute_dtype=meta.compute_dtype,
            clip_frames=meta.timing.clip_frames,
            frame_step=meta.timing.frame_step,
            store_dtype=store_dtype,
            channels=channels,
        )


def check_same_kind(where: object, first_id: str, first: Kind, second_id: str, second: Kind) -> None:
    """Refuse to mix encoders, transforms or precisions in one cache.

    Raises
    ------
    EtadError
        They differ; the message names both values and both videos.
    """
    for field in fields(Kind):
        found, expected = getattr(second, field.name), getattr(first, field.name)
        if found != expected:
            raise EtadError(
                f"{where}: video '{second_id}' has {field.name} {found!r}, but video '{first_id}' has {expected!r}; "
                f"a cache holds features of one kind. Extract into another run folder, or remove the others."
            )
