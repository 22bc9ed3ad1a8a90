"""Training the detector on cached features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.cache.source import FeatureSource
from ..data.errors import EtadError
from ..data.progress import progress_bar
from ..data.ranks import ALONE, Ranks
from .loading import Batches
from .loop import EpochTraining, build_optimizer
from .model.build import build_detector
from .objective import build_objective, mean_loss
from .run_state import Provenance, Stream, TrainState, detector_checkpoint, restore_training_state, step_generator
from .schedule import RateSchedule
from .settings import DetectSettings
from .standardise import channel_statistics
from .windows import Window, digests_by_video


class Trainer(EpochTraining):
    """One training run.

    Parameters
    ----------
    settings
        The detector's settings.
    train_windows, val_windows
        Windows to learn from, and to measure the loss on after each epoch (may be empty).
    cache
        Their features.
    classes
        Class names.
    source
        What the features are (goes into the checkpoint).
    config_digest, made_from
        See `Provenance`.
    folder
        Where `checkpoints/` and `log.jsonl` go.
    ranks
        Processes that share each batch.
    """

    depends_on = "another config, other annotations or other features"

    def __init__(
        self,
        settings: DetectSettings,
        *,
        train_windows: Sequence[Window],
        val_windows: Sequence[Window],
        cache: FeatureSource,
        classes: Sequence[str],
        source: dict[str, Any],
        config_digest: str,
        made_from: Mapping[str, str],
        folder: Path,
        device: torch.device,
        seed: int,
        workers: int,
        ranks: Ranks = ALONE,
    ) -> None:
        if not train_windows:
            raise EtadError("no training window is left: see the list of what was left out and why.")
        training = settings.training
        self.settings, self.device, self.cache = settings, device, cache
        self.train_windows, self.val_windows = train_windows, val_windows
        self.detector = build_detector(settings, in_channels=cache.channels, num_classes=len(classes), seed=seed).to(
            device
        )
        self.objective = build_objective(settings, ranks)
        self.advice = f"Lower detect.training.lr={training.lr:g}, or check the features with `etad verify`."
        self.train_batches = Batches(
            train_windows, cache, settings=settings, workers=workers, memory_gib=training.memory_gib
        )
        self.val_batches = Batches(val_windows, cache, settings=settings, workers=workers, memory_gib=0.0)
        super().__init__(
            folder=folder,
            optimizer=build_optimizer(
                [{"params": list(self.detector.parameters()), "lr": training.lr}],
                kind=training.optimizer,
                weight_decay=training.weight_decay,
            ),
            rates={"lr": training.lr},
            num_windows=len(train_windows),
            batch=training.batch,
            epochs=training.epochs,
            schedule=RateSchedule(training.decay, training.decay_after, training.warmup_epochs),
            clip_norm=training.clip_norm,
            ema=training.ema,
            checkpoint_seconds=training.checkpoint_seconds,
            origin=Provenance(
                in_channels=cache.channels,
                classes=classes,
                source=source,
                config_digest=config_digest,
                seed=seed,
                made_from=made_from,
                windows=digests_by_video(train_windows),
            ),
            ranks=ranks,
        )

    def resume(self) -> bool:
        """Go on from the last checkpoint, if there is one; if not, measure what a fresh detector must know."""
        if super().resume():
            return True
        if self.settings.standardise:
            videos = dict.fromkeys(window.cache_id for window in self.train_windows)
            bar = progress_bar("measure channels", videos, unit="video", shown=self.ranks.is_first)
            mean, deviation = channel_statistics(self.cache, bar)
            self.detector.standardise_by(torch.from_numpy(mean), torch.from_numpy(deviation))
        return False

    def _modules(self) -> list[nn.Module]:
        return [self.detector]

    def _batches(self, order: Sequence[Sequence[int]], epoch: int) -> Iterable[tuple[Tensor | None, Tensor | None]]:
        return self.train_batches.of(order)

    def _step(self, numbers: Sequence[int], values: tuple[Tensor | None, Tensor | None]) -> float:
        features, mask = values
        parts = self.objective(
            self.detector,
            [self.train_windows[number] for number in numbers],
            None if features is None else features.to(self.device, non_blocking=True),
            None if mask is None else mask.to(self.device),
            generator=step_generator(self.seed, Stream.LOSS, self.state.epoch, self.state.step),
            training=True,
        )
        self._check_finite(parts["loss"])
        self.optimizer.zero_grad(set_to_none=True)
        if parts["loss"].requires_grad:  # or this rank had no window
            parts["loss"].backward()
        return self._update(parts)

    def _validation_loss(self) -> float | None:
        return mean_loss(
            self.objective,
            self.detector,
            self.val_windows,
            self.val_batches.of,
            batch=self.batch,
            device=self.device,
            generator_of=lambda number: step_generator(self.seed, Stream.VALIDATION, number),
        )

    def _log(self, *, seconds: float, steps: int) -> dict[str, Any]:
        return {"windows_per_second": round(steps * self.batch / max(seconds, 1e-9), 2)}

    def _checkpoint(self) -> dict[str, Any]:
        return detector_checkpoint(
            self.detector, self.optimizer, self.state, settings=self.settings, origin=self.origin
        )

    def _restore(self, saved: Mapping[str, Any]) -> TrainState:
        return restore_training_state(saved, self.detector, self.optimizer)
