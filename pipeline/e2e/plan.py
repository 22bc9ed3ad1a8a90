"""What fits: the memory of an end-to-end step, measured piece by piece before training begins."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...data.errors import EtadError
from ...data.timeline import Span
from ...detect.model.network import DetectionNetwork
from ...detect.objective import build_objective
from ...detect.sampling.population import sample_size
from ...detect.settings import DetectSettings
from ...detect.strategies import STRATEGIES
from ...detect.windows import Window
from ...extract.encoders.encoder import Encoder
from ...extract.frozen import map_bytes
from ..settings import E2eSettings
from .memory import GIB, peak_bytes, tensor_bytes
from .sgs import FirstPassCache, kept_map_bytes, sgs_step


@dataclass(frozen=True)
class StepPlan:
    """Memory of a step of gradient sampling, in bytes.

    Parameters
    ----------
    micro_batch, first_pass_cache
        What was chosen to fit.
    frames
        Of a batch and of the windows read ahead, uint8; none on a GPU, where they wait in the main memory.
    weights
        Of encoder and detector, with their gradients and what the optimiser keeps.
    maps
        Kept outputs of the frozen stages.
    detector
        Of the detector's forward and backward pass.
    snippets
        Of a micro-batch's forward and backward pass.
    """

    micro_batch: int
    first_pass_cache: FirstPassCache
    frames: int
    weights: int
    maps: int
    detector: int
    snippets: int

    @property
    def total(self) -> int:
        """Most at a time: detector and micro-batches take turns; the maps wait meanwhile."""
        return self.frames + self.weights + self.maps + max(self.detector, self.snippets)

    def text(self) -> str:
        """Tell it in one line."""
        parts = ("frames", "weights", "maps", "detector", "snippets")
        listed = ", ".join(f"{name} {getattr(self, name) / GIB:.3f}" for name in parts)
        chosen = f"micro-batch {self.micro_batch}, first-pass cache {self.first_pass_cache}"
        return f"step: {chosen}, {self.total / GIB:.3f} GiB ({listed})"


def plan_step(
    settings: E2eSettings,
    detect: DetectSettings,
    *,
    encoder: Encoder,
    detector: DetectionNetwork,
    clip: Tensor,
    workers: int,
    device: torch.device,
    autocast: torch.dtype | None,
) -> StepPlan:
    """Measure one snippet, two snippets and the detector; then shrink the micro-batch, and cache less, until it fits.

    Parameters
    ----------
    encoder, detector
        On `device`; left as they were.
    clip
        A snippet's frames, uint8 (L, H, W, 3).
    workers
        Threads that read ahead; each holds a window.

    Raises
    ------
    EtadError
        Not even a micro-batch of one snippet fits into the budget.
    """
    # 1. What each piece takes. The copies' gradients are there beforehand, so that they are not counted twice.
    encoder, detector = copy.deepcopy(encoder), copy.deepcopy(detector)
    trained = [each for each in (*encoder.parameters(), *detector.parameters()) if each.requires_grad]
    for each in trained:
        each.grad = torch.zeros_like(each)
    again = settings.recompute
    one, two = (snippets_bytes(encoder, clip, n, device=device, autocast=autocast, recompute=again) for n in (1, 2))
    per_snippet = max(two - one, 1)
    detector_peak = peak_bytes(
        lambda: detector_step(detector, detect, channels=encoder.channels, batch=settings.batch, device=device), device
    )
    # Of what is trained, also its gradient, the optimiser's two moments, and the average.
    copies = 4 if settings.ema else 3
    weights = tensor_bytes([*encoder.parameters(), *detector.parameters()]) + copies * tensor_bytes(trained)
    length = detect.num_snippets
    # What is kept of the frozen stages waits in place of the frames that it is made from.
    waiting_bytes = max(tensor_bytes([clip]), map_bytes(encoder, clip) if settings.cache_frozen else 0)
    waiting = (settings.batch + (workers + 1 if workers else 0)) * length * waiting_bytes
    frames = 0 if device.type == "cuda" else waiting
    chosen_late = STRATEGIES[settings.strategy].needs != "nothing"
    kept = length if chosen_late else sample_size(settings.strategy, length, settings.ratio, chunk=settings.chunk)
    maps = settings.batch * kept * kept_map_bytes(encoder, clip, autocast=autocast)

    # 2. What fits.
    def plan(micro_batch: int, cached: FirstPassCache) -> StepPlan:
        held = {"nothing": 0, "maps": maps, "graphs": settings.batch * kept * per_snippet}[cached]
        snippets = one + (micro_batch - 1) * per_snippet
        return StepPlan(micro_batch, cached, frames, weights, held, detector_peak, snippets)

    budget = None if settings.memory_budget_gib is None else settings.memory_budget_gib * GIB
    choices = dict.fromkeys([settings.first_pass_cache, "nothing"])
    for cached in choices:
        for micro_batch in range(settings.micro_batch, 0, -1):
            found = plan(micro_batch, cached)
            if budget is None or found.total <= budget:
                return found
    assert budget is not None
    raise EtadError(
        f"e2e.memory_budget_gib={settings.memory_budget_gib:g} does not hold one micro-batch of one snippet: that "
        f"takes {found.total / GIB:.3f} GiB, {(found.total - budget) / GIB:.3f} more. "
        f"Raise the budget, or {_advice(found, settings)}. {found.text()}."
    )


def _advice(plan: StepPlan, settings: E2eSettings) -> str:
    """What makes the largest piece smaller."""
    largest = max(("weights", "frames", "detector", "snippets"), key=lambda name: getattr(plan, name))
    return {
        "weights": "freeze more of the encoder (encoder.frozen_stages), or take a smaller one",
        "frames": f"lower e2e.batch={settings.batch}, clips.crop or --workers",
        "detector": f"lower e2e.batch={settings.batch}",
        "snippets": "set e2e.recompute=true, lower clips.crop or clips.clip_frames",
    }[largest]


def snippets_bytes(
    encoder: Encoder,
    clip: Tensor,
    count: int,
    *,
    device: torch.device,
    autocast: torch.dtype | None,
    recompute: bool = False,
) -> int:
    """Peak of encoding some snippets with gradient and going back."""
    video = clip.expand(count, *clip.shape)

    def step() -> None:
        everything = [torch.arange(count)]
        how = {"samples": everything, "micro_batch": count, "recompute": recompute, "autocast": autocast}
        sgs_step(encoder, [video], feature_sum, **how)  # type: ignore[arg-type]

    return peak_bytes(step, device)


def detector_step(
    detector: DetectionNetwork, detect: DetectSettings, *, channels: int, batch: int, device: torch.device
) -> None:
    """The detector's forward and backward pass over a batch of made-up windows."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(batch, channels, detect.num_snippets, generator=generator).to(device).requires_grad_()
    parts = build_objective(detect)(
        detector, [MADE_UP_WINDOW] * batch, features, None, generator=generator, training=True
    )
    parts["loss"].backward()


def feature_sum(features: object) -> Tensor:
    """A loss to measure with, of each video's features."""
    assert isinstance(features, tuple)
    return torch.stack([part.sum() for part in features]).sum()


MADE_UP_WINDOW = Window(
    video_id="",
    cache_id="",
    duration_seconds=100.0,
    span=Span(0.0, 100.0),
    first=0,
    count=0,
    segments=np.array([[0.2, 0.5]]),
    labels=np.zeros(1, dtype=np.int64),
)
