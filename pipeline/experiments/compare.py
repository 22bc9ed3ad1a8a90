"""Runs side by side on the same test videos, and whether they differ by more than these videos' chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...data.annotations import Annotations
from ...data.detections import read_detections
from ...data.errors import EtadError, counted, listing
from ...detect.results.alignment import Aligned, Duplicates, align, misplaced_text, missing_text
from ...detect.results.interval import LEAST_VIDEOS, SHARE, TOO_NARROW, bootstrap_values, bounds, can_be_told
from ...detect.results.metrics import mean_average_precision
from ..config import Config, settle
from ..run_folder import RunFolder
from ..stages.inputs import read_data

SAMPLES = 300
_STAGES = ("detect", "e2e")
# Differences of average mAP that are due to the order of additions alone.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ComparedRun:
    """Detections of one stage of a run, or of a file, on its test videos.

    Parameters
    ----------
    name
        As it was asked for, with the stage where the run has several.
    source
        The file of detections.
    subset
        What it was tested on.
    """

    name: str
    source: Path
    annotations: Annotations
    subset: str
    tious: tuple[float, ...]
    duplicates: Duplicates
    aligned: Aligned

    @cached_property
    def mAP(self) -> np.ndarray:
        """(I,) at each threshold."""
        return mean_average_precision(self.aligned.truth, self.aligned.predictions, tious=self.tious).mAP

    @cached_property
    def values(self) -> np.ndarray | None:
        """(samples,) average mAP on videos drawn anew, the same ones for runs on the same videos.

        None where that tells nothing; see `can_be_told`.
        """
        if not can_be_told(self.aligned.truth.video):
            return None
        return bootstrap_values(
            self.aligned.truth,
            self.aligned.predictions,
            num_videos=len(self.aligned.videos),
            tious=self.tious,
            samples=SAMPLES,
        )

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the average mAP."""
        return None if self.values is None else bounds(self.values)


@dataclass(frozen=True)
class Comparison:
    """Runs, the first of which the others are compared with."""

    runs: tuple[ComparedRun, ...]

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of the table, in per cent and points."""
        first, rows = self.runs[0], []
        for run in self.runs:
            cells = [run.name, *(f"{100 * value:.1f}" for value in run.mAP), f"{100 * run.mAP.mean():.1f}"]
            cells.append(_shown(run.interval, "") if run.interval else "-")
            if run is first:
                rows.append((*cells, "-", "-", "-"))
                continue
            difference, interval = self.difference(run)
            cells.append(f"{100 * difference:+.1f}")
            if interval is None:
                rows.append((*cells, "-", "cannot be told"))
                continue
            differs = "yes" if interval[0] > 0 or interval[1] < 0 else "no"
            rows.append((*cells, _shown(interval, "+"), differs))
        return rows

    def heads(self) -> tuple[str, ...]:
        tious = (f"{tiou:g}" for tiou in self.runs[0].tious)
        share = f"{100 * SHARE:.0f} %"
        return ("mAP, %, at tIoU", *tious, "average", f"its {share}", "difference", f"its {share}", "differs")

    def difference(self, run: ComparedRun) -> tuple[float, tuple[float, float] | None]:
        """Average mAP of a run less the first one's, and the interval of that, draw by draw.

        The interval is None where draws tell nothing of other videos: one alone has actions, or every draw gives the
        same difference, and one that is not 0.
        """
        first = self.runs[0]
        difference = float(run.mAP.mean() - first.mAP.mean())
        if run.values is None or first.values is None:
            return difference, None
        of_draws = run.values - first.values
        is_told = np.ptp(of_draws) > _ROUNDING or abs(difference) <= _ROUNDING
        return difference, bounds(of_draws) if is_told else None

    def faults(self) -> list[str]:
        """What of the results of each run was left out, or can find nothing."""
        return [
            f"{run.name}: {line}"
            for run in self.runs
            for line in (
                *missing_text(run.aligned.missing, run.aligned.unexpected),
                *misplaced_text(run.aligned.reversed, run.aligned.late),
            )
        ]

    def text(self) -> str:
        """What the columns mean."""
        count = counted(len(self.runs[0].aligned.videos), "video")
        if self.runs[0].values is None:
            return (
                f"Measured on the same {count}, of which one alone has actions: whether the runs differ on others "
                "cannot be told. Test on more."
            )
        alike = [run.name for run in self.runs[1:] if self.difference(run)[1] is None]
        told = (
            f" Every draw gives the same difference of {listing(alike)}: these videos are too few, or too much alike, "
            "to tell what it would be on others. Test on more."
        )
        twice = self.runs[0].aligned.num_duplicates
        rule = f"; {counted(twice, 'action')} annotated twice: {self.runs[0].duplicates}" if twice else ""
        return (
            f"Measured on the same {count}{rule}. "
            f"Intervals: {100 * SHARE:.0f} % of {SAMPLES} draws of as many of these; "
            "differences are taken draw by draw, and differ where their interval leaves out 0. They tell what other "
            "videos would change; what another seed of the training would, they do not."
            + (told if alike else "")
            + (f" {TOO_NARROW}" if len(self.runs[0].aligned.videos) < LEAST_VIDEOS else "")
        )

    def as_json(self) -> dict[str, Any]:
        found = []
        for run in self.runs:
            entry: dict[str, Any] = {
                "run": run.name,
                "detections": str(run.source),
                "mAP": {f"{tiou:g}": float(value) for tiou, value in zip(run.tious, run.mAP)},
                "average_mAP": float(run.mAP.mean()),
                "interval": list(run.interval) if run.interval else None,
                "videos_without_results": list(run.aligned.missing),
                "results_of_other_videos": list(run.aligned.unexpected),
                "detections_that_end_before_they_begin": dict(run.aligned.reversed),
                "detections_after_their_video": dict(run.aligned.late),
            }
            if run is not self.runs[0]:
                difference, interval = self.difference(run)
                entry |= {"difference": difference, "difference_interval": list(interval) if interval else None}
            found.append(entry)
        first = self.runs[0]
        twice = {"count": first.aligned.num_duplicates, "were": first.duplicates}
        return {"videos": len(first.aligned.videos), "share": SHARE, "duplicated_actions": twice, "runs": found}


def _shown(interval: tuple[float, float], sign: str) -> str:
    low, high = interval
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"


def compare_runs(
    places: Sequence[Path],
    config: Config,
    *,
    annotations: Path | None = None,
    subset: str | None = None,
    stage: str | None = None,
    tious: tuple[float, ...] | None = None,
    duplicates: Duplicates | None = None,
    sets: Sequence[str] = (),
) -> Comparison:
    """Put the detections of run folders, or results files, side by side.

    Parameters
    ----------
    config
        For results files, which know none.
    annotations, subset, tious, duplicates, sets
        In place of what each run's own config says; `sets` are overrides of it.
    stage
        Whose detections: `detect` or `e2e`; none: of both, where a run has both.

    Raises
    ------
    EtadError
        A place has no detections, there is one result alone, or the runs were not tested on the same videos with the
        same actions, at the same thresholds.
    """
    runs = [
        _compared(name, source, own, annotations, subset, tious, duplicates)
        for place in places
        for name, source, own in _results(place, config, stage, sets)
    ]
    if len(runs) < 2:
        raise EtadError(f"{runs[0].name}: is one result alone. Name another run to compare it with.")
    for run in runs[1:]:
        _require_same(runs[0], run)
    return Comparison((runs[0], *(_in_order_of(runs[0], run) for run in runs[1:])))


def _results(place: Path, config: Config, stage: str | None, sets: Sequence[str]) -> list[tuple[str, Path, Config]]:
    """Name, file and config of each result at a place."""
    if place.is_file():
        return [(str(place), place, config)]
    run = RunFolder(place)
    known = run.known_config() if place.is_dir() else None
    if known is None:
        raise EtadError(
            f"{place}: is neither the folder of a run nor a file of detections. Name a folder that a stage was "
            "given by -o, or a file in ActivityNet's JSON layout."
        )
    stages = [each for each in _STAGES if stage in (None, each) and run.files(each).detections.exists()]
    if not stages:
        wanted = stage or "detect"
        raise EtadError(
            f"{place}: holds no detections of `{wanted}`. Run `etad {wanted} -o {place}`, or `etad train -o {place}`, "
            "first."
        )
    own = settle(known, sets, where=str(place))
    return [(f"{place}, {each}" if len(stages) > 1 else str(place), run.files(each).detections, own) for each in stages]


def _compared(
    name: str,
    source: Path,
    config: Config,
    annotations: Path | None,
    subset: str | None,
    tious: tuple[float, ...] | None,
    duplicates: Duplicates | None,
) -> ComparedRun:
    read = read_data(config, annotations, subsets=[subset] if subset else [])
    tested = subset or config.data.test_subset
    rule = duplicates or config.data.duplicates
    aligned = align(read, tested, read_detections(source), str(source), rule)
    return ComparedRun(name, source, read, tested, tious or config.detect.tious, rule, aligned)


def _in_order_of(first: ComparedRun, run: ComparedRun) -> ComparedRun:
    """A run with its videos in the order of another's, so that the same draws are the same videos."""
    if [video.id for video in run.aligned.videos] == [video.id for video in first.aligned.videos]:
        return run
    found = read_detections(run.source)
    aligned = align(first.annotations, first.subset, found, str(run.source), first.duplicates)
    return replace(run, aligned=aligned)


def _require_same(first: ComparedRun, other: ComparedRun) -> None:
    """Refuse runs that were not measured on the same."""
    advice = "Only runs on one test set compare: name it for all of them with --annotations and --subset."
    videos = [{video.id: video for video in run.aligned.videos} for run in (first, other)]
    for run, ours, theirs in ((first, videos[0], videos[1]), (other, videos[1], videos[0])):
        if alone := sorted(ours.keys() - theirs.keys()):
            raise EtadError(
                f"{first.name} was tested on {counted(len(videos[0]), 'video')}, {other.name} on {len(videos[1])}: "
                f"{run.name} alone has {listing(alone, most=3)}. {advice}"
            )
    rules = [run.duplicates for run in (first, other)]
    if rules[0] != rules[1] and (first.aligned.num_duplicates or other.aligned.num_duplicates):
        raise EtadError(
            f"actions that are annotated twice are {rules[0]} in {first.name}, and {rules[1]} in {other.name}. "
            "Name one rule for all of them with --duplicates."
        )
    differing = [id for id in videos[0] if videos[0][id].actions != videos[1][id].actions]
    if differing:
        raise EtadError(
            f"{first.name} and {other.name} were tested on other actions of {counted(len(differing), 'video')}: "
            f"{listing(differing, most=3)}. {advice}"
        )
    if first.tious != other.tious:
        shown = [", ".join(f"{tiou:g}" for tiou in run.tious) for run in (first, other)]
        raise EtadError(
            f"{first.name} is measured at tIoU {shown[0]}, {other.name} at {shown[1]}. Name thresholds for both with "
            "--tiou."
        )
