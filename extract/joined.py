"""Features of one or of several encoders: the same snippets, each encoder's own pictures of them, channels joined."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .clips import ClipPlan, Failure, clip_batches
from .encode import EncodedVideo, encode_batches
from .encoders.encoder import Encoder

# Between the names, and the digests, of joined encoders.
JOINT = "+"


@dataclass(frozen=True)
class FurtherEncoder:
    """An encoder whose features follow the first one's.

    Parameters
    ----------
    name, encoder, weights_sha256
        Its name in configs, itself, and the digest of its weights.
    resize, crop
        What it takes: as in ClipSettings. All else about clips is as for the first encoder.
    """

    name: str
    encoder: Encoder
    weights_sha256: str
    resize: tuple[int, int] | int
    crop: tuple[int, int] | int

    def describe(self) -> dict[str, Any]:
        """Tell what is computed, for the cache to keep beside what it says of the first encoder's clips."""
        return {
            "name": self.name,
            "weights_sha256": self.weights_sha256,
            "resize": self.resize,
            "crop": self.crop,
        }


@dataclass(frozen=True)
class Encoders:
    """What features are made with: an encoder, and any number of further ones.

    Parameters
    ----------
    name, first, weights_sha256
        The first encoder's name, itself, and the digest of its weights.
    further
        Those whose channels follow, in order.
    """

    name: str
    first: Encoder
    weights_sha256: str
    further: Sequence[FurtherEncoder] = ()

    @property
    def names(self) -> str:
        return JOINT.join([self.name, *(each.name for each in self.further)])

    @property
    def digests(self) -> str:
        return JOINT.join([self.weights_sha256, *(each.weights_sha256 for each in self.further)])

    @property
    def channels(self) -> int:
        return self.first.channels + sum(each.encoder.channels for each in self.further)

    def transform(self, plan: ClipPlan) -> dict[str, Any]:
        """Tell what is done to frames; of a single encoder, the plan alone."""
        also = {"also": [each.describe() for each in self.further]} if self.further else {}
        return plan.describe() | also

    def encode(
        self,
        sources: Mapping[str, Path],
        plan: ClipPlan,
        *,
        batch_clips: int,
        workers: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Generator[EncodedVideo | Failure, None, None]:
        """Decode and encode videos, one item for each, in their order; each encoder decodes for itself.

        Parameters
        ----------
        sources
            Video files by id.
        plan
            Where the snippets stand, and the first encoder's pictures.
        """
        pairs = [(self.first, plan)]
        pairs += [(each.encoder, replace(plan, resize=each.resize, crop=each.crop)) for each in self.further]
        with contextlib.ExitStack() as open_streams:
            streams = []
            for encoder, its in pairs:
                decoded = clip_batches(sources, its, batch_clips=batch_clips, workers=workers)
                open_streams.enter_context(contextlib.closing(decoded))
                encoder = encoder.to(device).eval()
                streams.append(encode_batches(encoder, decoded, device=device, dtype=dtype))
            for items in zip(*streams, strict=True):
                yield _joined(items)


def _joined(items: Sequence[EncodedVideo | Failure]) -> EncodedVideo | Failure:
    """One video's features of all encoders, side by side; a failure of one is the video's."""
    encoded: list[EncodedVideo] = []
    for item in items:
        if isinstance(item, Failure):
            return item
        encoded.append(item)
    first = encoded[0]
    if len(encoded) == 1:
        return first
    for other in encoded[1:]:
        assert other.video_id == first.video_id, (other.video_id, first.video_id)
        if other.reading.stamp != first.reading.stamp:
            # Read at different times: the caller finds that one of the stamps is not the file's, and reads it again.
            gone = first if first.reading.stamp is not None else other
            return Failure(first.video_id, first.path, "the file has changed", gone.reading.stamp)
        assert other.timeline == first.timeline, first.video_id
    lost = frozenset().union(*(each.reading.lost_ticks for each in encoded))
    return EncodedVideo(
        video_id=first.video_id,
        path=first.path,
        features=np.concatenate([each.features for each in encoded], axis=1),
        timeline=first.timeline,
        reading=replace(first.reading, lost_ticks=lost),
    )
