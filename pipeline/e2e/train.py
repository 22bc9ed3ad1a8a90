"""Training encoder and detector together, from raw frames (Alg. 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...data.errors import EtadError
from ...data.ranks import ALONE, Ranks
from ...data.video.seen import SeenFiles
from ...detect.loading import collate
from ...detect.loop import EpochTraining, build_optimizer
from ...detect.model.network import DetectionNetwork
from ...detect.objective import build_objective
from ...detect.run_state import (
    Provenance,
    Stream,
    TrainState,
    detector_checkpoint,
    restore_training_state,
    step_generator,
)
from ...detect.schedule import RateSchedule
from ...detect.settings import DetectSettings
from ...extract.clips import Failure, flaw, lost_frames_text
from ...extract.encoders.encoder import Encoder
from ...extract.weights.adapters import restore_encoder
from ...extract.weights.load import encoder_checkpoint
from ..settings import E2eSettings
from .checks import check_failing
from .clips import TrainingClips
from .full_step import full_step
from .memory import peak_bytes, tensor_bytes
from .samples import draw_samples
from .sgs import ByGradient, Samples, SgsStep, sgs_step

# Steps whose memory is measured where a budget is set.
_WATCHED_STEPS = 2


class E2eTrainer(EpochTraining):
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
        dtype in which the encoder computes; none: float32.
    """

    depends_on = "another config, other videos, or another encoder or detector to start from"

    def __init__(
        self,
        settings: E2eSettings,
        detect: DetectSettings,
        *,
        encoder: Encoder,
        detector: DetectionNetwork,
        clips: TrainingClips,
        failed: Sequence[Failure],
        validation_loss: Callable[[], float | None],
        origin: Provenance,
        folder: Path,
        device: torch.device,
        autocast: torch.dtype | None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.settings, self.detect, self.device = settings, detect, device
        self.encoder, self.detector, self.clips, self.autocast = encoder, detector, clips, autocast
        self.validation_loss = validation_loss
        self.failed = {failure.video_id: failure for failure in failed}
        self.lost_ticks: dict[str, set[int]] = {}
        self.seen_files = SeenFiles(clips.files)
        if ranks.is_first:
            self.seen_files.as_rows()  # as they are before anything of them is read
        self.num_videos = len({window.cache_id for window in clips.windows} | set(self.failed))
        self.objective = build_objective(detect, ranks)
        self.advice = f"Lower e2e.encoder_lr={settings.encoder_lr:g} or e2e.detector_lr={settings.detector_lr:g}."
        self.watches_memory = False
        self.peak_bytes: int | None = None
        self._watched_steps = 0
        self._check_failing()
        trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        super().__init__(
            folder=folder,
            optimizer=build_optimizer(
                [
                    {"params": trained, "lr": settings.encoder_lr},
                    {"params": list(detector.parameters()), "lr": settings.detector_lr},
                ],
                kind=settings.optimizer,
                weight_decay=settings.weight_decay,
            ),
            rates={"encoder_lr": settings.encoder_lr, "lr": settings.detector_lr},
            num_windows=len(clips.windows),
            batch=settings.batch,
            epochs=settings.epochs,
            schedule=RateSchedule(settings.decay, settings.decay_after, settings.warmup_epochs),
            clip_norm=settings.clip_norm,
            ema=settings.ema,
            checkpoint_seconds=settings.checkpoint_seconds,
            origin=origin,
            ranks=ranks,
        )

    def end_epoch(self, *, seconds: float, steps: int) -> None:
        if not self.state.sums.get("steps"):
            raise EtadError(f"epoch {self.state.epoch + 1}: no training video could be read.")
        super().end_epoch(seconds=seconds, steps=steps)

    def _modules(self) -> list[nn.Module]:
        return [self.encoder, self.detector]

    def _batches(self, order: Sequence[Sequence[int]], epoch: int) -> Iterable[Sequence[Tensor | Failure]]:
        return self.clips.of(order, epoch)

    def _step(self, numbers: Sequence[int], values: Sequence[Tensor | Failure]) -> float:
        """Take a step; the first two under the eye of the allocator, if that was asked for.

        The first one alone would not do: the optimiser makes its moments at the end of it, when activations are gone.
        """
        if not self.watches_memory or self._watched_steps == _WATCHED_STEPS:
            return self._learn(numbers, values)
        losses: list[float] = []
        held = self._held_bytes()
        peak = peak_bytes(lambda: losses.append(self._learn(numbers, values)), self.device)
        self.peak_bytes = max(self.peak_bytes or 0, held + peak)
        self._watched_steps += 1
        return losses[0]

    def _held_bytes(self) -> int:
        """Parameters, their gradients, moments and average, as they lie in memory now."""
        parameters = [*self.encoder.parameters(), *self.detector.parameters()]
        moments = [each for state in self.optimizer.state.values() for each in state.values() if torch.is_tensor(each)]
        average = [] if self.average is None else self.average.values
        gradients = [each.grad for each in parameters if each.grad is not None]
        return tensor_bytes([*parameters, *gradients, *moments, *average])

    def _learn(self, numbers: Sequence[int], frames: Sequence[Tensor | Failure]) -> float:
        """Take one step on the windows whose frames could be read; returns the loss, nan where there are none."""
        # 1. Which windows those are, of all ranks.
        videos = [each for each in frames if not isinstance(each, Failure)]
        ids = sorted({self.clips.windows[number].cache_id for number in numbers} & self.clips.lost_ticks.keys())
        own = {
            "failed": [each.as_row() if isinstance(each, Failure) else None for each in frames],
            "lost_ticks": {id: sorted(self.clips.lost_ticks[id]) for id in ids},
        }
        of_ranks = self.ranks.exchange(own)
        failures = [said["failed"] for said in of_ranks]
        for id, ticks in (item for said in of_ranks for item in said["lost_ticks"].items()):
            self.lost_ticks.setdefault(id, set()).update(ticks)
        of_numbers = [row for rows in failures for row in rows]
        for row in of_numbers:
            if row is not None:
                self.failed[row[0]] = Failure.of_row(row)
                self._check_failing()
        windows = [self.clips.windows[number] for number, row in zip(numbers, of_numbers) if row is None]
        counts = [sum(row is None for row in rows) for rows in failures]
        if not windows:
            return self._pass_over()
        parts: dict[str, Tensor] = {}

        def loss_of(features: Sequence[Tensor]) -> Tensor:
            generator = step_generator(self.seed, Stream.LOSS, self.state.epoch, self.state.step)
            values, mask = collate(features, self.detect.num_snippets) if features else (None, None)
            parts.update(
                self.objective(self.detector, windows, values, mask, generator=generator, training=True, counts=counts)
            )
            self._check_finite(parts["loss"])
            return parts["loss"]

        # 2. Back through the detector and, of the sampled snippets, the encoder.
        self.optimizer.zero_grad(set_to_none=True)
        samples = self._samples([window.count for window in windows], self.ranks.own(counts))
        if videos:
            self._backward(videos, loss_of, samples)
        else:
            loss_of([])
            if isinstance(samples, ByGradient):  # the other ranks may ask this one what it has
                samples.draw([], [])
        return self._update(parts | {"steps": torch.ones(())})

    def _samples(self, lengths: Sequence[int], own: range) -> Samples | None:
        """Of so many snippets of each window of all ranks; none: gradients reach all of them."""
        settings = self.settings
        if settings.memory != "sgs":
            return None
        return draw_samples(
            settings.strategy,
            lengths,
            ratio=settings.ratio,
            chunk=settings.chunk,
            generator=step_generator(self.seed, Stream.SNIPPETS, self.state.epoch, self.state.step),
            own=own,
            ranks=self.ranks,
        )

    def _backward(
        self,
        videos: Sequence[Tensor],
        loss_of: Callable[[Sequence[Tensor]], Tensor],
        samples: Samples | None,
    ) -> SgsStep:
        """Go back through all snippets, or through samples of them."""
        settings = self.settings
        if samples is None:
            recompute = settings.memory == "checkpoint"
            return full_step(self.encoder, videos, loss_of, recompute=recompute, autocast=self.autocast)
        return sgs_step(
            self.encoder,
            videos,
            loss_of,
            samples=samples,
            micro_batch=settings.micro_batch,
            # Outputs of the frozen stages are there already where they are kept on disk.
            first_pass_cache=(
                "nothing" if self.clips.frozen and settings.first_pass_cache == "maps" else settings.first_pass_cache
            ),
            recompute=settings.recompute,
            autocast=self.autocast,
            report=self.within_step,
        )

    @property
    def flawed(self) -> dict[str, Failure]:
        """Videos that were trained on as far as they could be decoded."""
        return {
            id: flaw(id, self.clips.files.get(id, Path(id)), f"{lost_frames_text(len(ticks))} (in training)")
            for id, ticks in sorted(self.lost_ticks.items())
        }

    def _check_failing(self) -> None:
        check_failing(self.failed, self.num_videos, allowed=self.settings.failing_share)

    def _validation_loss(self) -> float | None:
        return self.validation_loss()

    def _log(self, *, seconds: float, steps: int) -> dict[str, Any]:
        return {"failed": sorted(self.failed)}

    def _checkpoint(self) -> dict[str, Any]:
        state = detector_checkpoint(self.detector, self.optimizer, self.state, settings=self.detect, origin=self.origin)
        state["failed"] = [failure.as_row() for failure in self.failed.values()]
        state["files"] = self.seen_files.as_rows()
        state["lost_ticks"] = {id: sorted(ticks) for id, ticks in self.lost_ticks.items()}
        return state | encoder_checkpoint(self.encoder, name=self.origin.source["encoder"])

    def _restore(self, saved: Mapping[str, Any]) -> TrainState:
        restore_encoder(self.encoder, saved)
        self.failed |= {row[0]: Failure.of_row(row) for row in saved["failed"]}
        # Checkpoints of older versions say nothing of it.
        self.lost_ticks = {str(id): set(map(int, ticks)) for id, ticks in saved.get("lost_ticks", {}).items()}
        self.seen_files.require_same(saved.get("files", {}), checkpoint=self.last)
        return restore_training_state(saved, self.detector, self.optimizer)
