"""What end-to-end training will take, and what keeping the frozen stages' outputs gains, by what is timed here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...data.annotations import Annotations
from ...data.errors import EtadError, counted, listing
from ...data.progress import PartBar
from ...data.video.transforms import sample_generator
from ...detect.sampling.population import sample_size
from ...extract.clips import read_clips
from ...extract.frozen import FrozenCache, map_bytes
from ..config import Config, override
from ..device import threads_for
from ..run_folder import RunFolder
from ..stages.extract import Sources
from ..stages.plan import duration_text, least_seconds, steps_done
from .checks import check_frozen_size
from .full_step import full_step
from .plan import StepPlan, detector_step, feature_sum, plan_step
from .setup import E2eSetup
from .sgs import sgs_step
from .stage import prepare
from .train import E2eTrainer

# Snippets of a window on which everything is timed.
_SNIPPETS = 16
# What is timed on a machine that does other things, too, differs by as much.
_SAME_SHARE = 1.1


@dataclass(frozen=True, kw_only=True)
class SnippetSeconds:
    """Seconds that a snippet of a training window takes, by what is done to it.

    Parameters
    ----------
    decode
        From the file to frames.
    learn
        Encoded from its frames, and learned from.
    keep
        Sent through the frozen stages, their outputs written.
    read
        Those outputs read again, from memory: of more than that holds, the disk decides.
    learn_from_kept
        Encoded from them, and learned from.
    encode, encode_from_kept
        Encoded alone, as for validation, from frames and from what is kept.
    """

    decode: float
    learn: float
    encode: float
    keep: float = 0.0
    read: float = 0.0
    learn_from_kept: float = 0.0
    encode_from_kept: float = 0.0

    @property
    def plain(self) -> float:
        """Where nothing is kept."""
        return self.decode + self.learn

    @property
    def first(self) -> float:
        """In an epoch that fills what is kept."""
        return self.decode + self.keep + self.learn_from_kept

    @property
    def later(self) -> float:
        """In an epoch that reads it."""
        return self.read + self.learn_from_kept


@dataclass(frozen=True)
class TrainingCost:
    """What a training will take.

    Parameters
    ----------
    windows, steps, epochs, done_epochs
        Training windows; steps and epochs that are left, and epochs that lie behind.
    snippets, validated
        Of all training windows, and of the videos that are validated on after each epoch.
    detector_seconds
        Of a step, in the detector alone.
    draws
        In how many draws of augmentation outputs of the frozen stages are kept; 0: they are not.
    kept_text
        What they take; empty: nothing is frozen, or it would gain nothing.
    step
        Memory of a step.
    unreadable
        Training videos that cannot be opened.
    """

    windows: int
    steps: int
    epochs: int
    done_epochs: int
    snippets: int
    of_snippet: SnippetSeconds
    detector_seconds: float
    draws: int
    kept_text: str
    step: StepPlan
    validated: int = 0
    unreadable: tuple[str, ...] = ()

    def seconds(self, draws: int) -> float:
        """Of all epochs that are left, validation with them, where so many draws are kept; 0: nothing is."""
        of, epochs = self.of_snippet, self.epochs
        if not draws:
            encoder, validation = epochs * of.plain, epochs * (of.decode + of.encode)
        else:
            filling = min(max(draws - self.done_epochs, 0), epochs)
            encoder = filling * of.first + (epochs - filling) * of.later
            first = min(max(1 - self.done_epochs, 0), epochs)  # nothing is drawn for validation
            validation = first * (of.decode + of.keep) + (epochs - first) * of.read + epochs * of.encode_from_kept
        return self.snippets * encoder + self.validated * validation + self.steps * self.detector_seconds

    def lines(self) -> list[str]:
        """One line a part.

        Raises
        ------
        EtadError
            Outputs of the frozen stages are to be kept, and training takes no less time for it.
        """
        whole, of = self.seconds(self.draws), self.of_snippet
        if not self.steps:
            return ["train: every epoch is done; a larger e2e.epochs trains on"]
        validation = (
            f", validation on {counted(self.validated, 'snippet')} after each counted" if self.validated else ""
        )
        lines = [
            f"train: {counted(self.steps, 'step')} in {counted(self.epochs, 'epoch')} of "
            f"{counted(self.windows, 'window')}, about {duration_text(whole)}{validation}; inference not",
            f"a snippet takes {1000 * of.decode:.3g} ms to decode and {1000 * of.learn:.3g} ms to encode and learn "
            f"from; a step {1000 * self.detector_seconds:.3g} ms in the detector",
            self.step.text(),
        ]
        if self.unreadable:
            count = counted(len(self.unreadable), "training video")
            lines.insert(0, f"{count} left out that cannot be opened: {listing(self.unreadable)}")
        if not self.kept_text:
            return lines
        draws = self.draws or 1
        kept, plain = self.seconds(draws), self.seconds(0)
        if not self.draws:
            if kept < plain:
                lines.append(
                    f"with e2e.cache_frozen=1, which shows every epoch the same crops, about {duration_text(kept)}: "
                    f"{self.kept_text}"
                )
            return lines
        each = f"{1000 * of.later:.3g} ms a snippet from what is kept, {1000 * of.plain:.3g} ms from its frames"
        if kept >= _SAME_SHARE * plain:
            raise EtadError(
                f"e2e.cache_frozen={draws} loses: {each}, in all about {duration_text(kept)} instead of "
                f"{duration_text(plain)}. Set e2e.cache_frozen=0."
            )
        saved = f"about {duration_text(plain - kept)} of {duration_text(plain)}" if kept < plain else "nothing"
        lines += [self.kept_text, f"that saves {saved}: {each}"]
        return lines


def plan_e2e(
    config: Config,
    run: RunFolder,
    *,
    sources: Sources,
    annotations: Annotations,
    device: torch.device,
    init_detector: Path | None = None,
    weights: Path | None = None,
    scores: Path | None = None,
) -> TrainingCost:
    """Measure, on a piece of a training window, what training will take; nothing is written to the run.

    Parameters
    ----------
    init_detector, weights, scores
        See `run_e2e`.

    Raises
    ------
    EtadError
        What `run_e2e` would refuse before training begins.
    """
    run.require_same("e2e", config)
    start = prepare(
        config,
        run,
        sources=sources,
        annotations=annotations,
        device=device,
        init_detector=init_detector,
        weights=weights,
        scores=scores,
    )
    settings, encoder = config.e2e, start.encoder
    setup = E2eSetup(
        override(config, "e2e.cache_frozen=0"), run, sources, annotations, device, start.notes, config.to_tree()
    )
    trainer = setup.trainer(encoder, start.weights_sha256, start.detector)
    windows = trainer.clips.windows
    done_epochs, done_steps = steps_done(trainer.last)
    keeps = settings.memory == "sgs" and encoder.frozen_stages >= 0
    with PartBar("e2e: plan", unit="part", total=3) as bar, threads_for(encoder):
        decode, frames = _decoded(trainer, config.seed)
        bar.finish_one()
        step = setup.plan or plan_step(
            settings,
            trainer.detect,
            encoder=encoder,
            detector=trainer.detector,
            clip=frames[0],
            workers=config.workers,
            device=device,
            autocast=trainer.autocast,
        )
        bar.finish_one()
        of_snippet = _timed(trainer, frames, decode, keeps=keeps)
        batch, channels = settings.batch, encoder.channels
        detector_seconds = least_seconds(
            lambda: detector_step(trainer.detector, trainer.detect, channels=channels, batch=batch, device=device)
        )
        bar.finish_one()
    snippets, kept_text = sum(window.count for window in windows), ""
    validated = setup.validated_snippets(trainer.clips.plan)
    if keeps and (settings.cache_frozen or settings.epochs > 1):
        asked = settings if settings.cache_frozen else settings.model_copy(update={"cache_frozen": 1})
        size, folder = map_bytes(encoder, frames[0]), run.files("e2e").frozen
        try:
            kept_text = check_frozen_size(
                asked, snippets=snippets, validated=validated, snippet_bytes=size, folder=folder
            )
        except EtadError:
            if settings.cache_frozen:
                raise
    return TrainingCost(
        windows=len(windows),
        steps=max(trainer.num_steps - done_epochs * trainer.steps_per_epoch - done_steps, 0),
        epochs=max(settings.epochs - done_epochs, 0),
        done_epochs=done_epochs,
        snippets=snippets,
        of_snippet=of_snippet,
        detector_seconds=detector_seconds,
        draws=settings.cache_frozen,
        kept_text=kept_text,
        step=step,
        validated=validated,
        unreadable=tuple(sorted(trainer.failed)),
    )


def _decoded(trainer: E2eTrainer, seed: int) -> tuple[float, Tensor]:
    """Seconds that a snippet takes to decode, and frames, uint8 (T, L, H, W, 3), of the first window that can be read.

    Raises
    ------
    EtadError
        None can be read.
    """
    clips, reason = trainer.clips, ""
    for window in clips.windows:
        count = min(window.count, _SNIPPETS)
        name = f"{window.cache_id} {window.first}"
        started = time.monotonic()
        try:
            frames, _ = read_clips(
                clips.files[window.cache_id],
                clips.plan,
                augment=clips.augment,
                generator=sample_generator(seed, 0, name),
                first=window.first,
                count=count,
            )
        except EtadError as error:
            reason = str(error)
            continue
        return (time.monotonic() - started) / count, torch.from_numpy(frames)
    raise EtadError(f"no training window can be read; the last one: {reason}")


def _timed(trainer: E2eTrainer, frames: Tensor, decode: float, *, keeps: bool) -> SnippetSeconds:
    """Time what is done to the frames of a piece of a window, uint8 (T, L, H, W, 3)."""
    encoder, count = trainer.encoder, len(frames)
    learn, encode = _learning_seconds(trainer, frames) / count, _encoding_seconds(trainer, frames) / count
    if not keeps:
        return SnippetSeconds(decode=decode, learn=learn, encode=encode)
    # Not where the run keeps them: a plan writes nothing there.
    with tempfile.TemporaryDirectory() as folder:
        micro_batch = trainer.settings.micro_batch
        cache = FrozenCache(encoder, Path(folder), source={}, micro_batch=micro_batch, autocast=trainer.autocast)
        key = cache.entry("", window=(0, count), sample="", draw=0)
        maps = cache.encode(frames)
        keep = least_seconds(lambda: cache.save(key, cache.encode(frames), set()))
        read = least_seconds(lambda: cache.load(key))
    return SnippetSeconds(
        decode=decode,
        learn=learn,
        encode=encode,
        keep=keep / count,
        read=read / count,
        learn_from_kept=_learning_seconds(trainer, maps) / count,
        encode_from_kept=_encoding_seconds(trainer, maps) / count,
    )


def _learning_seconds(trainer: E2eTrainer, values: Tensor) -> float:
    """Seconds that encoding and going back takes of a piece of a window, frames or what is kept of frozen stages."""
    settings = trainer.settings
    if settings.memory != "sgs":
        recompute = settings.memory == "checkpoint"
        whole = least_seconds(
            lambda: full_step(trainer.encoder, [values], feature_sum, recompute=recompute, autocast=trainer.autocast)
        )
    else:
        # A share of a piece would round; of a whole window it hardly does.
        length = trainer.detect.num_snippets
        share = sample_size(settings.strategy, length, settings.ratio, chunk=settings.chunk) / length
        none = _encoding_seconds(trainer, values)
        whole = none + share * max(least_seconds(_sampled(trainer, values, len(values))) - none, 0.0)
    trainer.encoder.zero_grad(set_to_none=True)
    return whole


def _encoding_seconds(trainer: E2eTrainer, values: Tensor) -> float:
    """Seconds that encoding a piece of a window takes, without going back."""
    return least_seconds(_sampled(trainer, values, 0))


def _sampled(trainer: E2eTrainer, values: Tensor, count: int) -> Callable[[], object]:
    """A step of gradient sampling that learns from the first so many snippets."""
    settings = trainer.settings
    return lambda: sgs_step(
        trainer.encoder,
        [values],
        feature_sum,
        samples=[torch.arange(count)],
        micro_batch=settings.micro_batch,
        first_pass_cache="nothing" if values.dtype == torch.float16 else settings.first_pass_cache,
        recompute=settings.recompute,
        autocast=trainer.autocast,
    )
