"""`etad train`: a plan, then features and a detector of own videos; called again, it goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...data.annotations import Annotations
from ...data.cache.cache import FeatureCache
from ...data.errors import EtadError, counted
from ..config import Config
from ..run_folder import RunFolder
from .detect import detect
from .extract import Sources, extract, find_sources, load_encoders
from .inputs import read_data, require_data, validation_videos
from .plan import TrainPlan, plan_training, steps_done
from .result import StageResult


@dataclass(frozen=True)
class Prepared:
    """What is known before anything long begins.

    Parameters
    ----------
    sources
        The annotated videos' files.
    others
        Videos without annotations, which are left out.
    """

    plan: TrainPlan
    sources: Sources
    annotations: Annotations
    others: int

    def lines(self) -> list[str]:
        """One line a part of the plan."""
        others = f"{counted(self.others, 'video')} without annotations left out; `etad predict` takes any video"
        return [*([others] if self.others else []), *self.plan.lines()]


def make_plan(config: Config, run: RunFolder, *, weights: Path | None, device: torch.device) -> Prepared:
    """Look at all that a training takes, and refuse what is known to fail.

    Parameters
    ----------
    weights
        The encoder's, where neither the config nor a package has them.

    Raises
    ------
    EtadError
        Annotations, videos, weights and config do not go together, or the disk has no room.
    """
    for stage in ("extract", "detect"):
        run.require_same(stage, config)
    annotations = read_data(config)
    annotations.subset(config.data.test_subset)
    validation_videos(config, annotations)
    sources = find_sources(config, annotations, None)
    labelled = {id: path for id, path in sources.files.items() if id in annotations.videos}
    if not labelled:
        raise EtadError(
            f"{config.data.videos}: holds none of the {counted(len(annotations.videos), 'annotated video')} of "
            f"{annotations.source}. Name their folder with --set data.videos=DIR."
        )
    others = len(sources.files) - len(labelled)
    sources = replace(sources, files=labelled)
    encoders, _ = load_encoders(config, run, weights)
    plan = plan_training(
        config,
        run,
        encoders=encoders,
        sources=sources,
        annotations=annotations,
        done=steps_done(run.files("detect").last),
        device=device,
    )
    if plan.bytes > plan.free_bytes:
        raise EtadError(
            f"{run.path}: {plan.bytes / 2**30:.1f} GiB will be written, {plan.free_bytes / 2**30:.1f} GiB are free. "
            "Choose a run folder on another disk with -o."
        )
    return Prepared(plan, sources, annotations, others)


def train(
    config: Config,
    run: RunFolder,
    prepared: Prepared,
    *,
    device: torch.device,
    weights: Path | None = None,
    scores: Path | None = None,
) -> tuple[StageResult, StageResult]:
    """Extract what the cache does not have, train the detector as far as it is not, detect, evaluate.

    Parameters
    ----------
    prepared
        See `make_plan`.
    scores
        File of video-level class scores.

    Returns
    -------
    What the stages `extract` and `detect` did.
    """
    require_data(config, prepared.annotations, scores=scores, there=prepared.sources.files)
    extracted = extract(config, run, sources=prepared.sources, weights=weights, device=device)
    detected = detect(
        config,
        run,
        cache=FeatureCache(run.cache),
        annotations=prepared.annotations,
        scores=scores,
        device=device,
    )
    return extracted, detected
