"""The pretrain stage of a run: an encoder learns to classify actions; extraction takes its checkpoint (Table 7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import __version__
from ...data.checkpoint import OPTIMIZER, TENSORS, load_checkpoint, naming_contents, require_form, save_checkpoint
from ...data.digest import values_digest
from ...data.errors import EtadError, counted, shown
from ...data.files.atomic import write_json
from ...data.interrupts import holding_signals
from ...data.progress import StepBar, progress_bar
from ...data.video.seen import SeenFiles
from ...detect.loop import build_optimizer, check_finite, restoring_buffers, run_training, update
from ...detect.run_state import restore_optimizer
from ...extract.clips import Failure
from ...extract.encoders.encoder import Encoder, encoder_spec
from ...extract.prefetch import in_order
from ...extract.settings import PretrainSettings
from ...extract.weights.adapters import encoder_state, restore_encoder
from ...extract.weights.load import encoder_checkpoint
from ...extract.weights.packaged import packaged_weights
from ..config import Config
from ..device import threads_for
from ..manifest import noting
from ..run_folder import RunFolder
from .extract import fill_encoder, random_encoder, require_single_encoder
from .pretrain_clips import ClipSource, annotated_clips, drawn_clips
from .result import StageResult

FORMAT = "etad-encoder"

# What pretraining goes on from, in a checkpoint.
_TRAINER = {
    "encoder": TENSORS,
    "head": TENSORS,
    "optimizer": OPTIMIZER,
    "position": {"step": int, "loss": float, "accuracy": float},
}
# A shorter memory of squared gradients than AdamW's usual 0.999: random weights then leave their plateau sooner.
_BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class PretrainReport:
    """What pretraining did.

    Parameters
    ----------
    path
        The encoder's checkpoint.
    accuracy
        Share of held-out clips that are classified right; none where there are none.
    chance
        What guessing one class for all of them would reach.
    steps
        Steps taken now; 0 where it was done before.
    failed, flawed
        Videos that could not be used, and those of which frames that were due could not be decoded rightly.
    """

    path: Path
    labels: tuple[str, ...]
    accuracy: float | None
    chance: float | None
    steps: int
    failed: tuple[Failure, ...] = ()
    flawed: tuple[Failure, ...] = ()

    def text(self) -> str:
        """Word it in one line."""
        text = f"{self.path}: {counted(len(self.labels), 'class')}"
        if self.accuracy is not None and self.chance is not None:
            text += f", {self.accuracy:.1%} of held-out clips right (one class for all: {self.chance:.1%})"
        return text + ("" if self.steps else "; done before")


def pretrain(config: Config, run: RunFolder, *, device: torch.device, weights: Path | None = None) -> StageResult:
    """Pretrain the run's encoder on its annotated videos, or on clips of the synthetic source set.

    Raises
    ------
    EtadError
        There are no videos or annotations, or no weights to start from.
    """
    require_single_encoder(config)
    source, origin = drawn_clips(config) if config.pretrain.source == "synthetic" else annotated_clips(config)
    settings = config.encoder
    encoder = random_encoder(
        settings.name, seed=config.seed, clip_frames=config.clips.clip_frames, adapter=settings.adapter
    )
    start = weights or settings.weights or packaged_weights(settings.name)
    if settings.adapter != "none":
        origin["adapter"] = settings.adapter
    if start is not None:
        origin["weights"], _ = fill_encoder(encoder, start, config, run)
    elif settings.init == "weights" and (config.pretrain.source == "videos" or settings.adapter != "none"):
        raise EtadError(
            f"{encoder_spec(config.encoder.name).weights_wanted()} "
            "To pretrain from scratch all the same, set encoder.init=random."
        )
    inputs = {"annotations": config.data.annotations if config.pretrain.source == "videos" else None}
    digests = {"weights": str(origin["weights"])} if "weights" in origin else {}
    with (
        run.bind("pretrain", config),
        noting(run, "pretrain", config, device=device, files=inputs, digests=digests) as entry,
    ):
        report = train(
            config.pretrain,
            encoder=encoder,
            encoder_name=config.encoder.name,
            clip_frames=config.clips.clip_frames,
            source=source,
            out=run.pretrain,
            seed=config.seed,
            device=device,
            workers=config.workers,
            origin=values_digest(origin),
            accepted=partial(run.remember, config, "pretrain"),
        )
        entry["failed"] = len(report.failed)
    return StageResult(report.path, failed=report.failed, flawed=report.flawed, summary=report.text())


def train(
    settings: PretrainSettings,
    *,
    encoder: Encoder,
    encoder_name: str,
    clip_frames: int,
    source: ClipSource,
    out: Path,
    seed: int,
    device: torch.device,
    workers: int,
    origin: str,
    accepted: Callable[[], None] = lambda: None,
) -> PretrainReport:
    """Train an encoder with a linear classifier on top; goes on where it stopped, and does nothing if it is done.

    Parameters
    ----------
    encoder
        With the weights to start from; holds the trained ones in the end.
    source
        Where clips come from.
    out
        Folder; gets `encoder.pt`, `metrics.json` and, on the way, `last.pt`.
    workers
        Threads that read clips ahead.
    origin
        Digest of what else the result depends on (weights to start from, clips): a state of another origin is refused.
    accepted
        Called when it is known that the folder's state goes with the settings, weights and clips.

    Raises
    ------
    EtadError
        The loss is not finite, or the folder's state was made with other settings, weights or clips.
    """
    trainer = _Trainer(settings, encoder, num_classes=len(source.labels), seed=seed, device=device)
    provenance = {
        "encoder": encoder_name,
        "origin": origin,
        "labels": list(source.labels),
        "seed": seed,
        "settings": settings.model_dump(mode="json", exclude={"checkpoint_seconds"}),
    }
    final, last = out / "encoder.pt", out / "last.pt"
    seen = SeenFiles(source.files)
    if final.exists():
        saved = _load(final, provenance, seen)
        require_form(final, saved, {"encoder": TENSORS})
        with naming_contents(final):
            restore_encoder(encoder, saved)
            accuracy, chance = (None if saved[name] is None else float(saved[name]) for name in ("accuracy", "chance"))
        accepted()
        return PretrainReport(final, source.labels, accuracy, chance, steps=0)
    if last.exists():
        saved = _load(last, provenance, seen)
        require_form(last, saved, {"trainer": _TRAINER})
        with naming_contents(last):
            trainer.load(saved["trainer"])
    accepted()

    # 1. Train, saving the state now and then.
    first, made = trainer.position, {"format": FORMAT, "made_with": provenance, "files": seen.as_rows()}
    trainer.read = lambda: _ahead(source.batch, trainer.position, settings.steps, settings.batch_clips, workers)
    trainer.write = lambda: save_checkpoint(last, made | {"trainer": trainer.state()})
    with (
        threads_for(encoder),
        StepBar(
            "pretrain",
            done=first,
            total=settings.steps,
            describe=lambda _: f"loss {trainer.loss:.3f}, accuracy {trainer.accuracy:.2f}",
        ) as bar,
    ):
        run_training(trainer, checkpoint_seconds=settings.checkpoint_seconds, progress=bar)
    seen.require_unchanged()

    # 2. Measure on clips that were never trained on.
    accuracy, chance = _measure(trainer, source, settings, workers)

    # 3. The encoder's checkpoint is written last: where it is, pretraining is done.
    write_json(out / "metrics.json", {"accuracy": accuracy, "chance": chance, "labels": source.labels}, indent=1)
    content = {
        "clip_frames": clip_frames,
        "labels": list(source.labels),
        "head": trainer.head.state_dict(),
        "accuracy": accuracy,
        "chance": chance,
        "config": settings.model_dump(mode="json"),
        "version": __version__,
    }
    encoder.eval()
    save_checkpoint(final, made | content | encoder_checkpoint(encoder, name=encoder_name))
    last.unlink(missing_ok=True)
    failed, flawed = tuple(source.failures.values()), tuple(source.flawed.values())
    return PretrainReport(final, source.labels, accuracy, chance, settings.steps - first, failed, flawed)


class _Trainer:
    """Encoder, classifier and optimiser, step by step."""

    def __init__(
        self, settings: PretrainSettings, encoder: Encoder, *, num_classes: int, seed: int, device: torch.device
    ) -> None:
        self.settings, self.device = settings, device
        self.encoder = encoder.to(device).freeze(settings.frozen_stages, bn_training=True)
        self.head = nn.Linear(encoder.channels, num_classes)
        # Small weights from our own generator: every class starts about as likely, the same on every run.
        nn.init.normal_(self.head.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(self.head.bias)
        self.head.to(device)
        trained = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(
            [{"params": [*trained, *self.head.parameters()], "lr": settings.lr}],
            kind="adamw",
            weight_decay=settings.weight_decay,
            betas=_BETAS,
        )
        self.position, self.num_steps = 0, settings.steps
        # Where clips come from, and where the state goes: set by whoever runs the training.
        self.read: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]] = lambda: iter(())
        self.write: Callable[[], object] = lambda: None
        # Running means over about fifty steps, for the progress bar.
        self.loss, self.accuracy = math.log(num_classes), 1 / num_classes

    @property
    def is_done(self) -> bool:
        return self.position >= self.num_steps

    def epoch_batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All the clips that are left: pretraining is one long epoch."""
        self.encoder.train()
        yield from self.read()

    def step(self, batch: tuple[np.ndarray, np.ndarray]) -> float:
        """Take one step on clips, uint8 (N, L, H, W, 3), and their classes, (N,)."""
        clips, classes = batch
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        wanted = torch.from_numpy(classes).to(self.device)
        with restoring_buffers(self.encoder) as kept:
            logits = self.logits(clips)
            loss = F.cross_entropy(logits, wanted, label_smoothing=self.settings.label_smoothing)
            advice = f"Lower pretrain.lr={self.settings.lr:g}, or check the weights that it started from."
            check_finite(loss, f"step {self.position + 1}", advice)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            value, right = loss.item(), (logits.argmax(dim=1) == wanted).float().mean().item()
            with holding_signals():
                update(self.optimizer)
                self.position += 1
                self.loss += 0.02 * (value - self.loss)
                self.accuracy += 0.02 * (right - self.accuracy)
                kept.clear()
        return value

    def end_epoch(self, *, seconds: float, steps: int) -> None:
        """Nothing: what is measured in the end is measured once."""

    def save(self) -> None:
        """Write the state to go on from."""
        self.write()

    def logits(self, clips: np.ndarray) -> Tensor:
        """Classify clips, uint8 (N, L, H, W, 3), as (N, classes)."""
        return self.head(self.encoder(self.encoder.normalise(torch.from_numpy(clips).to(self.device))))

    def state(self) -> dict[str, Any]:
        """Everything that going on needs."""
        return {
            **encoder_state(self.encoder),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": {"step": self.position, "loss": self.loss, "accuracy": self.accuracy},
        }

    def load(self, state: dict[str, Any]) -> None:
        restore_encoder(self.encoder, state)
        self.head.load_state_dict(state["head"])
        restore_optimizer(self.optimizer, state["optimizer"])
        position = state["position"]
        self.position, self.loss, self.accuracy = position["step"], position["loss"], position["accuracy"]

    def _rate(self) -> float:
        settings = self.settings
        cosine = 0.5 * (1 + math.cos(math.pi * self.position / settings.steps))
        return settings.lr * cosine * min(1.0, (self.position + 1) / (settings.warmup_steps + 1))


@torch.no_grad()
def _measure(
    trainer: _Trainer, source: ClipSource, settings: PretrainSettings, workers: int
) -> tuple[float | None, float | None]:
    """Accuracy on held-out clips, and the share of the commonest class among them."""
    if not source.can_measure:
        return None, None
    trainer.encoder.eval()
    batches = math.ceil(settings.held_out_clips / settings.batch_clips)
    right, counts = 0, np.zeros(len(source.labels), dtype=np.int64)
    read = _ahead(source.held_out, 0, batches, settings.batch_clips, workers)
    for clips, classes in progress_bar("pretrain: test", read, unit="batch", total=batches):
        right += int((trainer.logits(clips).argmax(dim=1).cpu().numpy() == classes).sum())
        counts += np.bincount(classes, minlength=len(counts))
    return right / int(counts.sum()), int(counts.max()) / int(counts.sum())


def _ahead(
    batch: Callable[[int, int], tuple[np.ndarray, np.ndarray]], first: int, stop: int, num_clips: int, workers: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches first .. stop - 1, read by threads ahead of their use."""
    numbers = ((number,) for number in range(first, stop))
    yield from in_order(lambda number: [map(batch, (number,), (num_clips,))], numbers, workers=workers, ahead=1)


def _differences(made_with: object, provenance: Mapping[str, Any]) -> str:
    """In what a state was made with something else than is asked for."""
    if not isinstance(made_with, Mapping):
        return "other settings, weights or clips than those asked for"
    before = made_with.get("settings")
    changed = [
        f"pretrain.{key}={shown(before.get(key))}, not {shown(value)}"
        for key, value in provenance["settings"].items()
        if isinstance(before, Mapping) and before.get(key) != value
    ]
    words = {
        "encoder": f"encoder {shown(made_with.get('encoder'))}, not {shown(provenance['encoder'])}",
        "origin": "other weights to start from, or other clips",
        "labels": "other classes",
        "seed": f"seed={shown(made_with.get('seed'))}, not {shown(provenance['seed'])}",
    }
    changed += [said for key, said in words.items() if made_with.get(key) != provenance[key]]
    return "; ".join(changed) or "other settings"


def _load(path: Path, provenance: dict[str, Any], seen: SeenFiles) -> dict[str, Any]:
    saved = load_checkpoint(path)
    if saved.get("format") != FORMAT or saved.get("made_with") != provenance:
        found = _differences(saved.get("made_with"), provenance)
        raise EtadError(
            f"{path}: this encoder was pretrained with {found}. Set back what it was made with, or choose another run "
            "folder with -o."
        )
    with naming_contents(path):
        seen.require_same(saved.get("files", {}), checkpoint=path)
    return saved
