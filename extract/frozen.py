"""What lies under the first trained stage of an encoder, computed once and kept on disk in half precision."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.digest import tensors_digest, values_digest
from ..data.errors import EtadError
from ..data.files.atomic import remove_leftovers, write_bytes
from .encoders.encoder import Encoder

_FORM = 1
_SUFFIX = ".maps"


class FrozenCache:
    """Outputs of the frozen stages of windows, a file each; one that is stale or damaged counts as missing.

    Parameters
    ----------
    encoder
        At least its stem is frozen; on the device where it computes.
    folder
        Where the files lie; nothing else does.
    source
        What decides which frames a window shows, apart from what `entry` gets: clips, augmentation, seed.
    micro_batch
        Snippets that are encoded at once; part of the key, since it changes results by rounding errors.
    autocast
        dtype in which the stages compute; none: float32.
    """

    def __init__(
        self,
        encoder: Encoder,
        folder: Path,
        *,
        source: Mapping[str, Any],
        micro_batch: int,
        autocast: torch.dtype | None = None,
    ) -> None:
        assert encoder.frozen_stages >= 0, "nothing is frozen"
        self.encoder, self.folder, self.micro_batch, self.autocast = encoder, folder, micro_batch, autocast
        self.split = encoder.frozen_stages + 1
        frozen = {"mean": encoder.mean, "std": encoder.std, **encoder.stages[: self.split].state_dict()}
        self._made_by = {
            "form": _FORM,
            "weights": tensors_digest(frozen),
            "split": self.split,
            "micro_batch": micro_batch,
            "autocast": str(autocast),
            "device": encoder.mean.device.type,
            "torch": torch.__version__,
            "source": dict(source),
        }
        remove_leftovers(folder)

    def entry(self, video_sha256: str, *, window: tuple[int, int], sample: str, draw: int) -> str:
        """Key of a window's maps: a digest of all that they are computed from.

        Parameters
        ----------
        video_sha256
            Of the video file's bytes.
        window
            First snippet, and how many.
        sample
            Name by which the window's augmentation is drawn.
        draw
            Number of its draw.
        """
        return values_digest(self._made_by | {"video": video_sha256, "window": window, "sample": sample, "draw": draw})

    def keep_only(self, keys: Collection[str]) -> None:
        """Remove what other keys than these left in the folder: it is stale."""
        for path in self.folder.glob("*" + _SUFFIX):
            if path.name.removesuffix(_SUFFIX) not in keys:
                path.unlink(missing_ok=True)

    def forget(self, keys: Iterable[str]) -> None:
        """Remove what is kept by these keys."""
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def load(self, key: str) -> tuple[Tensor, set[int]] | None:
        """Read maps, half (T, L, H, W, C), and the ticks at which frames were lost; none: missing or damaged."""
        try:
            with self._path(key).open("rb") as file:
                head = json.loads(file.readline(1 << 20))
                # Straight into memory of its own, which torch may write to.
                values = np.fromfile(file, dtype=np.uint8)
            shape = tuple(map(int, head["shape"]))
            lost_ticks = set(map(int, head["lost_ticks"]))
            sound = head["key"] == key and len(shape) == 5 and len(values) == 2 * math.prod(shape)
            if not sound or head["sha256"] != _sha256(values, shape, lost_ticks):
                return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # it is computed again, and written over
        return torch.from_numpy(values).view(torch.float16).view(shape), lost_ticks

    def save(self, key: str, maps: Tensor, lost_ticks: set[int]) -> None:
        """Write maps, half (T, L, H, W, C), whole or not at all.

        Raises
        ------
        EtadError
            The place cannot be written.
        """
        values, shape = maps.contiguous().view(-1).view(torch.uint8).numpy(), tuple(maps.shape)
        head = {
            "key": key,
            "shape": shape,
            "lost_ticks": sorted(lost_ticks),
            "sha256": _sha256(values, shape, lost_ticks),
        }
        write_bytes(self._path(key), json.dumps(head).encode() + b"\n" + values.tobytes())

    @torch.no_grad()
    def encode(self, clips: Tensor) -> Tensor:
        """Send frames, uint8 (T, L, H, W, 3), through the frozen stages: half (T, L, H, W, C), in main memory.

        Raises
        ------
        EtadError
            A value is too large for half precision.
        """
        parts, device = [], self.encoder.mean.device
        for some in clips.split(self.micro_batch):
            with torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None):
                maps = self.encoder.run_stages(self.encoder.normalise(some.to(device)), 0, self.split)
            parts.append(maps.permute(0, 2, 3, 4, 1).half().contiguous().cpu())
        whole = torch.cat(parts)
        if not whole.isfinite().all():
            raise EtadError(
                "the outputs of the encoder's frozen stages are too large for half precision (above 65504), in which "
                "e2e.cache_frozen keeps them. Set e2e.cache_frozen=0."
            )
        return whole

    @torch.no_grad()
    def finish(self, maps: Tensor) -> Tensor:
        """Send what `encode` gave, half (T, L, H, W, C), through the other stages: features, float32 (T, C)."""
        parts, mean = [], self.encoder.mean
        for some in maps.split(self.micro_batch):
            middle = some.to(mean.device).to(mean.dtype).permute(0, 4, 1, 2, 3)
            with torch.autocast(mean.device.type, dtype=self.autocast, enabled=self.autocast is not None):
                last_map = self.encoder.run_stages(middle, self.split, len(self.encoder.stages))
            parts.append(self.encoder.pool(last_map.float()))
        return torch.cat(parts)

    def _path(self, key: str) -> Path:
        return self.folder / (key + _SUFFIX)


def map_bytes(encoder: Encoder, clip: Tensor) -> int:
    """Bytes that one snippet's maps take in half precision, measured on its frames, uint8 (L, H, W, 3)."""
    with torch.no_grad():
        frames = encoder.normalise(clip[None].to(encoder.mean.device))
        return 2 * encoder.run_stages(frames, 0, encoder.frozen_stages + 1).numel()


def _sha256(values: np.ndarray, shape: tuple[int, ...], lost_ticks: set[int]) -> str:
    total = hashlib.sha256(json.dumps([shape, sorted(lost_ticks)]).encode())
    total.update(values.data)
    return total.hexdigest()
