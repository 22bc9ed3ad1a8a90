"""Proposals of one or several models under the ground truth, coloured by their largest tIoU (Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ....data.annotations import Annotations, match_ids
from ....data.detections import Detections
from ....data.errors import EtadError
from ..plots import TOP, Strip, largest_tiou, qualitative_strips
from .style import COLUMN_WIDTH, SMALLEST, save, styled

# Light where a proposal is good, dark where it is not, to every reader.
_COLOURS = matplotlib.colormaps["viridis"]
MOST_MODELS = 4
_MOST_VIDEOS = 3
_MOST_LETTERS = 44
# Heights in rows of a proposal: the ground truth, and the gap below a model.
_TRUTH, _GAP = 5.0, 2.5
_ROW_INCHES = 0.028


@dataclass(frozen=True)
class Compared:
    """What one model detects in the videos that are shown, in their order."""

    name: str
    strips: tuple[Strip, ...]


def compare(
    annotations: Annotations, models: Sequence[tuple[str, Detections]], *, videos: Sequence[str] = ()
) -> list[Compared]:
    """Choose videos of which every model has results: those named, else the first ones that have actions.

    Raises
    ------
    EtadError
        A named video is not annotated or some model has no result for it, or there is none that all of them have.
    """
    if not 1 <= len(models) <= MOST_MODELS:
        raise EtadError(f"one to {MOST_MODELS} models fit into a picture, {len(models)} are named.")
    shown = list(videos)
    if not shown:
        annotated = [video.id for video in annotations.videos.values() if video.actions]
        for name, found in models:
            known = match_ids(annotated, found.video_ids, where=name)
            annotated = [id for id in annotated if id in known]
        shown = annotated[:_MOST_VIDEOS]
        if not shown:
            names = " and ".join(name for name, _ in models)
            raise EtadError(f"no video with annotated actions has results of {names}, so there is nothing to compare.")
    compared = []
    for name, found in models:
        try:
            compared.append(Compared(name, tuple(qualitative_strips(annotations, found, videos=shown))))
        except EtadError as error:
            raise EtadError(f"{name}: {error}") from error
    return compared


def plot_comparison(models: Sequence[Compared], paths: Sequence[Path]) -> list[Path]:
    """Draw the actions black above a line, and below it the best proposals of each model, the best on top.

    Parameters
    ----------
    paths
        Files to write, each in the format that it ends with.
    """
    several = len(models) > 1
    num_videos = len(models[0].strips)
    height = _ROW_INCHES * (_TRUTH + len(models) * (TOP + _GAP)) + 0.42
    with styled():
        size = COLUMN_WIDTH, height * num_videos + 0.5 + 0.14 * len(models)
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(hspace=0.06))
        rows = figure.subplots(num_videos, 1, squeeze=False)[:, 0]
        for number, axes in enumerate(rows):
            _draw_video(axes, [model.strips[number] for model in models], letters=several)
        rows[-1].set_xlabel("seconds")
        keys: list[Artist] = [Patch(color="black", label="annotated actions")]
        best = f"best {TOP} proposals"
        for letter, model in zip(ascii_uppercase, models):
            head = f"{letter}: {best} of " if several else f"{best} of "
            name = head + _ending(model.name, _MOST_LETTERS - len(head))
            keys.append(Line2D([], [], linewidth=3, color=_COLOURS(0.75), label=name))
        figure.legend(handles=keys, loc="outside upper left")
        scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 1), cmap=_COLOURS)
        bar = figure.colorbar(scale, ax=list(rows), location="bottom", aspect=40, shrink=0.9, pad=0.02)
        bar.set_label("largest tIoU with an action")
        return [save(figure, path) for path in paths]


def _draw_video(axes: Axes, strips: Sequence[Strip], *, letters: bool) -> None:
    """Draw one video: its actions, and one block a model."""
    truth = strips[0]
    for start, end in truth.actions:
        axes.barh(_TRUTH / 2, end - start, left=start, height=_TRUTH - 2, color="black")
    places, names = [_TRUTH / 2], ["GT"]
    top = 0.0
    for letter, strip in zip(ascii_uppercase, strips):
        axes.axhline(top, color="black", linewidth=0.6)
        colours = _COLOURS(largest_tiou(strip.proposals, strip.actions))
        for row, ((start, end), colour) in enumerate(zip(strip.proposals, colours)):
            axes.barh(top - 1 - row, end - start, left=start, height=0.85, color=colour)
        places.append(top - (TOP + 1) / 2)
        names.append(letter if letters else "")
        top -= TOP + _GAP
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, max(strip.duration_seconds for strip in strips)), ylim=(top + _GAP - 1, _TRUTH))
    classes = ", ".join(sorted(set(truth.labels)))
    axes.set_title(_shortened(f"{truth.video_id} ({classes})" if classes else truth.video_id), loc="left", pad=2)
    axes.title.set_fontsize(SMALLEST)
    axes.spines["left"].set_visible(False)


def _ending(name: str, most: int) -> str:
    """A name, or its end where it is a long path."""
    return name if len(name) <= most else f"...{name[3 - most :]}"


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 3]}..."
