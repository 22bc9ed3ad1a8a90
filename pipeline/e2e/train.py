"""Training encoder and detector together, from raw frames (Alg. 1)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.checkpoint import load_checkpoint, save_checkpoint
from ...data.errors import EtadError
from ...data.files.atomic import remove_leftovers
from ...detect.model.detector import Detector
from ...detect.objective import Objective
from ...detect.run_state import (
    Origin,
    Progress,
    TrainState,
    detector_checkpoint,
    epoch_order,
    go_on,
    log_epoch,
    place_generator,
)
from ...detect.settings import DetectSettings
from ...extract.clips import Failure
from ...extract.encoders.encoder import Encoder
from ...extract.weights.load import encoder_checkpoint
from ..settings import E2eSettings
from .checks import check_failing
from .clips import TrainingClips
from .full_step import full_step
from .memory import peak_bytes, tensor_bytes
from .samples import draw_samples
from .sgs import SgsStep, sgs_step

# Steps whose memory is measured where a budget is set.
_WATCHED_STEPS = 2


class E2eTrainer:
    """One end-to-end training run.

    Parameters
    ----------
    settings, detect
        How it is trained, and the detector's sizes and rules.
    encoder, detector
        With the weights to start from, on `device`; they hold the trained ones in the end.
    clips
        The training windows' frames.
    failed
        Training videos that could not even be opened.
    validation_loss
        Measures the loss on videos that are not trained on, if there are any.
    origin
        What the detector is trained for and from; goes into the checkpoints.
    folder
        Where `checkpoints/` and `log.jsonl` go.
    autocast
        Number format in which the encoder computes; none: float32.
    """

    def __init__(
        self,
        settings: E2eSettings,
        detect: DetectSettings,
        *,
        encoder: Encoder,
        detector: Detector,
        clips: TrainingClips,
        failed: Sequence[Failure],
        validation_loss: Callable[[], float | None],
        origin: Origin,
        folder: Path,
        device: torch.device,
        autocast: torch.dtype | None,
    ) -> None:
        self.settings, self.detect, self.folder, self.device, self.seed = settings, detect, folder, device, origin.seed
        self.encoder, self.detector, self.clips, self.autocast = encoder, detector, clips, autocast
        self.validation_loss, self.origin = validation_loss, origin
        self.failed = {failure.video_id: failure for failure in failed}
        self.num_videos = len({window.cache_id for window in clips.windows} | set(self.failed))
        self.objective = Objective(detect)
        self.optimizer = build_optimizer(encoder, detector, settings)
        self.state = TrainState()
        self.watches_memory = False
        self.peak_bytes: int | None = None
        self._watched_steps = 0
        self._check_failing()

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.pt"

    def resume(self) -> bool:
        """Go on from the last checkpoint, if there is one.

        Raises
        ------
        EtadError
            It comes from another config, other videos or other weights.
        """
        remove_leftovers(self.last.parent)
        if not self.last.exists():
            return False
        saved = load_checkpoint(self.last)
        if saved["config_digest"] != self.origin.config_digest:
            raise EtadError(
                f"{self.last}: this checkpoint comes from another config, other videos, or another encoder or detector "
                "to start from. Choose another run folder, or remove it."
            )
        self.encoder.load_state_dict(saved["encoder"])
        self.state = go_on(saved, self.detector, self.optimizer)
        self.failed |= {id: Failure(id, Path(path), reason) for id, path, reason in saved["failed"]}
        return True

    def run(self, progress: Progress = lambda step, steps, loss: None) -> None:
        """Train until the last epoch, keeping checkpoints on the way."""
        epochs, saved_at = self.settings.epochs, time.monotonic()
        while self.state.epoch < epochs:
            epoch = self.state.epoch
            order = epoch_order(len(self.clips.windows), batch=self.settings.batch, seed=self.seed, epoch=epoch)
            self._set_rates()
            self.encoder.train(), self.detector.train()
            started = time.monotonic()
            for frames in self.clips.of(order[self.state.step :], epoch):
                loss = self._watched(order[self.state.step], frames)
                self.state.step += 1
                progress(epoch * len(order) + self.state.step, epochs * len(order), loss)
                if time.monotonic() - saved_at > self.settings.checkpoint_seconds:
                    self._save(self.last)
                    saved_at = time.monotonic()
            self._end_epoch(time.monotonic() - started)

    def _watched(self, numbers: Sequence[int], frames: Sequence[Tensor | Failure]) -> float:
        """Take a step; the first two under the eye of the allocator, if that was asked for.

        The first one alone would not do: the optimiser makes its moments at the end of it, when activations are gone.
        """
        if not self.watches_memory or self._watched_steps == _WATCHED_STEPS:
            return self._step(numbers, frames)
        losses: list[float] = []
        held = self._held_bytes()
        peak = peak_bytes(lambda: losses.append(self._step(numbers, frames)), self.device)
        self.peak_bytes = max(self.peak_bytes or 0, held + peak)
        self._watched_steps += 1
        return losses[0]

    def _held_bytes(self) -> int:
        """Parameters, their gradients and the optimiser's moments, as they lie in memory now."""
        parameters = [*self.encoder.parameters(), *self.detector.parameters()]
        moments = [each for state in self.optimizer.state.values() for each in state.values() if torch.is_tensor(each)]
        return tensor_bytes([*parameters, *(each.grad for each in parameters if each.grad is not None), *moments])

    def _step(self, numbers: Sequence[int], frames: Sequence[Tensor | Failure]) -> float:
        """Take one step on the windows whose frames could be read; returns the loss, nan where there are none."""
        windows, videos = [], []
        for number, each in zip(numbers, frames):
            if isinstance(each, Failure):
                self.failed[each.video_id] = each
                self._check_failing()
            else:
                windows.append(self.clips.windows[number])
                videos.append(each)
        if not windows:
            return float("nan")
        parts: dict[str, Tensor] = {}

        def loss_of(features: Sequence[Tensor]) -> Tensor:
            generator = place_generator(self.seed, 1, self.state.epoch, self.state.step)
            values, mask = pad_windows(features, self.detect.num_snippets)
            parts.update(self.objective(self.detector, windows, values, mask, generator=generator, training=True))
            self._check_finite(parts["loss"])
            return parts["loss"]

        self.optimizer.zero_grad(set_to_none=True)
        self._backward(videos, loss_of)
        if self.settings.clip_norm is not None:
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(trained, self.settings.clip_norm)
        self.optimizer.step()
        for name, value in (parts | {"steps": torch.ones(())}).items():
            self.state.sums[name] = self.state.sums.get(name, 0.0) + value.item()
        return parts["loss"].item()

    def _backward(self, videos: Sequence[Tensor], loss_of: Callable[[Sequence[Tensor]], Tensor]) -> SgsStep:
        settings = self.settings
        if settings.memory != "sgs":
            recompute = settings.memory == "checkpoint"
            return full_step(self.encoder, videos, loss_of, recompute=recompute, autocast=self.autocast)
        samples = draw_samples(
            settings.strategy,
            [len(video) for video in videos],
            ratio=settings.ratio,
            chunk=settings.chunk,
            generator=place_generator(self.seed, 3, self.state.epoch, self.state.step),
        )
        return sgs_step(
            self.encoder,
            videos,
            loss_of,
            samples=samples,
            micro_batch=settings.micro_batch,
            keep=settings.keep,
            autocast=self.autocast,
        )

    def _set_rates(self) -> None:
        factor = 0.1 if self.state.epoch >= self.settings.decay_after else 1.0
        for group, lr in zip(self.optimizer.param_groups, (self.settings.encoder_lr, self.settings.detector_lr)):
            group["lr"] = factor * lr

    def _check_finite(self, loss: Tensor) -> None:
        if not loss.isfinite():
            raise EtadError(
                f"the loss is {loss.item()} at epoch {self.state.epoch + 1}, step {self.state.step + 1}. Lower "
                f"e2e.encoder_lr={self.settings.encoder_lr:g} or e2e.detector_lr={self.settings.detector_lr:g}."
            )

    def _check_failing(self) -> None:
        check_failing(self.failed, self.num_videos, allowed=self.settings.failing_share)

    def _end_epoch(self, seconds: float) -> None:
        steps = self.state.sums.pop("steps", 0.0)
        if not steps:
            raise EtadError(f"epoch {self.state.epoch + 1}: no training video could be read.")
        train = {name: total / steps for name, total in self.state.sums.items()}
        val_loss = self.validation_loss()
        line = {
            "epoch": self.state.epoch + 1,
            "lr": self.optimizer.param_groups[1]["lr"],
            "encoder_lr": self.optimizer.param_groups[0]["lr"],
            "train": train,
            "val_loss": val_loss,
            "seconds": round(seconds, 3),
            "failed": sorted(self.failed),
        }
        log_epoch(self.folder / "log.jsonl", line)
        measured = train["loss"] if val_loss is None else val_loss
        better = measured < self.state.best_loss
        self.state = TrainState(epoch=self.state.epoch + 1, best_loss=min(measured, self.state.best_loss))
        if better:
            self._save(self.last.with_name("best.pt"))
        self._save(self.last)

    def _save(self, path: Path) -> None:
        state = detector_checkpoint(self.detector, self.optimizer, self.state, settings=self.detect, origin=self.origin)
        state["failed"] = [[id, str(failure.path), failure.reason] for id, failure in self.failed.items()]
        save_checkpoint(path, state | encoder_checkpoint(self.encoder, name=self.origin.source["encoder"]))


def build_optimizer(encoder: Encoder, detector: Detector, settings: E2eSettings) -> torch.optim.Optimizer:
    """Weight decay on all that is trained; what is frozen is not even known to the optimiser.

    Not `fused`: on the CPU it pairs weights and gradients of different memory orders wrongly, without a word.
    """
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    groups = [
        {"params": trained, "lr": settings.encoder_lr},
        {"params": list(detector.parameters()), "lr": settings.detector_lr},
    ]
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, weight_decay=settings.weight_decay)


def pad_windows(features: Sequence[Tensor], num_snippets: int) -> tuple[Tensor, Tensor | None]:
    """Stack windows of (t, C) features into (B, C, T) and a (B, 1, T) mask; no mask where nothing is padded."""
    lengths = [len(part) for part in features]
    stacked = torch.stack([F.pad(part, (0, 0, 0, num_snippets - len(part))) for part in features]).transpose(1, 2)
    if min(lengths) == num_snippets:
        return stacked, None
    places = torch.arange(num_snippets, device=stacked.device)
    mask = places < torch.tensor(lengths, device=stacked.device)[:, None]
    return stacked, mask[:, None].to(stacked.dtype)
