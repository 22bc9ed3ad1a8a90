"""What an end-to-end run is made from: windows, the detector to start with, the trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ...data.annotations import Annotations
from ...data.digest import file_sha256, tensors_digest, values_digest
from ...data.errors import EtadError
from ...data.precision import choose_dtype, choose_training_dtype
from ...data.progress import progress_bar
from ...data.ranks import ALONE, Ranks
from ...data.video.files import file_stamp
from ...data.video.transforms import crop_size
from ...detect.loading import Batches
from ...detect.model.build import Trained, build_detector, load_detector
from ...detect.model.network import DetectionNetwork
from ...detect.objective import build_objective, mean_loss
from ...detect.run_state import Provenance, Stream, step_generator
from ...detect.settings import DetectSettings
from ...detect.windows import Window, digests_by_video, make_windows, training_classes, windows_digest
from ...extract.augment import ColourJitter, RandAugment
from ...extract.clips import Augmentation, ClipPlan
from ...extract.encoders.encoder import Encoder
from ...extract.frozen import FrozenCache, map_bytes
from ..config import Config
from ..run_folder import RunFolder
from ..settings import E2eSettings
from ..stages.detect import load_any_detector
from ..stages.extract import Sources
from ..stages.infer import note_windows, require_windows
from ..stages.inputs import validation_videos
from ..stages.result import StageNotes
from .checks import check_detector, check_failing, check_frozen_size, check_sampling
from .clips import TrainingClips, probe_snippets
from .features import KeptVideos, encode_in_memory
from .plan import StepPlan, plan_step
from .train import E2eTrainer


@dataclass
class E2eSetup:
    """What training is made from.

    Parameters
    ----------
    bound
        The settings that the run is bound to.
    ranks
        Processes that share the work.
    plan, kept
        Memory of a step, where a budget is set, and what is kept of the videos that are validated on, if anything is;
        `trainer` fills them in.
    """

    config: Config
    run: RunFolder
    sources: Sources
    annotations: Annotations
    device: torch.device
    notes: StageNotes
    bound: Mapping[str, Any]
    ranks: Ranks = ALONE
    plan: StepPlan | None = None
    kept: KeptVideos | None = None

    def trainer(self, encoder: Encoder, weights_sha256: str, start: tuple[Path, Trained] | None) -> E2eTrainer:
        """List the training windows, and set up encoder, detector and optimiser."""
        config, annotations = self.config, self.annotations
        classes = training_classes(annotations, config.data.train_subset)
        detect = config.detect.model_copy(update={"in_channels": encoder.channels})
        plan = ClipPlan(**config.clips.model_dump())

        # 1. Windows of the training videos that can be opened.
        learned = annotations.subset(config.data.train_subset)
        files = {video.id: self.sources.files[video.id] for video in learned if video.id in self.sources.files}
        folder = _folder(config, files)
        stamps = {id: file_stamp(path) for id, path in files.items()}
        snippets, failed = probe_snippets(files, plan, folder=folder, workers=config.workers)
        check_failing({each.video_id: each for each in failed}, len(files), allowed=config.e2e.failing_share)
        readable = [video for video in learned if video.id in snippets.lengths]
        windows, report = make_windows(readable, snippets, settings=detect, classes=classes, training=True)
        note_windows(self.notes, config.data.train_subset, report)
        require_windows(windows, report, config.data.train_subset)
        check_sampling(config, [window.count for window in windows])

        # 2. The detector to start from.
        started, origin = "a fresh detector", f"seed {config.seed}"
        if start is not None:
            check_detector(
                start[1], detect, classes, encoder=config.encoder.name, channels=encoder.channels, path=start[0]
            )
            started, origin = str(start[0]), tensors_digest(start[1].state["model"])
        self.notes.lines.append(f"detector: starts from {started}")
        seed = config.seed
        detector = build_detector(detect, in_channels=encoder.channels, num_classes=len(classes), seed=seed)
        if start is not None:
            detector.load_state_dict(start[1].state["model"])

        # 3. The trainer.
        settings = config.e2e
        augment = Augmentation(
            crop=settings.crop,
            jitter_frames=settings.jitter_frames,
            flip_probability=settings.flip_probability,
            rand_augment=RandAugment(**settings.rand_augment.model_dump()),
            colour_jitter=ColourJitter(**settings.colour_jitter.model_dump()),
            per_video=settings.per_video,
        )
        start_digest = tensors_digest(encoder.state_dict())
        provenance = {
            "config": self.bound,
            "windows": windows_digest(windows),
            "encoder": start_digest,
            "detector": origin,
        }
        clips = config.clips.model_dump(mode="json")
        detector = detector.to(self.device)
        autocast = _autocast(settings.precision, self.device)
        if settings.memory == "sgs" and settings.memory_budget_gib is not None:
            width, height = crop_size(plan.crop)
            self.plan = plan_step(
                settings.model_copy(update={"batch": max(self.ranks.counts(settings.batch))}),
                detect,
                encoder=encoder,
                detector=detector,
                clip=torch.zeros(plan.clip_frames, height, width, 3, dtype=torch.uint8),
                workers=config.workers,
                device=self.device,
                autocast=autocast,
            )
            micro_batch, cached = self.ranks.broadcast([self.plan.micro_batch, self.plan.first_pass_cache])
            settings = settings.model_copy(update={"micro_batch": micro_batch, "first_pass_cache": cached})
        frozen = None
        if settings.cache_frozen:
            frozen = self._frozen_cache(encoder, plan, settings, augment, autocast, windows)
        return E2eTrainer(
            settings,
            detect,
            encoder=encoder,
            detector=detector,
            clips=TrainingClips(
                windows,
                files,
                plan,
                stamps=stamps,
                augment=augment,
                seed=config.seed,
                workers=config.workers,
                frozen=frozen,
                draws=max(settings.cache_frozen, 1),
                digests=_digests(files) if frozen else None,
            ),
            failed=failed,
            validation_loss=lambda: self.validation_loss(encoder, detector, detect, classes),
            origin=Provenance(
                in_channels=encoder.channels,
                classes=classes,
                source={"encoder": config.encoder.name, "weights_sha256": weights_sha256, "clips": clips},
                config_digest=values_digest(provenance),
                seed=config.seed,
                made_from={
                    "other settings": values_digest(self.bound),
                    "other weights of the encoder": start_digest,
                    "another detector to start from": origin,
                },
                windows=digests_by_video(windows),
            ),
            folder=self.notes.folder,
            device=self.device,
            autocast=autocast,
            ranks=self.ranks,
        )

    def _frozen_cache(
        self,
        encoder: Encoder,
        plan: ClipPlan,
        settings: E2eSettings,
        augment: Augmentation,
        autocast: torch.dtype | None,
        windows: Sequence[Window],
    ) -> FrozenCache:
        """Where outputs of the frozen stages are kept, once they are known to fit."""
        folder = self.run.files("e2e").frozen
        width, height = crop_size(plan.crop)
        clip = torch.zeros(plan.clip_frames, height, width, 3, dtype=torch.uint8)
        snippets = sum(window.count for window in windows)
        validated = self.validated_snippets(plan)
        line = check_frozen_size(
            settings, snippets=snippets, validated=validated, snippet_bytes=map_bytes(encoder, clip), folder=folder
        )
        self.notes.lines.append(line)
        self.ranks.wait()  # none removes what another one is still counting
        source = {
            "encoder": self.config.encoder.name,
            "clips": plan.describe(),
            "augment": asdict(augment),
            "seed": self.config.seed,
        }
        cache = FrozenCache(encoder, folder, source=source, micro_batch=settings.micro_batch, autocast=autocast)
        dtype = choose_dtype(self.config.encoder.precision, self.device)
        kept = KeptVideos(
            FrozenCache(
                encoder,
                folder / "validation",
                source=source | {"augment": None},
                micro_batch=self.config.extract.batch_clips,
                autocast=None if dtype == torch.float32 else dtype,
            )
        )
        self.kept = kept if validated else None
        self.ranks.wait()  # none writes before all have cleared away what was left half written, or is stale
        return cache

    def validated_snippets(self, plan: ClipPlan) -> int:
        """How many snippets the videos have that are validated on after each epoch; those that cannot be opened: 0."""
        files = self._validation_files()
        if not files:
            return 0
        return sum(probe_snippets(files, plan, folder=Path(), workers=self.config.workers)[0].lengths.values())

    def forget_frozen(self, trainer: E2eTrainer) -> None:
        """Remove what is kept of the frozen stages."""
        for cache in (trainer.clips.frozen, None if self.kept is None else self.kept.frozen):
            if cache is not None:
                cache.keep_only(())

    def _validation_files(self) -> dict[str, Path]:
        if not self.config.e2e.validate_epochs:
            return {}
        kept_apart = validation_videos(self.config, self.annotations)
        return {video.id: self.sources.files[video.id] for video in kept_apart if video.id in self.sources.files}

    def validation_loss(
        self, encoder: Encoder, detector: DetectionNetwork, detect: DetectSettings, classes: tuple[str, ...]
    ) -> float | None:
        """Encode the validation subset with the encoder as it is now, and measure the loss on it."""
        config, files = self.config, self._validation_files()
        if not files:
            return None
        features, failed, flawed = encode_in_memory(
            files,
            encoder=encoder,
            title="e2e: validate",
            ranks=self.ranks,
            kept=self.kept,
            **encoding(config, files, self.device),
        )
        self.notes.failed |= {failure.video_id: failure for failure in failed}
        self.notes.flawed |= {flaw.video_id: flaw for flaw in flawed}
        if not features.ids:
            return None
        windows, _ = make_windows(
            [video for video in validation_videos(config, self.annotations) if video.id in features.features],
            features,
            settings=detect,
            classes=classes,
            training=False,
        )
        return mean_loss(
            build_objective(detect, self.ranks),
            detector,
            windows,
            Batches(windows, features, settings=detect, workers=0, memory_gib=0.0).of,
            batch=detect.training.batch,
            device=self.device,
            generator_of=lambda number: step_generator(config.seed, Stream.VALIDATION, number),
        )


def find_detector(
    config: Config, run: RunFolder, named: Path | None, annotations: Annotations
) -> tuple[Path, Trained] | None:
    """The detector to start from: the one named, else the run's own; none: a fresh one.

    Raises
    ------
    EtadError
        One is named where the config wants a fresh one, or the run's own is half trained.
    """
    if named is not None:
        if config.e2e.start == "scratch":
            raise EtadError(
                f"--init-detector {named} names a detector to start from, and e2e.start=scratch wants a fresh one. "
                "Leave the option out, or set e2e.start=detector."
            )
        return named, load_any_detector(named, config, annotations)
    path = run.files("detect").checkpoint(config.detect.inference.checkpoint)
    if config.e2e.start == "scratch" or not path.exists():
        return None
    found = load_detector(path)
    if found.state["position"]["epoch"] < found.settings.training.epochs:
        raise EtadError(
            f"{path}: the run's detector is only half trained. Finish it with `etad detect`, name a checkpoint with "
            "--init-detector, or set e2e.start=scratch."
        )
    return path, found


def encoding(config: Config, files: Mapping[str, Path], device: torch.device) -> dict[str, Any]:
    """How videos are encoded outside training: exactly as `extract` does."""
    return {
        "plan": ClipPlan(**config.clips.model_dump()),
        "dtype": choose_dtype(config.encoder.precision, device),
        "batch_clips": config.extract.batch_clips,
        "workers": config.workers,
        "folder": _folder(config, files),
        "device": device,
    }


def _folder(config: Config, files: Mapping[str, Path]) -> Path:
    return config.data.videos or next(iter(files.values()), Path()).parent


def _autocast(precision: str, device: torch.device) -> torch.dtype | None:
    dtype = choose_training_dtype(precision, device)
    return None if dtype == torch.float32 else dtype


def _digests(files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each video file."""
    bar = progress_bar("e2e: digests", files.items(), unit="video", delay=1)
    return {id: file_sha256(path) for id, path in bar}
