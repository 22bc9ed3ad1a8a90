"""A baseline and its objective from the settings; `detect/model/build.py` and `detect/objective.py` ask for them."""

from __future__ import annotations

from ...data.ranks import Ranks
from ..model.network import DetectionNetwork
from ..settings import DetectSettings
from .bmn import Bmn
from .objective import BmnObjective


def build_network(settings: DetectSettings, *, in_channels: int, num_classes: int) -> DetectionNetwork:
    """Build the network that `settings.model` names, from global randomness."""
    return Bmn(
        in_channels=in_channels,
        standardise=settings.standardise,
        num_snippets=settings.num_snippets,
        max_duration=settings.max_duration,
        num_classes=num_classes,
        kernels=settings.kernels,
        **settings.bmn.model_dump(),
    )


def build_baseline_objective(settings: DetectSettings, ranks: Ranks) -> BmnObjective:
    """Build its objective."""
    return BmnObjective(settings, ranks)
