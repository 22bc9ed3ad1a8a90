"""Memory of one training step of a config, on made-up input: the column of Tables 5 to 7."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...data.precision import choose_dtype
from ...data.video.transforms import crop_size
from ...detect.model.build import build_detector
from ...detect.objective import build_objective
from ...detect.sampling.population import sample_size
from ...detect.strategies import find_strategy
from ...extract.encoders.encoder import build_encoder
from ..config import Config
from ..device import threads_for
from ..e2e.full_step import full_step
from ..e2e.memory import peak_bytes, tensor_bytes
from ..e2e.plan import MADE_UP_WINDOW, detector_step
from ..e2e.sgs import ByGradient, sgs_step


def step_bytes(config: Config, *, channels: int | None, device: torch.device) -> int:
    """Most bytes that tensors take in a step, with weights, gradients and what the optimiser keeps.

    Parameters
    ----------
    channels
        Of cached features, of which the detector sees a batch (Table 5); none: one video goes through the encoder and
        back, sampled as the config says (Table 6), or with everything in one graph (Table 7).
    """
    if channels is not None:
        settings = config.detect
        detector = build_detector(settings, in_channels=channels, num_classes=1, seed=config.seed).to(device)
        # The gradients, the fourth of a kind, are made within the step.
        held = 3 * tensor_bytes(detector.parameters())
        batch = settings.training.batch
        return held + peak_bytes(
            lambda: detector_step(detector, settings, channels=channels, batch=batch, device=device), device
        )
    return _end_to_end(config, device)


def _end_to_end(config: Config, device: torch.device) -> int:
    detect, clips = config.detect, config.clips
    encoder = build_encoder(config.encoder.name, clip_frames=clips.clip_frames, adapter=config.encoder.adapter)
    encoder = encoder.to(device).freeze(config.encoder.frozen_stages)
    detector = build_detector(detect, in_channels=encoder.channels, num_classes=1, seed=config.seed).to(device)
    generator = torch.Generator().manual_seed(0)
    width, height = crop_size(clips.crop)
    size = (detect.num_snippets, clips.clip_frames, height, width, 3)
    video = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    autocast = torch.bfloat16 if choose_dtype(config.e2e.precision, device) == torch.bfloat16 else None

    def loss_of(features: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack(list(features)).transpose(1, 2)  # [1, C, T]
        parts = build_objective(detect)(detector, [MADE_UP_WINDOW], stacked, None, generator=generator, training=True)
        return parts["loss"]

    settings = config.e2e
    sampled = torch.arange(sample_size(settings.strategy, len(video), settings.ratio, chunk=settings.chunk))

    def step() -> None:
        if settings.memory != "sgs":
            full_step(encoder, [video], loss_of, recompute=settings.memory == "checkpoint", autocast=autocast)
            return
        late = find_strategy(settings.strategy, gradients=True).needs != "nothing"
        sgs_step(
            encoder,
            [video],
            loss_of,
            samples=ByGradient(lambda found, _: [(sampled, found[0][sampled])]) if late else [sampled],
            micro_batch=settings.micro_batch,
            first_pass_cache=settings.first_pass_cache,
            recompute=settings.recompute,
            autocast=autocast,
        )

    weights = [*encoder.parameters(), *detector.parameters()]
    trained = [each for each in weights if each.requires_grad]
    with threads_for(encoder):
        return tensor_bytes(weights) + 2 * tensor_bytes(trained) + peak_bytes(step, device)
