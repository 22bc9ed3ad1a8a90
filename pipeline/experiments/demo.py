"""`etad demo`: the whole way on a synthetic set, and the honest baselines beside it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...data.annotations import Annotations
from ...data.cache.cache import FeatureCache
from ...data.detections import Detections, read_detections, write_detections
from ...data.errors import EtadError, listing
from ...data.files.atomic import open_to_append, write_json
from ..config import Config, override
from ..device import choose_device
from ..e2e.checks import check_frozen
from ..e2e.stage import run_e2e
from ..run_folder import RunFolder
from ..show.plots import plot_baselines, plot_curves, plot_qualitative, qualitative_strips
from ..stages.detect import detect
from ..stages.evaluate import Evaluation, evaluate
from ..stages.extract import extract, find_sources
from ..stages.inputs import read_data
from ..stages.pretrain import pretrain
from ..stages.result import StageResult
from .pool import pool_of
from .synthetic_set import ensure_synthetic_set, naming_synthetic_set
from .tables.base import check_start
from .tables.demo_rows import ALONE, NAMES, PRETRAINED, STILL, TUNED, UNTRAINED, poorer_sets

PROPOSALS_PER_VIDEO = 100
_DATA, _PRETRAIN = "data", "pretrain"
# What a part comes after. Of those that become possible together, the first is begun first: the longest way leads
# through these.
_AFTER = {
    _PRETRAIN: (),  # and the videos, where it is to learn from these
    _DATA: (),
    PRETRAINED: (_PRETRAIN, _DATA),
    UNTRAINED: (_DATA,),
    STILL: (_PRETRAIN, _DATA),
    TUNED: (PRETRAINED,),
    ALONE: (PRETRAINED,),
}
_TITLES = {
    _PRETRAIN: "pretrain the encoder on the source set",
    _DATA: "draw the videos",
    **{row: f"extract and detect: {NAMES[row]}" for row in (PRETRAINED, UNTRAINED, STILL)},
    TUNED: "train encoder and detector on, together",
    ALONE: "train the detector on, alone",
}
PARTS = len(_AFTER)
# All rows but the one that two of them go on from.
MOST_AT_ONCE = 4


@dataclass
class DemoReport:
    """What the demo found.

    Parameters
    ----------
    evaluations
        By method; the real one last.
    seconds
        Time that each part took now; next to nothing where it was done before.
    """

    folder: Path
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    pictures: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """A part of the demo.

    Parameters
    ----------
    key
        In `_AFTER`.
    config
        That names the drawn set.
    log
        Where its bars go; none: to the screen.
    """

    key: str
    config: Config
    folder: Path
    log: Path | None

    @property
    def run(self) -> RunFolder:
        is_poorer = self.key in poorer_sets(self.config)
        return RunFolder(self.folder / "baselines" / self.key if is_poorer else self.folder)


@dataclass(frozen=True)
class _Done:
    """What a part came to."""

    seconds: float
    summary: str
    evaluation: Evaluation | None


def demo(config: Config, folder: Path, *, jobs: int, report: Callable[[str], None]) -> DemoReport:
    """Draw the set, pretrain, extract, detect, train end to end, evaluate, plot; the same detector on poorer features.

    Parameters
    ----------
    jobs
        Parts at a time, each in a process of its own with one thread, whose bars go to files; 1: in this process, with
        all threads.
    report
        Called with what each part came to.

    Raises
    ------
    EtadError
        The settings do not suit a demo, or the folder holds another one.
    """
    # Now, not when all else is done.
    check_start(config)
    check_frozen(config)
    config = naming_synthetic_set(config, folder / "data")
    done = _all_parts(config, folder, jobs=jobs, report=report)
    annotations, run = read_data(config), RunFolder(folder)
    found = DemoReport(folder, seconds={_TITLES[key]: done[key].seconds for key in _AFTER})
    found.evaluations["random proposals"] = _random(config, annotations, folder)
    for row, name in NAMES.items():
        evaluation = done[row].evaluation
        assert evaluation is not None
        found.evaluations[name] = evaluation

    detections = read_detections(run.files("e2e").detections)
    tested = Annotations(annotations.source, {video.id: video for video in annotations.subset(config.data.test_subset)})
    average = {name: evaluation.average_mAP for name, evaluation in found.evaluations.items()}
    found.pictures = [
        plot_qualitative(qualitative_strips(tested, detections), run.qualitative("detect")),
        plot_curves(run.files("detect").log, run.curves("detect")),
        plot_curves(run.files("e2e").log, run.curves("e2e")),
        plot_baselines(average, run.plots / "baselines.png", title="The same detector on the same videos"),
    ]
    write_json(folder / "demo.json", {name: e.as_json() for name, e in found.evaluations.items()}, indent=1)
    return found


def logs_of(folder: Path) -> Path:
    """Where the bars of parts go that are done side by side."""
    return folder / "parts"


def _all_parts(config: Config, folder: Path, *, jobs: int, report: Callable[[str], None]) -> dict[str, _Done]:
    """Do every part as soon as those that it comes after are done."""
    done: dict[str, _Done] = {}
    begun: set[str] = set()
    logs = logs_of(folder)
    if jobs > 1:
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EtadError(
                f"{logs}: cannot be a folder ({error.strerror}). Move away what lies there, or name another run "
                "folder with -o."
            ) from error
    after = _AFTER | ({_PRETRAIN: (_DATA,)} if config.pretrain.source == "videos" else {})

    def possible() -> dict[str, _Part]:
        keys = [key for key, before in after.items() if key not in begun and done.keys() >= set(before)]
        begun.update(keys)
        return {key: _Part(key, config, folder, logs / f"{key}.log" if jobs > 1 else None) for key in keys}

    def note(key: str, part: _Done) -> dict[str, _Part]:
        done[key] = part
        report(f"part {len(done)} of {PARTS} done in {part.seconds:.0f} s: {_TITLES[key]}: {part.summary}")
        return possible()

    with pool_of(_run_part, jobs) as pool:
        pool.work(possible(), note, title="demo: parts", unit="part", total=PARTS)
    return done


def _run_part(part: _Part) -> _Done:
    started = time.monotonic()
    with contextlib.ExitStack() as opened:
        if part.log is not None:
            log = opened.enter_context(open_to_append(part.log))
            opened.enter_context(contextlib.redirect_stderr(log))
        try:
            results = _results(part)
        except EtadError as error:
            if part.log is not None:
                print(error, file=sys.stderr)  # into the log; the screen has it from whoever catches it
            raise EtadError(f"{_TITLES[part.key]}: {error}") from error
    evaluation = results[-1].measured() if part.key in NAMES else None
    if evaluation is not None:
        summary = f"average mAP {100 * evaluation.average_mAP:.1f} %"
    else:
        summary = results[-1].summary if results else f"-> {part.config.data.videos}"
    return _Done(time.monotonic() - started, summary, evaluation)


def _results(part: _Part) -> list[StageResult]:
    key, config, run, folder = part.key, part.config, part.run, part.folder
    if key == _DATA:
        ensure_synthetic_set(config, folder / "data")
        return []
    device, of_pretrained = choose_device(config.device), RunFolder(folder)
    if key == _PRETRAIN:
        return [pretrain(config, run, device=device)]
    config = override(config, *poorer_sets(config).get(key, ()))
    annotations = read_data(config)
    sources = find_sources(config, annotations, None)
    weights = None if key == UNTRAINED else of_pretrained.encoder
    if key in (ALONE, TUNED):
        detector = of_pretrained.files("detect").checkpoint(config.detect.inference.checkpoint)
        trained = run_e2e(
            config,
            run,
            sources=sources,
            annotations=annotations,
            device=device,
            init_detector=detector,
            weights=weights,
        )
        _require_all(trained, config)
        return [trained]
    _require_all(extract(config, run, sources=sources, weights=weights, device=device), config)
    cache = FeatureCache(run.cache)
    return [detect(config, run, cache=cache, annotations=annotations, device=device)]


def _require_all(result: StageResult, config: Config) -> None:
    """Refuse to go on without a video, which a detector would then be bound to."""
    if result.left_out:
        raise EtadError(
            f"{listing(result.left_out, most=3)} in {config.data.videos} cannot be read. Remove what lies there, and "
            "repeat the command: it is drawn again."
        )


def _random(config: Config, annotations: Annotations, folder: Path) -> Evaluation:
    """Segments, labels and scores drawn at random."""
    random = np.random.default_rng([config.seed, 99])
    labels, rows = annotations.labels, []
    for video in annotations.subset(config.data.test_subset):
        ends = np.sort(random.random((PROPOSALS_PER_VIDEO, 2)), axis=1) * (video.duration_seconds or 1.0)
        classes = random.integers(len(labels), size=PROPOSALS_PER_VIDEO)
        rows.append((video.id, ends, classes, random.random(PROPOSALS_PER_VIDEO)))
    found = Detections.join(rows, labels=labels)
    path = write_detections(folder / "baselines" / "random.json", found)
    return evaluate(
        annotations,
        config.data.test_subset,
        found,
        tious=config.detect.tious,
        source=str(path),
        duplicates=config.data.duplicates,
    )
