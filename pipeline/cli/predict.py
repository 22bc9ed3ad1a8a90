"""The command `predict`: what happens in videos that nobody has annotated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import Common, LastCommand, common_options

if TYPE_CHECKING:
    from ..predict.stage import Prediction

_FILE = click.Path(path_type=Path)
# Lines of a video in the table on the terminal; the files have all of them.
_MOST_SHOWN = 20


@click.command(cls=LastCommand)
@click.argument("videos", nargs=-1, required=True)
@click.option("--checkpoint", type=_FILE, help="Detector to use; the run's own by default.")
@click.option("--weights", type=_FILE, help="Encoder weights, where they have been moved since training.")
@click.option("--threshold", type=click.FloatRange(min=0), help="Least score; the run's own, by class, by default.")
@common_options
def predict(
    common: Common,
    videos: tuple[str, ...],
    checkpoint: Path | None,
    weights: Path | None,
    threshold: float | None,
) -> int:
    """Detect actions in new videos: files, folders or patterns; no annotations needed. Safe to repeat.

    Writes below RUN/predict: detections.json has every detection with its score, in ActivityNet's form; all else has
    those above the thresholds that the run chose on held-out videos.

    \b
    Example:
      etad predict new.mp4 -o runs/mine
    """
    from ..device import choose_device
    from ..predict.stage import predict as run_predict
    from ..predict.trained import load_run
    from ..predict.videos import find_inputs
    from ..run_folder import RunFolder
    from .result import print_result

    run = RunFolder(common.run_folder())
    known = common.load(default=str(run.config) if run.config.exists() else None)
    loaded = load_run(run.path, checkpoint, known if run.config.exists() or common.config else None)
    files, passed_over = find_inputs(videos)
    prediction = run_predict(
        loaded, run, files, device=choose_device(loaded.config.device), weights=weights, threshold=threshold
    )
    shown = what_happens_when(prediction)
    return print_result(prediction.result, passed_over, shown, prediction.result.summary)


def what_happens_when(prediction: Prediction) -> str:
    """A table of what is reported, in the order of time; of each video the best few."""
    import numpy as np

    from ..show.report import table

    found, rows = prediction.reported, []
    for number, id in enumerate(found.video_ids):
        own = np.flatnonzero(found.video == number)
        best = own[np.argsort(-found.score[own], kind="stable")][:_MOST_SHOWN]
        for row in best[np.argsort(found.start_seconds[best], kind="stable")].tolist():
            label = found.labels[found.label[row]] if found.label[row] >= 0 else None
            seconds = (f"{each[row]:.1f}" for each in (found.start_seconds, found.end_seconds))
            rows.append((id, *seconds, label, f"{found.score[row]:.3f}"))
        if not len(own):
            rows.append((id, None, None, "nothing above its threshold", None))
        elif len(own) > _MOST_SHOWN:
            rows.append((id, None, None, f"{len(own) - _MOST_SHOWN} more", None))
    return table(rows, heads=("video", "start", "end", "label", "score"))
