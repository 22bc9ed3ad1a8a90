"""Features of one or of several encoders: the same snippets, each encoder's own pictures of them, channels joined."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
    frames
        How many of a clip's frames it sees; None: all.
    """

    name: str
    encoder: Encoder
    weights_sha256: str
    resize: tuple[int, int] | int
    crop: tuple[int, int] | int
    frames: int | None = None

    def describe(self) -> dict[str, Any]:
        """Tell what is computed, for the cache to keep beside what it says of the first encoder's clips."""
        return {
            "name": self.name,
            "weights_sha256": self.weights_sha256,
            "resize": self.resize,
            "crop": self.crop,
        } | ({"frames": self.frames} if self.frames else {})

    def seen_frames(self, clip_frames: int) -> list[int] | None:
        """Numbers of the frames that it sees of a clip, the middle ones of as many equal parts; None: all.

        Of ten frames two are those numbered 2 and 7.
        """
        if self.frames is None or self.frames >= clip_frames:
            return None
        return [int((number + 0.5) * clip_frames / self.frames) for number in range(self.frames)]


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
        report: Callable[[float], None] = lambda share: None,
    ) -> Generator[EncodedVideo | Failure, None, None]:
        """Decode videos, once for all encoders, and encode them: one item for each, in their order.

        Parameters
        ----------
        sources
            Video files by id.
        plan
            Where the snippets stand, and the first encoder's pictures.
        report
            Called with the share of the video at hand, 0..1, that is encoded.
        """
        plans = [replace(plan, resize=each.resize, crop=each.crop) for each in self.further]
        decoded = clip_batches(sources, plan, batch_clips=batch_clips, workers=workers, further=plans)
        first = self.first.to(device).eval()
        others = [(each.encoder.to(device).eval(), each.seen_frames(plan.clip_frames)) for each in self.further]
        with contextlib.closing(decoded):
            yield from encode_batches(first, decoded, device=device, dtype=dtype, further=others, report=report)
