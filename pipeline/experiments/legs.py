"""Stages run one after the other from code, as the commands would: for the demo, and for the paper's tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...data.annotations import Annotations
from ...data.cache.cache import FeatureCache
from ...data.errors import EtadError
from ..config import Config
from ..device import choose_device
from ..e2e.stage import run_e2e
from ..run_folder import RunFolder
from ..stages.detect import detect
from ..stages.evaluate import Evaluation
from ..stages.extract import find_sources, run_extract


@dataclass(frozen=True)
class Leg:
    """What some stages came to.

    Parameters
    ----------
    left_out
        Videos that are missing, or could not be read.
    """

    evaluation: Evaluation
    left_out: tuple[str, ...]


def extract_and_detect(config: Config, run: RunFolder, annotations: Annotations, *, weights: Path | None) -> Leg:
    """Encode every video, train the detector on the features, infer, evaluate.

    Raises
    ------
    EtadError
        The test subset holds nothing to measure on; whatever the stages complain of.
    """
    device, sources = choose_device(config.device), find_sources(config, annotations, None)
    extracted, _ = run_extract(config, run, sources=sources, weights=weights, shard=None, device=device)
    outcome = detect(
        config,
        run,
        cache=FeatureCache(run.cache),
        annotations=annotations,
        scores=None,
        checkpoint=None,
        device=device,
    )
    left_out = {*sources.missing, *(failure.video_id for failure in extracted.failed), *outcome.missing}
    return Leg(_measured(outcome.evaluation, config), tuple(sorted(left_out)))


def train_end_to_end(
    config: Config, run: RunFolder, annotations: Annotations, *, weights: Path | None, init_detector: Path | None
) -> Leg:
    """Train encoder and detector together, infer, evaluate; errors as above.

    Parameters
    ----------
    weights, init_detector
        To start from; the run's own by default.
    """
    outcome = run_e2e(
        config,
        run,
        sources=find_sources(config, annotations, None),
        annotations=annotations,
        init_detector=init_detector,
        weights=weights,
        scores=None,
        device=choose_device(config.device),
    )
    return Leg(_measured(outcome.evaluation, config), tuple(sorted({*outcome.failed, *outcome.missing})))


def _measured(evaluation: Evaluation | None, config: Config) -> Evaluation:
    if evaluation is None:
        raise EtadError(
            f"no video of the subset '{config.data.test_subset}' has annotated actions, so there is nothing to "
            "measure on. Name another subset with --set data.test_subset=NAME."
        )
    return evaluation
