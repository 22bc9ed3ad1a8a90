"""Which actions a video shows: a video-level classifier on the cached features, where no class scores are at hand."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...data.checkpoint import load_checkpoint, require_form, save_checkpoint
from ...data.errors import EtadError, counted
from ...data.progress import progress_bar

FORMAT = "etad-video-classifier"
_ARRAYS = ("mean", "scale", "weights", "bias")

# Weights of the loss against the penalty that are tried on a held-out fifth of the videos.
LOSS_WEIGHTS = (1e-3, 1e-2, 1e-1, 1.0)

# One video of so many is held out, and never the only one of a class.
HELD_OUT = 5


@dataclass(frozen=True)
class VideoClassifier:
    """Multinomial logistic regression on a video's pooled features.

    Parameters
    ----------
    labels
        Label of each class.
    mean, scale
        (2 C,) by which pooled features are standardised.
    weights
        (classes, 2 C)
    bias
        (classes,); minus infinity for a class that no training video showed.
    """

    labels: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Say how likely each class is in a video.

        Parameters
        ----------
        features
            (T, C) the video's features, of any length.

        Returns
        -------
        np.ndarray
            (classes,) float64, they sum to 1.

        Raises
        ------
        EtadError
            The features have other channels than those it was trained on.
        """
        expected = len(self.mean) // 2
        if features.shape[1] != expected:
            raise EtadError(
                f"the video classifier was trained on features of {expected} channels, these have "
                f"{features.shape[1]}. Train it again on this cache."
            )
        return _softmax(((pool(features) - self.mean) / self.scale) @ self.weights.T + self.bias)


def pool(features: np.ndarray) -> np.ndarray:
    """Mean and maximum over time of a video's features, (T, C) -> (2 C,) float32.

    Examples
    --------
    >>> pool(np.array([[1.0, 0.0], [3.0, 5.0]])).tolist()
    [2.0, 2.5, 3.0, 5.0]
    """
    return np.concatenate([features.mean(axis=0, dtype=np.float64), features.max(axis=0)]).astype(np.float32)


def train_classifier(pooled: np.ndarray, classes: Sequence[Sequence[int]], *, labels: Sequence[str]) -> VideoClassifier:
    """Train on videos whose actions are known; the same videos give the same classifier.

    A video that shows several classes counts as a share of a video for each of them. One that shows none is left out.
    The penalty on the weights is chosen by the loss on a held-out fifth of the videos.

    Parameters
    ----------
    pooled
        (V, 2 C) pooled features of each video.
    classes
        Class numbers of each video's actions; repeated ones count once.
    labels
        Label of each class.

    Raises
    ------
    EtadError
        No video shows any class.
    """
    distinct = [sorted(set(own)) for own in classes]
    rows = np.repeat(np.arange(len(distinct)), [len(own) for own in distinct])
    if len(rows) == 0:
        raise EtadError("none of the training videos shows an action, so no classifier can be trained on them.")
    targets = np.array([number for own in distinct for number in own], dtype=np.int64)
    shares = np.array([1 / len(distinct[row]) for row in rows])

    used = pooled[np.unique(rows)].astype(np.float64)
    mean, scale = used.mean(axis=0), used.std(axis=0)
    scale[scale < 1e-6] = 1.0
    inputs = ((pooled - mean) / scale).astype(np.float32)[rows]

    loss_weight = _choose_loss_weight(inputs, targets, shares, rows)
    with progress_bar("classify: train", unit="fit", total=1, delay=1) as bar:
        weights, bias = _fit(inputs, targets, shares, loss_weight=loss_weight, num_classes=len(labels))
        bar.update()
    return VideoClassifier(tuple(labels), mean, scale, weights, bias)


def save_classifier(path: Path | str, classifier: VideoClassifier) -> Path:
    """Write a classifier, whole or not at all."""
    arrays = {name: torch.from_numpy(getattr(classifier, name)) for name in _ARRAYS}
    return save_checkpoint(path, {"format": FORMAT, "labels": list(classifier.labels), **arrays})


def load_classifier(path: Path | str) -> VideoClassifier:
    """Read a classifier.

    Raises
    ------
    EtadError
        The file is missing, damaged or of another kind.
    """
    state = load_checkpoint(path)
    if state.get("format") != FORMAT:
        raise EtadError(f"{path}: this is no video classifier. Name one, or remove the file to train it again.")
    require_form(path, state, {"labels": [str], **dict.fromkeys(_ARRAYS, torch.Tensor)})
    arrays = {name: state[name].numpy() for name in _ARRAYS}
    classes, inputs = len(state["labels"]), arrays["mean"].shape
    shapes = {"mean": inputs, "scale": inputs, "weights": (classes, *inputs), "bias": (classes,)}
    for name, shape in shapes.items():
        if len(inputs) != 1 or arrays[name].shape != shape:
            raise EtadError(
                f"{path}: '{name}' has shape {list(arrays[name].shape)}, expected {list(shape)} for "
                f"{counted(classes, 'class')}. Remove the file to train it again."
            )
    return VideoClassifier(labels=tuple(state["labels"]), **arrays)


def _choose_loss_weight(inputs: np.ndarray, targets: np.ndarray, shares: np.ndarray, videos: np.ndarray) -> float:
    """Find the loss weight that predicts held-out videos best; without enough videos to hold out, the middle one."""
    held_out = np.isin(videos, _held_out_videos(targets, videos))
    if not held_out.any():
        return LOSS_WEIGHTS[len(LOSS_WEIGHTS) // 2]
    num_classes = int(targets.max()) + 1
    losses = []
    for loss_weight in progress_bar("classify: choose the penalty", LOSS_WEIGHTS, unit="fit", delay=1):
        weights, bias = _fit(
            inputs[~held_out], targets[~held_out], shares[~held_out], loss_weight=loss_weight, num_classes=num_classes
        )
        likelihood = _softmax(inputs[held_out] @ weights.T + bias)[np.arange(held_out.sum()), targets[held_out]]
        losses.append(-(shares[held_out] * np.log(likelihood + 1e-12)).sum())
    return LOSS_WEIGHTS[int(np.argmin(losses))]


def _held_out_videos(targets: np.ndarray, videos: np.ndarray) -> list[int]:
    """List every fifth video of each class, as long as another video shows each of its classes."""
    left = np.bincount(targets)
    chosen: list[int] = []
    for number in np.unique(targets):
        for video in videos[targets == number][HELD_OUT - 1 :: HELD_OUT].tolist():
            own = targets[videos == video]
            if video not in chosen and (left[own] > 1).all():
                chosen.append(video)
                left[own] -= 1
    return chosen


def _fit(
    inputs: np.ndarray, targets: np.ndarray, shares: np.ndarray, *, loss_weight: float, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weights (classes, 2 C) and bias (classes,), float64."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights = np.zeros((num_classes, inputs.shape[1]))
    bias = np.full(num_classes, -np.inf)
    shown = np.unique(targets)
    bias[shown] = 0.0
    if len(shown) == 1:
        return weights, bias
    # The gradient is spread over the classes: with many of them the usual tolerance would stop at once.
    regression = LogisticRegression(C=loss_weight, max_iter=200, tol=1e-4 / len(shown))
    with warnings.catch_warnings():
        # A fit that is stopped early is a regularised one, and no worse for it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(inputs, targets, sample_weight=shares)
    # Of two classes only the second one's weights are kept: the first one's are 0.
    fitted = shown if len(shown) > 2 else shown[1:]
    weights[fitted], bias[fitted] = regression.coef_, regression.intercept_
    return weights, bias


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
