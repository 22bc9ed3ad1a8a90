"""`etad demo`: the whole way on a synthetic set, and the honest baselines beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...data.annotations import Annotations
from ...data.cache.cache import FeatureCache
from ...data.detections import Detections, read_detections, write_detections
from ...data.files.atomic import write_json
from ..config import Config, override
from ..device import choose_device
from ..e2e.stage import run_e2e
from ..run_folder import RunFolder
from ..show.plots import plot_baselines, plot_curves, plot_qualitative, qualitative_strips
from ..stages.detect import detect
from ..stages.evaluate import Evaluation, evaluate
from ..stages.extract import extract, find_sources
from ..stages.inputs import read_data
from ..stages.pretrain import pretrain
from ..stages.result import StageResult
from .synthetic_set import ensure_synthetic_set
from .tables.demo_rows import ALONE, NAMES, PRETRAINED, STILL, TUNED, UNTRAINED, check_rows, poorer_sets

PROPOSALS_PER_VIDEO = 100
PARTS = 9


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


def demo(config: Config, folder: Path, *, report: Callable[[str], None]) -> DemoReport:
    """Draw the set, pretrain, extract, detect, train end to end, evaluate, plot; the same detector on poorer features.

    Parameters
    ----------
    report
        Called with each part's name before it begins.
    """
    check_rows(config)  # now, not when all else is done
    found = DemoReport(folder)
    run, device = RunFolder(folder), choose_device(config.device)

    with _part("draw the videos", found, report):
        config = ensure_synthetic_set(config, folder / "data")
    annotations = read_data(config)
    sources = find_sources(config, annotations, None)

    with _part("pretrain the encoder on the source set", found, report):
        report(f"  {pretrain(config, run, device=device).summary}")

    with _part("baseline: random proposals", found, report):
        found.evaluations["random proposals"] = _random(config, annotations, folder)
    sets = poorer_sets(config)
    runs = {row: RunFolder(folder / "baselines" / row) for row in sets}
    for row in (STILL, UNTRAINED, PRETRAINED):
        with _part(f"extract and detect: {NAMES[row]}", found, report):
            changed, variant = override(config, *sets.get(row, ())), runs.get(row, run)
            weights = None if row == UNTRAINED else run.encoder
            extracted = extract(changed, variant, sources=sources, weights=weights, device=device)
            cache = FeatureCache(variant.cache)
            detected = detect(changed, variant, cache=cache, annotations=annotations, device=device)
            found.evaluations[NAMES[row]] = _measured(extracted, detected)

    detector = run.files("detect").checkpoint(config.detect.inference.checkpoint)
    for row, part in ((ALONE, "train the detector on, alone"), (TUNED, "train encoder and detector on, together")):
        with _part(part, found, report):
            trained = run_e2e(
                override(config, *sets.get(row, ())),
                runs.get(row, run),
                sources=sources,
                annotations=annotations,
                device=device,
                init_detector=detector,
                weights=run.encoder,
            )
            found.evaluations[NAMES[row]] = _measured(trained)

    with _part("draw the pictures", found, report):
        detections = read_detections(run.files("e2e").detections)
        tested = Annotations(
            annotations.source, {video.id: video for video in annotations.subset(config.data.test_subset)}
        )
        average = {name: evaluation.average_mAP for name, evaluation in found.evaluations.items()}
        found.pictures = [
            plot_qualitative(qualitative_strips(tested, detections), run.qualitative("detect")),
            plot_curves(run.files("detect").log, run.curves("detect")),
            plot_curves(run.files("e2e").log, run.curves("e2e")),
            plot_baselines(average, run.plots / "baselines.png", title="The same detector on the same videos"),
        ]
    write_json(folder / "demo.json", {name: e.as_json() for name, e in found.evaluations.items()}, indent=1)
    return found


def _measured(*results: StageResult) -> Evaluation:
    """What the last stage measured; of the drawn set no stage leaves anything out."""
    for result in results:
        assert not result.left_out, result.left_out
    return results[-1].measured()


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


@contextmanager
def _part(name: str, found: DemoReport, report: Callable[[str], None]) -> Iterator[None]:
    report(f"part {len(found.seconds) + 1} of {PARTS}: {name}")
    started = time.monotonic()
    yield
    found.seconds[name] = time.monotonic() - started
