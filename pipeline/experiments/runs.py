"""One run of a grid: a cell at a seed, done stage by stage, each of which does only what is missing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...data.cache.cache import FeatureCache
from ...data.digest import values_digest
from ...data.errors import EtadError, is_out_of_memory
from ...data.files.atomic import open_to_append, write_json
from ...data.files.json_file import read_json
from ..config import Config, override
from ..device import choose_device
from ..e2e.stage import run_e2e
from ..run_folder import RunFolder
from ..stages.detect import detect
from ..stages.extract import extract, find_sources
from ..stages.inputs import read_data
from ..stages.pretrain import pretrain
from ..stages.result import StageResult
from .grid import BASE, Cell, CellStage
from .step_memory import step_bytes
from .synthetic_set import ensure_synthetic_set

# Settings that say where files lie and who computes, not what.
_OF_THE_PLACE = {"data", "device", "workers"}
# Under this name the drawing of videos is timed, as stages are.
_DRAWING = "drawing"
# To be raised where a step is measured otherwise.
_MEMORY_VERSION = 2


@dataclass(frozen=True)
class Inputs:
    """Files that are named beside the config.

    Parameters
    ----------
    weights
        Of the encoder; none: those of the config, or pretrained on the synthetic source set.
    features
        A cache of the data set's features; none: they are extracted.
    scores
        Video-level class scores.
    """

    weights: Path | None = None
    features: Path | None = None
    scores: Path | None = None


@dataclass(frozen=True)
class Job:
    """A cell at a seed.

    Parameters
    ----------
    config
        Of the seed; without annotations, a synthetic set is drawn.
    chain
        The cells that it comes after, nearest first.
    folder
        Of the seed; the runs of the table lie there.
    home
        Of the seed; the drawn data and the base lie there, which tables may share, and beside it what all seeds do.
    """

    config: Config
    cell: Cell
    chain: tuple[Cell, ...]
    folder: Path
    home: Path
    inputs: Inputs

    @property
    def run(self) -> RunFolder:
        return self.run_of(self.cell)

    def run_of(self, cell: Cell) -> RunFolder:
        if cell.of_all_seeds:
            return RunFolder(self.home.parent / cell.folder)
        return RunFolder((self.home if cell.folder == BASE else self.folder) / cell.folder)

    def beside(self, ending: str) -> Path:
        """A file beside the run folder."""
        return self.run.path.with_name(self.run.path.name + ending)

    def last_with(self, stage: str) -> RunFolder | None:
        """The nearest run, this one or one that it comes after, that does a stage."""
        return next((self.run_of(cell) for cell in (self.cell, *self.chain) if stage in cell.stages), None)


@dataclass(frozen=True)
class Measured:
    """What a run came to.

    Parameters
    ----------
    average_mAP, mAP
        Fractions; by tIoU. None and empty where nothing is measured.
    seconds
        That it took; none where it was interrupted, and nobody knows.
    memory_bytes
        Of a training step.
    left_out
        Videos that it went without.
    failed
        Why it came to nothing; empty: it did not fail.
    """

    average_mAP: float | None = None
    mAP: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    memory_bytes: int | None = None
    left_out: tuple[str, ...] = ()
    failed: str = ""


def run_job(job: Job) -> Measured:
    """Do one run; its bars go to a file beside it, for several at a time would mix on the screen."""
    job.run.path.parent.mkdir(parents=True, exist_ok=True)
    with open_to_append(job.beside(".log")) as log, contextlib.redirect_stderr(log):
        try:
            return _measured(job)
        except EtadError as error:
            log.write(f"{error}\n")
            return Measured(failed=str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return Measured(failed="out of memory")


def _measured(job: Job) -> Measured:
    config, clock = job.config, Clock(job)
    if config.data.annotations is None:
        with clock.timing(_DRAWING):
            config = ensure_synthetic_set(config, job.home / "data")
    config = override(config, *job.cell.sets)
    results = _run_stages(job, config, clock)
    measured = next((result.evaluation for result in reversed(results) if result.evaluation is not None), None)
    if measured is None and {"detect", "infer", "e2e"} & set(job.cell.stages):
        results[-1].measured()  # complains
    return Measured(
        average_mAP=None if measured is None else measured.average_mAP,
        mAP={} if measured is None else {f"{tiou:g}": value for tiou, value in zip(measured.tious, measured.mAP)},
        seconds=clock.seconds,
        memory_bytes=_memory(job, config) if job.cell.memory else None,
        left_out=tuple(sorted({id for result in results for id in result.left_out})),
    )


class Clock:
    """What each stage of a run took, noted beside it once for its settings.

    A stage that was interrupted has no figure from then on, for nobody knows; nor has one of a run that was begun with
    other settings, or before anything was noted. One that is there already takes no time, which is no news.
    """

    def __init__(self, job: Job) -> None:
        config = override(job.config, *job.cell.sets)
        settings, is_begun = config.to_tree(), job.run.path.exists()
        digest = values_digest({name: settings[name] for name in settings.keys() - _OF_THE_PLACE})
        self._path, self._own = job.beside(".seconds.json"), {_DRAWING, *job.cell.stages}
        known = _noted(self._path)
        is_ours = isinstance(known, dict) and known.get("settings") == digest and isinstance(known.get("stages"), dict)
        unknown = dict.fromkeys(self._own) if is_begun else {}
        self._known: dict[str, Any] = known if is_ours else {"settings": digest, "stages": unknown}

    @contextlib.contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Time the block, where the stage was not begun before."""
        stages = self._known["stages"]
        if stage in stages:
            yield
            return
        stages[stage] = None
        write_json(self._path, self._known)
        started = time.monotonic()
        yield
        stages[stage] = time.monotonic() - started
        write_json(self._path, self._known)

    @property
    def seconds(self) -> float | None:
        """Of all stages of the cell; None where one has no figure."""
        found = [seconds for stage, seconds in self._known["stages"].items() if stage in self._own]
        return sum(found) if all(isinstance(each, float) for each in found) else None


def _noted(path: Path) -> Any:
    """What was noted beside a run; None where nothing was, or it is damaged."""
    with contextlib.suppress(EtadError):
        return read_json(path, what="what was noted beside a run") if path.exists() else None
    return None


def _run_stages(job: Job, config: Config, clock: Clock) -> list[StageResult]:
    results: list[StageResult] = []
    for stage in job.cell.stages:
        with clock.timing(stage):
            results.append(_run_stage(job, config, stage))
    return results


def _run_stage(job: Job, config: Config, stage: CellStage) -> StageResult:
    annotations, device = read_data(config), choose_device(config.device)
    if stage == "pretrain":
        before = next((job.run_of(cell).encoder for cell in job.chain if "pretrain" in cell.stages), None)
        return pretrain(config, job.run, weights=before or job.inputs.weights, device=device)
    if stage == "extract":
        sources = find_sources(config, annotations, None)
        return extract(config, job.run, sources=sources, weights=_weights(job), device=device)
    if stage == "e2e":
        return run_e2e(
            config,
            job.run,
            sources=find_sources(config, annotations, None),
            annotations=annotations,
            init_detector=_detector(job, config),
            weights=_weights(job),
            scores=job.inputs.scores,
            device=device,
        )
    return detect(
        config,
        job.run,
        cache=FeatureCache(_cache(job)),
        annotations=annotations,
        scores=job.inputs.scores,
        checkpoint=_detector(job, config) if stage == "infer" else None,
        device=device,
    )


def _weights(job: Job) -> Path | None:
    if "encoder.init=random" in job.cell.sets:
        return None
    run = job.last_with("pretrain")
    return job.inputs.weights if run is None else run.encoder


def _cache(job: Job) -> Path:
    run = job.last_with("extract")
    if run is not None:
        return run.cache
    assert job.inputs.features is not None
    return job.inputs.features


def _detector(job: Job, config: Config) -> Path | None:
    """The detector that a run takes over; none: a fresh one."""
    if job.cell.stages[-1] == "e2e" and config.e2e.start == "scratch":
        return None
    run = job.last_with("detect")
    return None if run is None else run.files("detect").checkpoint(config.detect.inference.checkpoint)


def _memory(job: Job, config: Config) -> int:
    """Memory of a step of the cell's training, measured once for a config."""
    noted = job.beside(".memory.json")
    digest = values_digest({**config.to_tree(), "measured by": _MEMORY_VERSION})
    known = _noted(noted)
    if isinstance(known, Mapping) and known.get("config") == digest and isinstance(known.get("bytes"), int):
        return int(known["bytes"])
    is_e2e = "e2e" in job.cell.stages
    channels = None if is_e2e else FeatureCache(_cache(job)).channels
    found = step_bytes(config, channels=channels, device=choose_device(config.device))
    write_json(noted, {"config": digest, "bytes": found})
    return found
