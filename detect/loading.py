"""Windows -> batches: from memory where they fit, else read ahead by worker processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.cache.source import FeatureSource
from ..data.errors import EtadError, counted
from .resize import resize
from .settings import DetectSettings
from .windows import Window

log = logging.getLogger(__name__)


class WindowData(Dataset[np.ndarray | str]):
    """Features of windows, read when asked for; a sentence where they cannot be read.

    A worker process would wrap an error in its traceback.
    """

    def __init__(self, windows: Sequence[Window], cache: FeatureSource, settings: DetectSettings) -> None:
        self.windows, self.cache, self.settings = windows, cache, settings

    def __len__(self) -> int:
        return len(self.windows)

    def read(self, number: int) -> np.ndarray:
        return read_window(self.windows[number], self.cache, settings=self.settings)

    def __getitem__(self, number: int) -> np.ndarray | str:
        try:
            return self.read(number)
        except EtadError as error:
            return str(error)


class Batches:
    """Batches of windows in a given order; what they hold does not depend on where they come from.

    Parameters
    ----------
    windows, cache, settings
        What to read.
    workers
        Processes that read ahead where the windows do not fit into memory; 0 reads in this one.
    memory_gib
        Windows are held in memory where they fit into this.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        cache: FeatureSource,
        *,
        settings: DetectSettings,
        workers: int,
        memory_gib: float,
    ) -> None:
        self.data = WindowData(windows, cache, settings)
        self.workers = workers
        size = len(windows) * settings.num_snippets * cache.channels * 4
        self.held: dict[int, np.ndarray] | None = {} if size <= memory_gib * 2**30 else None
        place = "in memory" if self.held is not None else f"read by {counted(workers, 'worker')}"
        log.info("%s, %.2f GiB, %s", counted(len(windows), "window"), size / 2**30, place)

    def of(self, order: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor | None, Tensor | None]]:
        """Yield (B, C, T) features and an optional (B, 1, T) mask for each list of window numbers; none for none."""
        if self.held is not None:
            for numbers in order:
                yield self._collate([self._held(number) for number in numbers])
            return
        # Workers draw nothing: all randomness stays with the trainer, so their number changes no result.
        generator = torch.Generator().manual_seed(0)
        batches = DataLoader(
            self.data,
            batch_sampler=[list(numbers) for numbers in order],
            num_workers=self.workers,
            collate_fn=list,
            generator=generator,
        )
        for samples in batches:
            for sample in samples:
                if isinstance(sample, str):
                    raise EtadError(sample)
            yield self._collate(samples)

    def _held(self, number: int) -> np.ndarray:
        assert self.held is not None
        if number not in self.held:
            self.held[number] = self.data.read(number)
        return self.held[number]

    def _collate(self, samples: Sequence[np.ndarray]) -> tuple[Tensor | None, Tensor | None]:
        if not samples:
            return None, None
        return collate([torch.from_numpy(sample) for sample in samples], self.data.settings.num_snippets)


def read_window(window: Window, cache: FeatureSource, *, settings: DetectSettings) -> np.ndarray:
    """Read a window's features, (t, C) float32: t is T, or fewer at the end of a short video."""
    features = cache.read(window.cache_id, window.first, window.first + window.count)
    if settings.windows == "rescale":
        return resize(features, settings.num_snippets, as_released=settings.rules.resizes_from_float16)
    return features


def collate(windows: Sequence[Tensor], num_snippets: int) -> tuple[Tensor, Tensor | None]:
    """Stack windows of (t, C) features into (B, C, T) and a (B, 1, T) mask; no mask where nothing is padded."""
    lengths = [len(window) for window in windows]
    padded = [
        F.pad(each, (0, 0, 0, num_snippets - len(each))) if len(each) < num_snippets else each for each in windows
    ]
    features = torch.stack(padded).transpose(1, 2)
    if min(lengths) == num_snippets:
        return features, None
    places = torch.arange(num_snippets, device=features.device)
    mask = places < torch.tensor(lengths, device=features.device)[:, None]
    return features, mask[:, None].to(features.dtype)
