"""Detectors from settings and from checkpoints: a checkpoint holds its own sizes, so it rebuilds itself."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...data.checkpoint import TENSORS, load_checkpoint, naming_contents, require_form
from ...data.errors import EtadError, counted, listing
from ..settings import DetectSettings
from .detector import Detector
from .network import DetectionNetwork

FORMAT = "etad-detector"

# What every detector's checkpoint has, for `require_form`.
_FORM = {
    "settings": dict,
    "classes": [str],
    "in_channels": int,
    "source": dict,
    "config_digest": str,
    "position": {"epoch": int, "step": int},
    "model": TENSORS,
}


@dataclass(frozen=True)
class Trained:
    """A detector from a checkpoint, and what it was trained for.

    Parameters
    ----------
    settings
        The sizes and rules it was trained with.
    classes
        Class names in the order of its class branch and labels.
    source
        The kind of features it was trained on: encoder, layout and so on, as the cache tells them.
    state
        The whole checkpoint.
    """

    detector: DetectionNetwork
    settings: DetectSettings
    classes: tuple[str, ...]
    source: dict[str, Any]
    state: dict[str, Any]

    def training_notes(self, checkpoint: Path) -> list[str]:
        """Say what the training itself lacked, where it read videos: frames that could not be decoded."""
        lost = self.state.get("lost_ticks") or {}
        counts = {str(id): len(ticks) for id, ticks in sorted(lost.items()) if ticks}
        if not counts:
            return []
        worst = listing(f"{id}: {counts[id]}" for id in sorted(counts, key=lambda id: -counts[id]))
        which = f"{counted(len(counts), 'video')} of which frames could not be decoded ({worst})"
        return [f"{checkpoint}: it was trained on {which}"]


def build_detector(settings: DetectSettings, *, in_channels: int, num_classes: int, seed: int) -> DetectionNetwork:
    """Build a freshly initialised detector; the same seed gives the same weights, whatever was drawn before."""
    branch_classes = num_classes if settings.labels.source == "branch" else 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if settings.model != "etad":
            # By name, on use: the baselines are made from all wings, and know this one.
            baselines = importlib.import_module("..baselines.build", __package__)
            network: DetectionNetwork = baselines.build_network(
                settings, in_channels=in_channels, num_classes=branch_classes
            )
            return network
        return Detector(
            in_channels=in_channels,
            standardise=settings.standardise,
            enhancement=settings.enhancement,
            num_stages=settings.num_stages,
            bins=settings.roi_bins,
            num_classes=branch_classes,
            precision=settings.heads_precision,
            kernels=settings.kernels,
        )


def load_detector(path: Path) -> Trained:
    """Rebuild a detector from its checkpoint.

    Raises
    ------
    EtadError
        The file is no detector checkpoint, or its weights do not fit its own sizes.
    """
    state = load_checkpoint(path)
    if state.get("format") != FORMAT:
        raise EtadError(
            f"{path}: expected a detector checkpoint of `etad detect` or `etad e2e`, found "
            f"format {state.get('format')!r}."
        )
    require_form(path, state, _FORM)
    classes = tuple(state["classes"])
    with naming_contents(path):
        settings = DetectSettings.model_validate(state["settings"])
        detector = build_detector(settings, in_channels=state["in_channels"], num_classes=len(classes), seed=0)
        trained = Trained(detector, settings, classes, state["source"], state)
        trained.training_notes(path)  # complains of what it cannot be made from
    try:
        detector.load_state_dict(state["model"])
    except RuntimeError as error:
        raise EtadError(f"{path}: the weights do not fit the sizes that the checkpoint states: {error}") from error
    return trained


def check_channels(settings: DetectSettings, found: int, where: Path | str, *, trained: Path | None = None) -> int:
    """Agree on the number of feature channels.

    Parameters
    ----------
    trained
        Checkpoint that decided the number; none: the config did.

    Raises
    ------
    EtadError
        The cache's channels contradict the settings.
    """
    if settings.in_channels not in (None, found):
        whose = "the detector expects" if trained is None else f"{trained} was trained on"
        other = f"set detect.in_channels={found}" if trained is None else "name the features it was trained on"
        raise EtadError(
            f"{where}: features have {found} channels, {whose} {settings.in_channels}. "
            f"Extract them with the same encoder, or {other}."
        )
    return found


def check_classes(classes: Sequence[str], expected: Trained, path: Path) -> None:
    """Refuse a checkpoint whose classes are not these."""
    if tuple(classes) != expected.classes:
        unexpected = sorted(set(classes) - set(expected.classes)) or sorted(set(expected.classes) - set(classes))
        raise EtadError(
            f"{path}: trained for {counted(len(expected.classes), 'class')}, the annotations have {len(classes)}; "
            f"'{unexpected[0]}' is in one list alone. Use the annotations it was trained on."
        )
