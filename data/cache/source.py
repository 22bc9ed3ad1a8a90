"""Where features come from, as far as a detector cares: a cache on disk, or memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import EtadError
from ..timeline import Timing


class SnippetSource(Protocol):
    """Videos cut into snippets: ids, numbers of snippets, and where these stand."""

    @property
    def path(self) -> Path: ...
    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def lengths(self) -> Mapping[str, int]: ...
    def timing(self, video_id: str, /) -> Timing: ...


class FeatureSource(SnippetSource, Protocol):
    """Features of those snippets; the digest names their very content."""

    @property
    def channels(self) -> int: ...
    @property
    def digest(self) -> str: ...
    def read(self, video_id: str, start: int | None = None, stop: int | None = None, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Snippets:
    """Snippets of videos that nobody has encoded yet.

    Parameters
    ----------
    path
        Where the videos are, for messages.
    timings
        By id.
    lengths
        Snippets of each video.
    """

    path: Path
    timings: Mapping[str, Timing]
    lengths: Mapping[str, int]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.timings)

    def timing(self, video_id: str, /) -> Timing:
        return self.timings[video_id]


@dataclass(frozen=True)
class MemoryFeatures:
    """Features that were just encoded and never leave memory.

    Parameters
    ----------
    path
        Where the videos are, for messages.
    channels
        Of the features.
    digest
        Of whatever determines them.
    features
        float32 (T, C) by id.
    timings
        By id.
    """

    path: Path
    channels: int
    digest: str
    features: Mapping[str, np.ndarray]
    timings: Mapping[str, Timing]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.features)

    @property
    def lengths(self) -> dict[str, int]:
        return {id: len(features) for id, features in self.features.items()}

    def timing(self, video_id: str, /) -> Timing:
        return self.timings[video_id]

    def read(self, video_id: str, start: int | None = None, stop: int | None = None, /) -> np.ndarray:
        """Features of snippets start .. stop - 1, all by default.

        Raises
        ------
        EtadError
            They are not finite.
        """
        found = self.features[video_id][start:stop]
        if not np.isfinite(found).all():
            raise EtadError(
                f"{self.path}: the encoder's features of video '{video_id}' are not finite. "
                "Lower e2e.encoder_lr, or set encoder.precision=float32."
            )
        return found
