"""Pictures to look at a run: training curves, detections beside the ground truth, baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...data.annotations import Annotations, match_ids
from ...data.detections import Detections
from ...data.errors import EtadError, counted
from ...detect.run_state import read_log
from .figures.style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW, save

TOP = 20
_DPI = 130
# Up to seven classes get colours that colour-blind readers tell apart, too.
_FEW_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)
_MANY_COLOURS = tuple(matplotlib.colormaps["tab20"](number) for number in range(20))
# From this tIoU on a detection has found an action, whose class it should have.
_FOUND = 0.5


@dataclass(frozen=True)
class Strip:
    """One video with its actions and its best proposals (Fig. 3).

    Parameters
    ----------
    actions, proposals
        (n, 2) seconds; proposals by falling score.
    labels, classes
        Label of each action, and of each proposal; empty where it has none.
    scores
        (n,) of the proposals.
    """

    video_id: str
    duration_seconds: float
    actions: np.ndarray
    labels: tuple[str, ...]
    proposals: np.ndarray
    classes: tuple[str, ...]
    scores: np.ndarray


def plot_curves(log: Path, path: Path) -> Path:
    """Draw the loss over the epochs, its parts, and the learning rate."""
    if not log.exists():
        raise EtadError(f"{log}: no training log. Run `etad train`, `etad detect` or `etad e2e` first.")
    lines = read_log(log)
    if not lines:
        raise EtadError(f"{log}: holds no epoch. Train first; of a training that is done the curves are lost with it.")
    epochs = [line["epoch"] for line in lines]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    whole, parts = figure.subplots(1, 2)
    whole.plot(epochs, [line["train"]["loss"] for line in lines], marker="o", label="training")
    if all(line["val_loss"] is not None for line in lines):
        whole.plot(epochs, [line["val_loss"] for line in lines], marker="s", label="validation (grid proposals)")
    for name in (name for name in lines[0]["train"] if name != "loss"):
        parts.plot(epochs, [line["train"].get(name, np.nan) for line in lines], marker="o", label=name)
    for axes, title in ((whole, "Loss"), (parts, "Parts of the training loss")):
        axes.set(title=title, xlabel="epoch", ylim=(0, 1.08 * axes.dataLim.y1))
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return save(figure, path, dpi=_DPI)


def curves_of_done(log: Path, path: Path) -> str:
    """Draw the curves of a training that is done, and say where they are; a lost log is no reason to fail by then."""
    if log.exists() and read_log(log):
        return str(plot_curves(log, path))
    return f"none, for {log} is gone or empty"


def qualitative_strips(
    annotations: Annotations, detections: Detections, *, videos: Sequence[str] = (), most: int = 6
) -> list[Strip]:
    """Choose videos to show: those named, else the first ones that have actions and results.

    Raises
    ------
    EtadError
        A named video is not annotated or has no result, or none can be shown.
    """
    wanted = list(videos) or [video.id for video in annotations.videos.values() if video.actions]
    for id in videos:
        if id not in annotations.videos:
            raise EtadError(f"{annotations.source}: has no video '{id}'.")
    matches = match_ids(wanted, detections.video_ids, where="detections")
    if videos and len(matches) < len(wanted):
        lost = next(id for id in wanted if id not in matches)
        raise EtadError(f"the detections have no result for video '{lost}'.")
    backward = int(detections.is_reversed.sum())
    if 2 * backward > len(detections):
        raise EtadError(
            f"{backward} of {counted(len(detections), 'detection')} end before they begin. A segment is [start, end]; "
            "turn them round."
        )
    strips = []
    for id in [id for id in wanted if id in matches][: len(videos) or most]:
        video = annotations.videos[id]
        rows = detections.rows_of(matches[id])
        rows = rows[np.argsort(-detections.score[rows], kind="stable")]
        segments = np.stack([detections.start_seconds[rows], detections.end_seconds[rows]], axis=1)
        # A proposal reported with several labels is one proposal.
        _, first = np.unique(segments, axis=0, return_index=True)
        best = np.sort(first)[:TOP]
        proposals, names = segments[best], [*detections.labels, ""]
        classes = tuple(names[code] for code in detections.label[rows[best]])
        actions = np.array([[a.start_seconds, a.end_seconds] for a in video.actions]).reshape(-1, 2)
        ends = [video.duration_seconds or 0.0, *actions[:, 1], *proposals[:, 1]]
        labels = tuple(action.label for action in video.actions)
        seconds = video.duration_seconds or max(ends)
        strips.append(Strip(id, seconds, actions, labels, proposals, classes, detections.score[rows[best]]))
    if not strips:
        raise EtadError("no video has both annotated actions and results, so there is nothing to show.")
    return strips


def plot_qualitative(strips: Sequence[Strip], path: Path) -> Path:
    """Draw actions above the line and the top 20 proposals below it, each in its class's colour and with its score."""
    figure = Figure(figsize=(10, 3.1 * len(strips) + 1), layout="constrained")
    rows = np.atleast_1d(figure.subplots(len(strips), 1))
    names = sorted({name for strip in strips for name in (*strip.labels, *strip.classes) if name})
    palette: tuple[Any, ...] = _FEW_COLOURS if len(names) <= len(_FEW_COLOURS) else _MANY_COLOURS
    colours = dict(zip(names, cycle(palette)))
    for axes, strip in zip(rows, strips):
        _draw_strip(axes, strip, colours)
    rows[-1].set_xlabel(f"seconds; above the line: annotated actions, below it: the best {TOP} detections, best on top")
    keys: list[Artist] = [Patch(color=colours[name], label=name) for name in names]
    wrong = f"another class than the action that it overlaps by {_FOUND:g} or more"
    keys.append(Line2D([], [], linestyle="none", marker="x", color="black", label=wrong))
    legend = figure.legend(handles=keys, loc="outside upper left", ncols=5, fontsize=7, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return save(figure, path, dpi=_DPI)


def plot_baselines(values: Mapping[str, float], path: Path, *, title: str) -> Path:
    """Draw one bar a method: average mAP in per cent."""
    figure = Figure(figsize=(7, 0.5 * len(values) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = list(values)[::-1]
    # The last method named is the one in question; it stands at the bottom.
    bars = axes.barh(names, [100 * values[name] for name in names], color=["C0"] + ["0.7"] * (len(names) - 1))
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set(xlabel="average mAP, %", xlim=(0, 120 * max([*values.values(), 0.1])))
    figure.suptitle(title)  # over the names, too: they may leave the bars little room
    return save(figure, path, dpi=_DPI)


def largest_tiou(proposals: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Largest tIoU of each proposal with any action, (n,); 0 where there is none.

    Examples
    --------
    >>> largest_tiou(np.array([[0.0, 2.0], [5.0, 6.0]]), np.array([[1.0, 3.0]])).round(3).tolist()
    [0.333, 0.0]
    """
    return _tious(proposals, actions).max(axis=1, initial=0)


def is_mistaken(strip: Strip) -> np.ndarray:
    """Whether each proposal overlaps an action well, and none of its own class, (n,)."""
    overlaps = _tious(strip.proposals, strip.actions) >= _FOUND
    same = np.array([[name == label for label in strip.labels] for name in strip.classes], dtype=bool)
    same = same.reshape(overlaps.shape)
    is_labelled = np.array([bool(name) for name in strip.classes], dtype=bool)
    return overlaps.any(axis=1) & ~(overlaps & same).any(axis=1) & is_labelled


def _tious(proposals: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """(n, m)"""
    low = np.maximum(proposals[:, None, 0], actions[None, :, 0])
    high = np.minimum(proposals[:, None, 1], actions[None, :, 1])
    inter = (high - low).clip(min=0)
    lengths = np.diff(proposals)[:, 0][:, None] + np.diff(actions)[:, 0][None]
    return inter / np.maximum(lengths - inter, 1e-9)


def _draw_strip(axes: Axes, strip: Strip, colours: Mapping[str, Any]) -> None:
    """Draw one video in the colours of classes; what has none is grey."""
    for (start, end), label in zip(strip.actions, strip.labels):
        axes.barh(2, end - start, left=start, height=2, color=colours[label], edgecolor="black")
        axes.annotate(
            label,
            ((start + end) / 2, 3.2),
            ha="center",
            va="bottom",
            fontsize=7,
            annotation_clip=True,
            parse_math=False,
        )
    axes.axhline(0, color="black", linewidth=0.8)
    mistaken = is_mistaken(strip)
    for number, (start, end) in enumerate(strip.proposals):
        name, height = strip.classes[number], -1 - number * 0.5
        axes.barh(height, end - start, left=start, height=0.42, color=colours.get(name, "0.6"))
        if mistaken[number]:
            axes.plot([(start + end) / 2], [height], marker="x", color="black", markersize=4)
        # Beside the bar, on the side where there is room.
        is_right = end < 0.8 * strip.duration_seconds
        axes.annotate(
            f"{name} {strip.scores[number]:.2g}".strip(),
            (end if is_right else start, height),
            xytext=(2 if is_right else -2, 0),
            textcoords="offset points",
            ha="left" if is_right else "right",
            va="center",
            fontsize=5,
            annotation_clip=True,
            parse_math=False,
        )
    axes.set(xlim=(0, strip.duration_seconds), ylim=(-1.5 - 0.5 * TOP, 4.6), yticks=[])
    axes.set_title(strip.video_id, loc="left", fontsize=8, pad=2, parse_math=False)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
