"""Windows -> raw predictions (method, section 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ...data.cache.source import FeatureSource
from ...data.predictions import RawPrediction
from ...data.ranks import ALONE, Ranks
from ..loading import Batches
from ..model.network import DetectionNetwork
from ..sampling.proposals import ProposalSampler
from ..settings import DetectSettings
from ..windows import Window


@torch.inference_mode()
def infer(
    detector: DetectionNetwork,
    windows: Sequence[Window],
    cache: FeatureSource,
    *,
    settings: DetectSettings,
    device: torch.device,
    workers: int = 0,
    ranks: Ranks = ALONE,
) -> Iterator[RawPrediction]:
    """Evaluate all proposals (or the inference grid's) of every window, in order; some detectors report a few of them.

    Parameters
    ----------
    ranks
        Processes that take turns with the batches: the first one yields the predictions of all, the others none.
    """
    detector.eval()
    proposals = ProposalSampler(settings).for_inference().to(device)
    batches = Batches(windows, cache, settings=settings, workers=workers, memory_gib=0.0)
    size = settings.inference.batch
    order = [list(range(i, min(i + size, len(windows)))) for i in range(0, len(windows), size)]
    # In each turn every rank has one batch; in the last one some have none.
    turns = [order[i : i + ranks.size] for i in range(0, len(order), ranks.size)]
    own = [turn[ranks.rank] if ranks.rank < len(turn) else [] for turn in turns]
    for turn, (features, mask) in zip(turns, batches.of(own)):
        predicted: list[Tensor] = []
        if features is not None:
            mask = None if mask is None else mask.to(device)
            predicted = [each.cpu() for each in detector.predict(features.to(device), proposals, mask)]
        for numbers, arrays in zip(turn, ranks.join_arrays(predicted)):
            for number, *row in zip(numbers, *arrays) if ranks.is_first else ():
                segments, iou, boundary, classes = (each.numpy() for each in row)
                window = windows[number]
                yield RawPrediction(
                    video_id=window.video_id,
                    start_seconds=window.span.start_seconds,
                    length_seconds=window.span.length_seconds,
                    duration_seconds=window.duration_seconds,
                    segments=segments,
                    iou=iou,
                    boundary=boundary,
                    class_scores=classes,
                )
