"""Windows -> raw predictions (method, section 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ...data.cache.source import FeatureSource
from ...data.predictions import RawPrediction
from ..loading import Batches
from ..model.detector import Detector
from ..sampling.proposals import ProposalSampler
from ..settings import DetectSettings
from ..windows import Window


@torch.inference_mode()
def infer(
    detector: Detector,
    windows: Sequence[Window],
    cache: FeatureSource,
    *,
    settings: DetectSettings,
    device: torch.device,
    workers: int = 0,
) -> Iterator[RawPrediction]:
    """Evaluate all proposals (or the inference grid's) of every window, in order."""
    detector.eval()
    proposals = ProposalSampler(settings).for_inference().to(device)
    batches = Batches(windows, cache, settings=settings, workers=workers, memory_gib=0.0)
    size = settings.inference.batch
    order = [list(range(i, min(i + size, len(windows)))) for i in range(0, len(windows), size)]
    for numbers, (features, mask) in zip(order, batches.of(order)):
        mask = None if mask is None else mask.to(device)
        output = detector(features.to(device), proposals, mask)
        segments, iou = output.averaged_boundaries().cpu(), output.averaged_iou().cpu()
        boundary = output.boundary if mask is None else output.boundary * mask
        logits = output.stages[-1].class_logits
        classes = iou.new_zeros(*iou.shape[:2], 0) if logits is None else logits.softmax(dim=2).cpu()
        for row, number in enumerate(numbers):
            window = windows[number]
            yield RawPrediction(
                video_id=window.video_id,
                start_seconds=window.span.start_seconds,
                length_seconds=window.span.length_seconds,
                duration_seconds=window.duration_seconds,
                segments=segments[row].numpy(),
                iou=iou[row].numpy(),
                boundary=boundary[row].cpu().numpy(),
                class_scores=classes[row].numpy(),
            )
