"""Which snippets FPS and DPP pick, over a t-SNE map of their features (Fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ....data.annotations import Annotations, Video, match_ids
from ....data.cache.source import FeatureSource
from ....data.errors import EtadError
from ....detect.sampling.population import sample_sequence, sample_size
from .style import BLACK, BLUE, COLUMN_WIDTH, ORANGE, SMALLEST, save, styled

# What is compared, and how it is spelled.
_STRATEGIES = {"fps": "FPS", "dpp": "DPP"}
MOST_VIDEOS = 4
# The exact t-SNE, which is the same each time, takes a few seconds of so many; of more, every n-th is shown.
_MOST_SNIPPETS = 400
_FEWEST_SNIPPETS = 8
_PERPLEXITY = 30.0
_MOST_LETTERS = 40


@dataclass(frozen=True)
class SnippetMap:
    """Snippets of one video on a plane.

    Parameters
    ----------
    points
        (T, 2)
    in_action
        (T,) whether the middle of each snippet lies in an action.
    picks
        (k,) rows, by strategy.
    num_all
        How many snippets the video has, where not all are shown.
    """

    video_id: str
    points: np.ndarray
    in_action: np.ndarray
    picks: dict[str, np.ndarray]
    num_all: int


def map_snippets(
    annotations: Annotations,
    features: FeatureSource,
    *,
    subset: str,
    videos: Sequence[str] = (),
    ratio: float = 0.3,
    seed: int = 0,
) -> list[SnippetMap]:
    """Map the snippets of some videos, and sample a share of them by FPS and by DPP.

    Parameters
    ----------
    subset
        Its first video that has snippets both inside and outside actions is shown, unless videos are named.
    ratio
        Share of the snippets that is sampled, 0 .. 1.

    Raises
    ------
    EtadError
        A named video is not annotated, has no features or too few snippets; or no video of the subset will do.
    """
    if len(videos) > MOST_VIDEOS:
        raise EtadError(f"at most {MOST_VIDEOS} videos fit into a picture, {len(videos)} are named.")
    for id in videos:
        if id not in annotations.videos:
            raise EtadError(f"{annotations.source}: has no video '{id}'.")
    wanted = [annotations.videos[id] for id in videos] or annotations.subset(subset)
    matches = match_ids([video.id for video in wanted], features.ids, where=str(features.path))
    if lost := [id for id in videos if id not in matches]:
        raise EtadError(f"{features.path}: has no features of video '{lost[0]}'. Extract them first.")
    maps = []
    for video in wanted:
        if video.id not in matches:
            continue
        length = features.lengths[matches[video.id]]
        if length < _FEWEST_SNIPPETS:
            if videos:
                raise EtadError(
                    f"{features.path}: video '{video.id}' has {length} snippets, and a map needs {_FEWEST_SNIPPETS}. "
                    "Name another."
                )
            continue
        in_action = _in_action(video, features.timing(matches[video.id]).centers(length))
        if not videos and in_action.all() == in_action.any():
            continue
        maps.append(_map_video(video.id, features.read(matches[video.id]), in_action, ratio=ratio, seed=seed))
        if not videos:
            break
    if not maps:
        raise EtadError(
            f"{features.path}: no video of subset '{subset}' has {_FEWEST_SNIPPETS} snippets, some in actions and some "
            "not. Name one with --video."
        )
    return maps


def plot_sampling(maps: Sequence[SnippetMap], paths: Sequence[Path]) -> list[Path]:
    """Draw FPS and DPP side by side, one row a video."""
    with styled():
        figure = Figure(figsize=(COLUMN_WIDTH, 1.95 * len(maps) + 0.3), layout="constrained")
        grid = figure.subfigures(len(maps), 1, squeeze=False)[:, 0]
        for row, found in zip(grid, maps):
            some = f"{len(found.points)} of its " if found.num_all > len(found.points) else ""
            head = f"{found.video_id[:_MOST_LETTERS]}: {some}{found.num_all} snippets"
            row.suptitle(head, fontsize=SMALLEST)
            for axes, (strategy, name) in zip(row.subplots(1, len(_STRATEGIES)), _STRATEGIES.items()):
                _draw(axes, found, found.picks[strategy])
                axes.set_title(f"{name}, {len(found.picks[strategy])} sampled", pad=2)
        keys = [
            Line2D([], [], linestyle="none", marker="o", color=ORANGE, markersize=4, label="in an action"),
            Line2D([], [], linestyle="none", marker="s", color=BLUE, markersize=4, label="background"),
            Line2D([], [], linestyle="none", marker="o", color=BLACK, mfc="none", markersize=6, label="sampled"),
        ]
        figure.legend(handles=keys, loc="outside lower center", ncols=3, handletextpad=0.2, columnspacing=1.2)
        return [save(figure, path) for path in paths]


def _in_action(video: Video, centers: np.ndarray) -> np.ndarray:
    inside = np.zeros(len(centers), dtype=bool)
    for action in video.actions:
        inside |= (centers >= action.start_seconds) & (centers <= action.end_seconds)
    return inside


def _map_video(id: str, features: np.ndarray, in_action: np.ndarray, *, ratio: float, seed: int) -> SnippetMap:
    from sklearn.manifold import TSNE  # takes a second

    num_all = len(features)
    rows = np.arange(0, num_all, -(-num_all // _MOST_SNIPPETS))
    features, in_action = features[rows].astype(np.float64), in_action[rows]
    if not np.ptp(features, axis=0).any():
        raise EtadError(f"video '{id}': all snippets have the same features, so there is nothing to map.")
    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    tsne = TSNE(method="exact", init="pca", perplexity=perplexity, random_state=seed % 2**32, learning_rate="auto")
    picks = {}
    for strategy in _STRATEGIES:
        picked = sample_sequence(
            strategy,
            num_draws=1,
            num_items=len(rows),
            count=max(sample_size(strategy, len(rows), ratio), 1),
            generator=torch.Generator().manual_seed(seed),
            features=torch.from_numpy(features)[None],
        )
        picks[strategy] = picked[0].numpy()
    return SnippetMap(id, tsne.fit_transform(features), in_action, picks, num_all)


def _draw(axes: Axes, found: SnippetMap, picks: np.ndarray) -> None:
    size = 14 if len(found.points) <= 150 else 6
    is_picked = np.isin(np.arange(len(found.points)), picks)
    for inside, colour, marker in ((False, BLUE, "s"), (True, ORANGE, "o")):
        for picked in (False, True):
            rows = (found.in_action == inside) & (is_picked == picked)
            axes.scatter(
                found.points[rows, 0],
                found.points[rows, 1],
                s=size * (1.6 if picked else 1),
                color=colour,
                marker=marker,
                edgecolors=BLACK if picked else "none",
                linewidths=1.0 if picked else 0,
                zorder=2 + picked,
            )
    axes.set(xticks=[], yticks=[])
    axes.margins(0.08)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("0.7")
