"""What a config costs: parameters, operations, time and memory by phase, on made-up frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...data.errors import counted
from ...data.precision import choose_dtype
from ...data.progress import PartBar
from ...data.video.transforms import crop_size
from ...detect.model.build import build_detector
from ...detect.model.network import DetectionNetwork
from ...detect.sampling.population import sample_size
from ...detect.sampling.proposals import ProposalSampler
from ...detect.settings import DetectSettings
from ...extract.encode import encode_clips
from ...extract.encoders.encoder import ENCODERS, Encoder, build_encoder, encoder_spec
from ..config import Config
from ..device import threads_for
from .memory import peak_bytes
from .plan import StepPlan, detector_step, plan_step
from .sgs import sgs_step


@dataclass(frozen=True)
class Part:
    """A network: its parameters, those of them that training changes, and operations of a forward pass."""

    name: str
    parameters: int
    trained: int
    flops: int
    flops_of: str


@dataclass(frozen=True)
class Phase:
    """A phase of a step: how long it takes once, how much memory at its peak, how often it happens.

    Parameters
    ----------
    times
        How often in an end-to-end step of the config's batch; 0 where it is no part of one.
    """

    name: str
    seconds: float
    peak_bytes: int
    times: int


@dataclass(frozen=True)
class Profile:
    """All that was found; no plan where the features come from elsewhere."""

    parts: list[Part]
    phases: list[Phase]
    plan: StepPlan | None

    @property
    def step_seconds(self) -> float:
        """An end-to-end step, decoding not counted."""
        return sum(phase.seconds * phase.times for phase in self.phases)


def profile(config: Config, device: torch.device) -> Profile:
    """Run each phase once to warm up and once to measure.

    Raises
    ------
    EtadError
        The encoder is unknown, or a memory budget holds no micro-batch.
    """
    detect = config.detect
    if config.encoder.name not in ENCODERS and detect.in_channels is not None:
        detector = _detector(detect, detect.in_channels, device)
        with PartBar("profile", unit="phase", total=2) as bar:
            parts, phases = _of_detector(detector, detect, detect.in_channels, detect.training.batch, device, bar)
        return Profile(parts, phases, None)
    encoder_spec(config.encoder.name)
    settings = config.encoder
    encoder = build_encoder(settings.name, clip_frames=config.clips.clip_frames, adapter=settings.adapter)
    encoder = encoder.to(device).freeze(config.encoder.frozen_stages)
    detector = _detector(detect, encoder.channels, device)
    generator = torch.Generator().manual_seed(0)
    width, height = crop_size(config.clips.crop)
    size = (config.clips.clip_frames, height, width, 3)
    clip = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    dtype = choose_dtype(config.e2e.precision, device)
    autocast = torch.bfloat16 if dtype == torch.bfloat16 else None
    with PartBar("profile", unit="phase", total=5) as bar:
        plan = plan_step(
            config.e2e,
            detect,
            encoder=encoder,
            detector=detector,
            clip=clip,
            workers=config.workers,
            device=device,
            autocast=autocast,
        )
        bar.finish_one()
        with threads_for(encoder):
            parts, phases = _of_detector(detector, detect, encoder.channels, config.e2e.batch, device, bar)
            part, ways = _of_encoder(encoder, clip, config, plan.micro_batch, device, autocast, bar)
    return Profile([part, *parts], [*ways, *phases], plan)


def _of_encoder(
    encoder: Encoder,
    clip: Tensor,
    config: Config,
    micro_batch: int,
    device: torch.device,
    autocast: torch.dtype | None,
    bar: PartBar,
) -> tuple[Part, list[Phase]]:
    clips = clip.expand(micro_batch, *clip.shape)
    settings, length = config.e2e, config.detect.num_snippets
    passes = settings.batch * -(-length // micro_batch)
    back = settings.batch * -(
        -sample_size(settings.strategy, length, settings.ratio, chunk=settings.chunk) // micro_batch
    )

    def forward() -> None:
        with torch.no_grad():
            encode_clips(encoder, clips.to(device), autocast or torch.float32)

    def backward() -> None:
        everything = [torch.arange(micro_batch)]
        how = {"samples": everything, "micro_batch": micro_batch, "autocast": autocast}
        how |= {"recompute": settings.recompute}
        sgs_step(encoder, [clips], lambda features: features[0].sum(), **how)  # type: ignore[arg-type]

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encode_clips(encoder, clip[None].to(device), torch.float32)
    part = _part("encoder", encoder, counter.get_total_flops(), "snippet")
    seconds, peak = _measure(forward, device, bar)
    both_seconds, both_peak = _measure(backward, device, bar)
    encode = Phase(f"encode {counted(micro_batch, 'snippet')}", seconds, peak, passes)
    # The step measured here encodes without gradient first, which is the phase above.
    again = Phase(f"encode {micro_batch} again and go back", max(both_seconds - seconds, 0.0), both_peak, back)
    return part, [encode, again]


def _of_detector(
    detector: DetectionNetwork,
    detect: DetectSettings,
    channels: int,
    batch: int,
    device: torch.device,
    bar: PartBar,
) -> tuple[list[Part], list[Phase]]:
    proposals = ProposalSampler(detect).for_inference().to(device)
    features = torch.rand(1, channels, detect.num_snippets, generator=torch.Generator().manual_seed(0)).to(device)

    def infer() -> None:
        with torch.inference_mode():
            detector.eval().predict(features, proposals)

    def learn() -> None:
        detector_step(detector.train(), detect, channels=channels, batch=batch, device=device)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        detector.eval().predict(features, proposals)
    part = _part("detector", detector, counter.get_total_flops(), "video, inferred")
    phases = [
        Phase(f"train the detector on {counted(batch, 'video')}", *_measure(learn, device, bar), 1),
        Phase(f"infer a video ({counted(len(proposals), 'proposal')})", *_measure(infer, device, bar), 0),
    ]
    return [part], phases


def _measure(compute: Callable[[], None], device: torch.device, bar: PartBar) -> tuple[float, int]:
    """Seconds and peak memory of a computation that has run before; moves the bar by a phase."""
    compute()
    bar.within(1 / 3)
    _wait(device)
    started = time.perf_counter()
    compute()
    _wait(device)
    seconds = time.perf_counter() - started
    bar.within(2 / 3)
    peak = peak_bytes(compute, device)
    bar.finish_one()
    return seconds, peak


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _detector(detect: DetectSettings, channels: int, device: torch.device) -> DetectionNetwork:
    return build_detector(detect, in_channels=channels, num_classes=1, seed=0).to(device)


def _part(name: str, module: nn.Module, flops: int, flops_of: str) -> Part:
    parameters = list(module.parameters())
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    return Part(name, sum(each.numel() for each in parameters), trained, flops, flops_of)
