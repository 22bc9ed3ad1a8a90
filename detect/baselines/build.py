"""A baseline and its objective from the settings; `detect/model/build.py` and `detect/objective.py` ask for them."""

from __future__ import annotations

from ...data.ranks import Ranks
from ..model.network import DetectionNetwork
from ..settings import DetectSettings
from .bmn import Bmn
from .objective import BmnObjective
from .refined import RefinedBmn
from .refined_objective import RefinedObjective
from .tcanet import Tcanet


def build_network(settings: DetectSettings, *, in_channels: int, num_classes: int) -> DetectionNetwork:
    """Build the network that `settings.model` names, from global randomness."""
    bmn = Bmn(
        in_channels=in_channels,
        standardise=settings.standardise,
        num_snippets=settings.num_snippets,
        max_duration=settings.max_duration,
        num_classes=num_classes,
        precision=settings.heads_precision,
        kernels=settings.kernels,
        **settings.bmn.model_dump(),
    )
    if settings.model == "bmn":
        return bmn
    sizes = settings.tcanet.model_dump(exclude={"dropout", "proposals", "training_proposals"})
    tcanet = Tcanet(
        in_channels=in_channels, standardise=settings.standardise, precision=settings.heads_precision, **sizes
    )
    return RefinedBmn(bmn, tcanet, num_proposals=settings.tcanet.proposals)


def build_baseline_objective(settings: DetectSettings, ranks: Ranks) -> BmnObjective | RefinedObjective:
    """Build its objective."""
    return BmnObjective(settings, ranks) if settings.model == "bmn" else RefinedObjective(settings, ranks)
