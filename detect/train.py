"""Training the detector on cached features."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.cache.source import FeatureSource
from ..data.checkpoint import load_checkpoint, save_checkpoint
from ..data.errors import EtadError
from ..data.files.atomic import remove_leftovers
from .loading import Batches
from .model.build import build_detector
from .model.detector import Detector
from .objective import Objective
from .run_state import Origin, Progress, TrainState, detector_checkpoint, epoch_order, go_on, log_epoch, place_generator
from .settings import DetectSettings
from .windows import Window


class Trainer:
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
    config_digest
        Digest of the whole config (goes into the checkpoint).
    folder
        Where `checkpoints/` and `log.jsonl` go.
    """

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
        folder: Path,
        device: torch.device,
        seed: int,
        workers: int,
    ) -> None:
        if not train_windows:
            raise EtadError("no training window is left: see the list of what was left out and why.")
        self.settings, self.folder, self.device, self.seed = settings, folder, device, seed
        self.origin = Origin(
            in_channels=cache.channels, classes=classes, source=source, config_digest=config_digest, seed=seed
        )
        self.train_windows, self.val_windows = train_windows, val_windows
        self.detector = build_detector(settings, in_channels=cache.channels, num_classes=len(classes), seed=seed).to(
            device
        )
        training = settings.training
        self.optimizer = build_optimizer(self.detector, settings)
        self.state = TrainState()
        self.objective = Objective(settings)
        self.train_batches = Batches(
            train_windows, cache, settings=settings, workers=workers, memory_gib=training.memory_gib
        )
        self.val_batches = Batches(val_windows, cache, settings=settings, workers=workers, memory_gib=0.0)

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.pt"

    def resume(self) -> bool:
        """Go on from the last checkpoint, if there is one."""
        remove_leftovers(self.last.parent)
        if not self.last.exists():
            return False
        saved = load_checkpoint(self.last)
        if saved["config_digest"] != self.origin.config_digest:
            raise EtadError(
                f"{self.last}: this checkpoint comes from another config, other annotations or other features. "
                "Choose another run folder, or remove it."
            )
        self.state = go_on(saved, self.detector, self.optimizer)
        return True

    def run(self, progress: Progress = lambda step, steps, loss: None) -> Detector:
        """Train until the last epoch, keeping checkpoints on the way."""
        epochs = self.settings.training.epochs
        saved_at = time.monotonic()
        while self.state.epoch < epochs:
            order = self._order(self.state.epoch)
            lr = self._set_rate()
            self.detector.train()
            started, resumed_at = time.monotonic(), self.state.step
            for features, mask in self.train_batches.of(order[self.state.step :]):
                loss = self._step(order[self.state.step], features, mask)
                self.state.step += 1
                progress(self.state.epoch * len(order) + self.state.step, epochs * len(order), loss)
                if time.monotonic() - saved_at > self.settings.training.checkpoint_seconds:
                    self._save(self.last)
                    saved_at = time.monotonic()
            seconds = time.monotonic() - started
            self._end_epoch(lr, len(order), seconds=seconds, timed_steps=len(order) - resumed_at)
        return self.detector

    def _order(self, epoch: int) -> list[list[int]]:
        """Batches of window numbers of an epoch, drawn from seed and epoch alone."""
        batch = self.settings.training.batch
        return epoch_order(len(self.train_windows), batch=batch, seed=self.seed, epoch=epoch)

    def _set_rate(self) -> float:
        training = self.settings.training
        rate = training.lr * (0.1 if self.state.epoch >= training.decay_after else 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _step(self, numbers: Sequence[int], features: Tensor, mask: Tensor | None) -> float:
        generator = place_generator(self.seed, 1, self.state.epoch, self.state.step)
        windows = [self.train_windows[number] for number in numbers]
        parts = self._losses(windows, features, mask, generator=generator, training=True)
        loss = parts["loss"]
        if not loss.isfinite():
            raise EtadError(
                f"the loss is {loss.item()} at epoch {self.state.epoch + 1}, step {self.state.step + 1}. "
                f"Lower detect.training.lr={self.settings.training.lr:g}, or check the features with `etad verify`."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.settings.training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.detector.parameters(), self.settings.training.clip_norm)
        self.optimizer.step()
        for name, value in parts.items():
            self.state.sums[name] = self.state.sums.get(name, 0.0) + value.item()
        return loss.item()

    def _losses(
        self,
        windows: Sequence[Window],
        features: Tensor,
        mask: Tensor | None,
        *,
        generator: torch.Generator,
        training: bool,
    ) -> dict[str, Tensor]:
        features = features.to(self.device, non_blocking=True)
        mask = None if mask is None else mask.to(self.device)
        return self.objective(self.detector, windows, features, mask, generator=generator, training=training)

    @torch.no_grad()
    def validation_loss(self) -> float | None:
        """Mean loss over the validation windows, on the grid's proposals (SPEC section 4)."""
        if not self.val_windows:
            return None
        self.detector.eval()
        batch = self.settings.training.batch
        order = [list(range(i, min(i + batch, len(self.val_windows)))) for i in range(0, len(self.val_windows), batch)]
        total = 0.0
        for number, (features, mask) in enumerate(self.val_batches.of(order)):
            windows = [self.val_windows[i] for i in order[number]]
            parts = self._losses(
                windows, features, mask, generator=place_generator(self.seed, 2, number), training=False
            )
            total += parts["loss"].item() * len(windows)
        return total / len(self.val_windows)

    def _end_epoch(self, lr: float, steps: int, *, seconds: float, timed_steps: int) -> None:
        val_loss = self.validation_loss()
        line = {
            "epoch": self.state.epoch + 1,
            "lr": lr,
            "train": {name: total / steps for name, total in self.state.sums.items()},
            "val_loss": val_loss,
            "seconds": round(seconds, 3),
            "windows_per_second": round(timed_steps * self.settings.training.batch / max(seconds, 1e-9), 2),
        }
        log_epoch(self.folder / "log.jsonl", line)
        better = (val_loss if val_loss is not None else line["train"]["loss"]) < self.state.best_loss  # type: ignore[index]
        if better:
            self.state.best_loss = val_loss if val_loss is not None else line["train"]["loss"]  # type: ignore[index]
        self.state = TrainState(epoch=self.state.epoch + 1, best_loss=self.state.best_loss)
        if better:
            self._save(self.last.with_name("best.pt"))
        self._save(self.last)

    def _save(self, path: Path) -> None:
        save_checkpoint(
            path,
            detector_checkpoint(self.detector, self.optimizer, self.state, settings=self.settings, origin=self.origin),
        )


def build_optimizer(detector: Detector, settings: DetectSettings) -> torch.optim.Optimizer:
    """Weight decay on every parameter (SPEC section 6)."""
    training = settings.training
    kind = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
    return kind(detector.parameters(), lr=training.lr, weight_decay=training.weight_decay, fused=True)
