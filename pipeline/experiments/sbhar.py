"""`etad reproduce sbhar`: one subject left out in turn, on features of SBHAR, as the published figures are measured."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...data.annotations import Annotations
from ...data.cache.cache import FeatureCache
from ...data.detections import Detections, read_detections
from ...data.errors import EtadError, counted, listing
from ...data.files.atomic import open_to_append, write_json, write_text
from ...data.files.json_file import read_json
from ...detect.results.alignment import align
from ...detect.results.metrics import mean_average_precision
from ..config import Config, override, toml_path
from ..device import choose_device
from ..run_folder import RunFolder
from ..stages.detect import detect
from ..stages.inputs import read_data
from .pool import pool_of
from .written import markdown_table

# Average mAP at tIoU 0.3:0.1:0.7 in per cent, of other detectors.
PUBLISHED = {"ActionFormer": 94.3, "TriDet": 94.0, "TemporalMaxer": 93.9}
TIOUS = (0.3, 0.4, 0.5, 0.6, 0.7)
# Recordings are named by experiment and user, as in exp01_user01.
_SUBJECT = re.compile(r"user(\d+)$")


@dataclass(frozen=True)
class Fold:
    """One subject left out.

    Parameters
    ----------
    config
        That names the whole set's annotations.
    """

    config: Config
    subject: str
    features: Path
    folder: Path

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / f"user{self.subject}")


@dataclass(frozen=True)
class FoldResult:
    """mAP and normalised mAP (mAP_N) of a fold, (I,) each, as fractions."""

    subject: str
    mAP: np.ndarray
    normalised: np.ndarray
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class LeaveOneOut:
    """What all folds came to.

    Parameters
    ----------
    pooled
        Of the detections of all folds at once: mAP and mAP_N, (I,) each.
    """

    folds: tuple[FoldResult, ...]
    pooled: tuple[np.ndarray, np.ndarray]

    def heads(self) -> tuple[str, ...]:
        return ("%", *(f"tIoU {tiou:g}" for tiou in TIOUS), "average")

    def rows(self) -> list[tuple[str, ...]]:
        """Our figures, then those that were published."""
        normalised = np.stack([fold.normalised for fold in self.folds])  # [F, I]
        usual = np.stack([fold.mAP for fold in self.folds])
        rows = [
            ("etad, mAP_N, mean over the folds", *_cells(normalised.mean(axis=0)), _spread(normalised)),
            ("etad, mAP, mean over the folds", *_cells(usual.mean(axis=0)), _spread(usual)),
            ("etad, mAP_N, all folds at once", *_cells(self.pooled[1]), f"{100 * self.pooled[1].mean():.1f}"),
            ("etad, mAP, all folds at once", *_cells(self.pooled[0]), f"{100 * self.pooled[0].mean():.1f}"),
        ]
        blank = ("-",) * len(TIOUS)
        return [*rows, *((f"{name}, published", *blank, f"{value:.1f}") for name, value in PUBLISHED.items())]

    def text(self) -> str:
        """What the rows mean."""
        return (
            f"{counted(len(self.folds), 'fold')}, one subject left out in each; +-: standard deviation over the folds. "
            "mAP_N weighs hits as if each class had as many actions as they have on average."
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        """Recordings that some fold went without."""
        return tuple(sorted({id for fold in self.folds for id in fold.left_out}))

    def write(self, folder: Path, *, made_by: str) -> list[Path]:
        """Write sbhar.md, sbhar.csv (a row a fold) and sbhar.json."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = [f"{kind} {tiou:g}" for kind in ("mAP_N", "mAP") for tiou in TIOUS]
        writer.writerow(["subject", *names])
        for fold in self.folds:
            writer.writerow([fold.subject, *(f"{value:.6f}" for value in (*fold.normalised, *fold.mAP))])
        return [
            write_text(folder / "sbhar.md", self.markdown(made_by=made_by)),
            write_text(folder / "sbhar.csv", text.getvalue()),
            write_json(folder / "sbhar.json", self.as_json(), indent=1),
        ]

    def markdown(self, *, made_by: str) -> str:
        table = markdown_table(self.heads(), self.rows())
        return "\n".join(["### SBHAR, one subject left out in turn", "", *table, "", self.text(), "", made_by, ""])

    def as_json(self) -> dict[str, Any]:
        return {
            "average_mAP_N": float(np.mean([fold.normalised for fold in self.folds])),
            "average_mAP": float(np.mean([fold.mAP for fold in self.folds])),
            "pooled_average_mAP_N": float(self.pooled[1].mean()),
            "pooled_average_mAP": float(self.pooled[0].mean()),
            "folds": {
                fold.subject: {"mAP_N": fold.normalised.tolist(), "mAP": fold.mAP.tolist()} for fold in self.folds
            },
            "published": PUBLISHED,
            "left_out": list(self.left_out),
        }


def reproduce_sbhar(config: Config, folder: Path, *, features: Path, jobs: int) -> LeaveOneOut:
    """Train and test a detector a subject; folds that are done are not trained again.

    Parameters
    ----------
    config
        With annotations; whatever subsets these state.
    features
        Cache of the recordings' features.
    jobs
        Folds at a time, each in a process of its own with one thread; 1: in this process, with all threads.

    Raises
    ------
    EtadError
        Ids name no subject, or a single one; whatever the stages complain of.
    """
    config = override(config, f"detect.tious={list(TIOUS)}")
    annotations, source = read_data(_of_whole_set(config, folder)), str(config.data.annotations)
    subjects = subjects_of(annotations, source)
    folds = [Fold(config, subject, features, folder) for subject in sorted(subjects)]
    with pool_of(run_fold, jobs) as pool:
        found = pool.gather(folds, title="sbhar: folds")
    joined = _join([read_detections(fold.run.files("detect").detections) for fold in folds])
    return LeaveOneOut(tuple(found), _precision(annotations, config, joined, str(folder)))


def subjects_of(annotations: Annotations, source: str) -> dict[str, list[str]]:
    """Recordings by subject.

    Parameters
    ----------
    source
        Where they come from, for complaints.

    Raises
    ------
    EtadError
        An id does not end in user and a number, or there are fewer than two subjects.
    """
    found: dict[str, list[str]] = {}
    without_subject = []
    for id in annotations.videos:
        match = _SUBJECT.search(id)
        if match is None:
            without_subject.append(id)
        else:
            found.setdefault(match[1], []).append(id)
    if without_subject:
        raise EtadError(
            f"{source}: {counted(len(without_subject), 'id')} without a subject: "
            f"{listing(without_subject, most=3)}. "
            "Expected ids such as exp01_user01."
        )
    if len(found) < 2:
        raise EtadError(f"{source}: has recordings of {counted(len(found), 'subject')}, so none can be left out.")
    return found


def run_fold(fold: Fold) -> FoldResult:
    """Train on all subjects but one, and test on that; bars go to a file beside the run."""
    fold.run.path.mkdir(parents=True, exist_ok=True)
    with open_to_append(fold.run.path.with_suffix(".log")) as log, contextlib.redirect_stderr(log):
        path = _split(fold.config, fold.run.path / "annotations.json", fold.subject)
        config = override(fold.config, f"data.annotations={toml_path(path)}")
        annotations, cache = read_data(config), FeatureCache(fold.features)
        result = detect(config, fold.run, cache=cache, annotations=annotations, device=choose_device(config.device))
        found = read_detections(fold.run.files("detect").detections)
        mAP, normalised = _precision(annotations, config, found, str(fold.run.detect))
    return FoldResult(fold.subject, mAP, normalised, result.left_out)


def _split(config: Config, path: Path, subject: str) -> Path:
    """Write the annotations of a fold: the subject's recordings are tested on, all others learnt from."""
    assert config.data.annotations is not None
    tree = read_json(config.data.annotations, what="annotations")
    for id, entry in tree["database"].items():
        match = _SUBJECT.search(id)
        is_tested = match is not None and match[1] == subject
        entry["subset"] = config.data.test_subset if is_tested else config.data.train_subset
    return _write_beside(path, tree, config.data.annotations)


def _of_whole_set(config: Config, folder: Path) -> Config:
    """The config of a set of which every recording is tested on, to see all of it and to measure all folds at once."""
    if config.data.annotations is None:
        raise EtadError("no annotations: name SBHAR's with --annotations (docs/datasets.md says how they are made).")
    read_data(config)  # complains of what holds no annotations
    tree = read_json(config.data.annotations, what="annotations")
    for entry in tree["database"].values():
        entry["subset"] = config.data.test_subset
    path = _write_beside(folder / "whole-set.json", tree, config.data.annotations)
    return override(config, f"data.annotations={toml_path(path)}")


def _write_beside(path: Path, tree: Any, source: Path) -> Path:
    """Write annotations with other subsets, never in place of those that they come from."""
    if path.exists() and path.samefile(source):
        raise EtadError(
            f"{source}: annotations of this name are written there with other subsets. Name another folder with -o, or "
            "keep your file elsewhere."
        )
    return write_json(path, tree)


def _precision(
    annotations: Annotations, config: Config, found: Detections, source: str
) -> tuple[np.ndarray, np.ndarray]:
    """mAP and mAP_N at each threshold, (I,) each."""
    both = align(annotations, config.data.test_subset, found, source, config.data.duplicates)
    usual, normalised = (
        mean_average_precision(both.truth, both.predictions, tious=TIOUS, normalised=is_normalised).mAP
        for is_normalised in (False, True)
    )
    return usual, normalised


def _join(parts: Sequence[Detections]) -> Detections:
    """Detections of several folds, which share no recording."""
    rows = []
    labels = sorted({label for part in parts for label in part.labels})
    for part in parts:
        codes = np.array([labels.index(label) for label in part.labels])
        for number, id in enumerate(part.video_ids):
            own = np.flatnonzero(part.video == number)
            segments = np.stack([part.start_seconds[own], part.end_seconds[own]], axis=1)
            rows.append((id, segments, codes[part.label[own]], part.score[own]))
    return Detections.join(rows, labels=labels)


def _cells(values: np.ndarray) -> tuple[str, ...]:
    return tuple(f"{100 * value:.1f}" for value in values)


def _spread(values: np.ndarray) -> str:
    """Mean over folds and thresholds, and the deviation over folds, of (F, I)."""
    of_fold = 100 * values.mean(axis=1)
    return f"{of_fold.mean():.1f}" + (f" +- {of_fold.std(ddof=1):.1f}" if len(of_fold) > 1 else "")
