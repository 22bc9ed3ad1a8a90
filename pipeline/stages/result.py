"""What a stage of a run did: where its files lie, what it had to leave out, what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...data.errors import EtadError
from ...extract.clips import Failure
from ..run_folder import StageFolder
from .evaluate import Evaluation


@dataclass(frozen=True)
class StageResult:
    """What every stage returns.

    Parameters
    ----------
    path
        Where what was written lies: the stage's folder, or the file that other stages take.
    notes
        What was left out, mended or skipped on the way, a line each.
    failed
        Videos that could not be used, each with the reason.
    flawed
        Videos that were used as far as they go, each with what is wrong with it.
    missing
        Annotated videos without a file or without features.
    evaluation
        None where a stage measures no detections, or the test subset holds no action.
    summary
        What the stage came to.
    """

    path: Path
    notes: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    flawed: tuple[Failure, ...] = ()
    missing: tuple[str, ...] = ()
    evaluation: Evaluation | None = None
    summary: str = ""

    @property
    def left_out(self) -> tuple[str, ...]:
        """Ids of the videos that the stage went without."""
        return tuple(sorted({*self.missing, *(failure.video_id for failure in self.failed)}))

    def measured(self) -> Evaluation:
        """The evaluation, for those who can do nothing without one.

        Raises
        ------
        EtadError
            There is none; its last note says why.
        """
        if self.evaluation is None:
            raise EtadError(
                f"{self.path}: nothing was measured: {', '.join(self.notes[-1:])}. Name another subset with "
                "--set data.test_subset=NAME, or correct its annotations and videos."
            )
        return self.evaluation


@dataclass
class StageNotes:
    """What a stage that detects notes down while it runs, and makes its result from in the end.

    Parameters
    ----------
    folder
        The stage's own.
    lines, missing, failed, flawed
        As in the result; failures and flaws by video.
    """

    folder: Path
    lines: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, Failure] = field(default_factory=dict)
    flawed: dict[str, Failure] = field(default_factory=dict)

    @property
    def files(self) -> StageFolder:
        return StageFolder(self.folder)

    def result(self, evaluation: Evaluation | None) -> StageResult:
        return StageResult(
            self.folder,
            notes=tuple(self.lines),
            failed=tuple(self.failed.values()),
            flawed=tuple(self.flawed.values()),
            missing=tuple(self.missing),
            evaluation=evaluation,
            summary="" if evaluation is None else evaluation.text(),
        )
