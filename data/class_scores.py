"""Video-level class scores from outside: how likely each class is in each video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .annotations import check_ids, match_ids
from .errors import EtadError, counted, listing, nearest, shown
from .files.atomic import write_json
from .files.json_file import read_json, refuse_repeats, warn_of_repeats

# The 101 classes of UCF101 in their official, alphabetical order: the columns of THUMOS-14's video-level scores.
_NAMES = """
ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch Basketball BasketballDunk
BenchPress Biking Billiards BlowDryHair BlowingCandles BodyWeightSquats Bowling BoxingPunchingBag BoxingSpeedBag
BreastStroke BrushingTeeth CleanAndJerk CliffDiving CricketBowling CricketShot CuttingInKitchen Diving Drumming
Fencing FieldHockeyPenalty FloorGymnastics FrisbeeCatch FrontCrawl GolfSwing Haircut Hammering HammerThrow
HandstandPushups HandstandWalking HeadMassage HighJump HorseRace HorseRiding HulaHoop IceDancing JavelinThrow
JugglingBalls JumpingJack JumpRope Kayaking Knitting LongJump Lunges MilitaryParade Mixing MoppingFloor Nunchucks
ParallelBars PizzaTossing PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano PlayingSitar
PlayingTabla PlayingViolin PoleVault PommelHorse PullUps Punch PushUps Rafting RockClimbingIndoor RopeClimbing
Rowing SalsaSpin ShavingBeard Shotput SkateBoarding Skiing Skijet SkyDiving SoccerJuggling SoccerPenalty StillRings
SumoWrestling Surfing Swing TableTennisShot TaiChi TennisSwing ThrowDiscus TrampolineJumping Typing UnevenBars
VolleyballSpiking WalkingWithDog WallPushups WritingOnBoard YoYo
"""

UCF101_LABELS: tuple[str, ...] = tuple(_NAMES.split())


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class for each video.

    Parameters
    ----------
    source
        The file that they come from.
    labels
        Label of each class.
    scores
        (classes,) float64 by video id: finite, never negative.
    """

    source: Path
    labels: tuple[str, ...]
    scores: dict[str, np.ndarray]

    def of(self, video_id: str) -> np.ndarray:
        """Scores of one video, (classes,).

        Raises
        ------
        EtadError
            The file does not have the video.
        """
        if video_id not in self.scores:
            raise EtadError(
                f"{self.source}: has no class scores of video '{video_id}'.{nearest(video_id, self.scores)} "
                f"Leave the video out, or name another file of scores."
            )
        return self.scores[video_id]

    def top(self, video_id: str, count: int) -> list[tuple[str, float]]:
        """The `count` likeliest labels of a video with their scores, the best first."""
        scores = self.of(video_id)
        return [(self.labels[code], float(scores[code])) for code in np.argsort(-scores, kind="stable")[:count]]

    def aligned(self, labels: Sequence[str], video_ids: Sequence[str]) -> ClassScores:
        """The scores of these labels, in this order, of these videos, under these ids (with or without `v_`).

        Raises
        ------
        EtadError
            A label or a video has no scores in the file, or an id is ambiguous.
        """
        place = {label: code for code, label in enumerate(self.labels)}
        lost = [label for label in labels if label not in place]
        if lost:
            raise EtadError(
                f"{self.source}: has no class '{lost[0]}' (missing: {len(lost)} of {counted(len(labels), 'label')})."
                f"{nearest(lost[0], self.labels)} Name the scores of this data set's classes."
            )
        matches = match_ids(video_ids, self.scores, where=str(self.source))
        missing = [video_id for video_id in video_ids if video_id not in matches]
        if missing:
            raise EtadError(
                f"{self.source}: has no class scores of {len(missing)} of {counted(len(video_ids), 'video')}: "
                f"{listing(missing)}. "
                f"Name a file with all of them, or leave these videos out."
            )
        columns = [place[label] for label in labels]
        chosen = {video_id: self.scores[matches[video_id]][columns] for video_id in video_ids}
        return ClassScores(self.source, tuple(labels), chosen)


def read_class_scores(path: Path | str) -> ClassScores:
    """Read video-level class scores; the file's form is recognised.

    JSON `{"labels": [..], "scores": {id: [..]}}` (ours); JSON `{"class": [..], "results": {id: [..]}}` (CUHK's for
    ActivityNet); .npy with a row for each THUMOS-14 test video and a column for each UCF101 class (UntrimmedNet's).

    Raises
    ------
    EtadError
        The file is missing, of another form, or holds scores that are no finite numbers, are negative, or are not one
        for each class.
    """
    path = Path(path)
    if path.suffix == ".npy":
        labels, rows = UCF101_LABELS, _read_thumos(path)
    else:
        labels, rows = _read_json(path)
    return ClassScores(
        path, labels, {video_id: _checked(path, video_id, row, labels) for video_id, row in rows.items()}
    )


def write_class_scores(path: Path | str, labels: Sequence[str], scores: Mapping[str, np.ndarray]) -> Path:
    """Write class scores in our own form, whole or not at all."""
    rows = {video_id: [float(score) for score in row] for video_id, row in scores.items()}
    return write_json(path, {"labels": list(labels), "scores": rows})


def _read_json(path: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    content = read_json(path, what="class scores", find_repeats=True)
    for labels_key, scores_key in (("labels", "scores"), ("class", "results")):
        if isinstance(content, dict) and labels_key in content and scores_key in content:
            labels, rows = content[labels_key], content[scores_key]
            refuse_repeats(str(path), content, {labels_key, scores_key})
            break
    else:
        found = f"keys {listing(map(shown, content))}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise EtadError(f"{path}: has {found}, expected 'labels' and 'scores', or 'class' and 'results'.")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise EtadError(f"{path}: '{labels_key}' is no list of label names.")
    if len(set(labels)) != len(labels):
        twice = next(label for number, label in enumerate(labels) if label in labels[:number])
        raise EtadError(f"{path}: label '{twice}' stands twice in '{labels_key}'. Keep one of them.")
    if not isinstance(rows, dict):
        raise EtadError(f"{path}: '{scores_key}' is a {type(rows).__name__}, expected scores by video id.")
    check_ids(path, rows)
    warn_of_repeats(path, rows)
    return tuple(labels), rows


def _read_thumos(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise EtadError(f"{path}: there is no such file of class scores. Check the path.")
    try:
        # Mapped, so that a header may promise what it likes: the file must have as many bytes.
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError, MemoryError, SyntaxError, TypeError) as error:
        words = " ".join(str(error).split())
        raise EtadError(f"{path}: cannot be read as an array of numbers ({words}). Copy it again.") from error
    if not isinstance(table, np.ndarray):
        names = listing(table.files, 3)
        table.close()
        raise EtadError(
            f"{path}: is an archive of arrays (.npz: {names}), expected one array. Save it alone with numpy.save."
        )
    if table.ndim != 2 or table.shape[1] != len(UCF101_LABELS) or table.dtype.kind not in "fiu":
        raise EtadError(
            f"{path}: is an array {list(table.shape)} of {table.dtype}, expected numbers with a row for each THUMOS-14 "
            f"test video and {len(UCF101_LABELS)} columns, the UCF101 classes. For other data write JSON."
        )
    return {f"video_test_{number + 1:07d}": row for number, row in enumerate(np.asarray(table))}


def _checked(path: Path, video_id: str, row: Any, labels: Sequence[str]) -> np.ndarray:
    try:
        scores = np.array(row, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EtadError(f"{path}: scores of video '{video_id}' are no list of numbers.") from error
    if scores.shape != (len(labels),):
        raise EtadError(
            f"{path}: video '{video_id}' has scores of shape {list(scores.shape)}, expected one for each of "
            f"{counted(len(labels), 'class')}."
        )
    if not np.isfinite(scores).all() or scores.min() < 0:
        worst = int(np.argmax(~np.isfinite(scores) | (scores < 0)))
        raise EtadError(
            f"{path}: video '{video_id}' has score {scores[worst]} for class '{labels[worst]}', expected "
            f"probabilities, finite and 0 or more."
        )
    return scores
