"""What a step through a vision transformer costs: fine-tuned whole, by adapters, by adapters under gradient sampling.

A step is one window of so many snippets, through encoder and detector and back. Memory is the process's highest above
where the step began; weights and frames are there before. `recomputed` keeps what goes into each block alone; `kept`
has adapters in the last two stages, half of the blocks, and reads what lies under them from disk. Ordinary
back-propagation of many snippets takes tens of gigabytes, and its cost is proportional to them: it is measured on a
few, and scaled.

Run as `python tests/benchmarks/bench_adapters.py [--encoders videomae_s videomae_b] [--snippets 48 128] [--side 160]`;
`--ways recomputed kept` measures those alone, beside ordinary back-propagation.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from measure import Row, in_turn, peak_mebibytes, report
from torch import Tensor

from etad.data.precision import choose_training_dtype
from etad.detect.model.build import build_detector
from etad.detect.objective import build_objective
from etad.detect.sampling.population import sample_size
from etad.extract.encoders.encoder import ENCODERS, Encoder, build_encoder
from etad.extract.frozen import FrozenCache
from etad.pipeline.config import load_config
from etad.pipeline.e2e.full_step import full_step
from etad.pipeline.e2e.plan import MADE_UP_WINDOW
from etad.pipeline.e2e.sgs import sgs_step

# Snippets on which ordinary back-propagation is measured, and the encoder's stages that `kept` leaves frozen.
FEW, KEPT_STAGES = 4, 2


class Steps:
    """A step in each way, on the same frames and sample."""

    def __init__(self, name: str, count: int, *, side: int, ratio: float, micro_batch: int, precision: str) -> None:
        generator = torch.Generator().manual_seed(0)
        size = (count, ENCODERS[name].clip_frames, side, side, 3)
        self.name, self.micro_batch = name, micro_batch
        dtype = choose_training_dtype(precision, torch.device("cpu"))
        self.autocast = None if dtype == torch.float32 else dtype
        self.video = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
        self.sample = torch.randperm(count, generator=generator)[: sample_size("random", count, ratio)]
        sets = [f"detect.num_snippets={count}", f"detect.max_duration={count}"]
        self.detect = load_config("thumos14-e2e-videomae-s", sets).detect
        self.channels = build_encoder(name).channels
        self.detector = build_detector(self.detect, in_channels=self.channels, num_classes=20, seed=0)
        self.objective = build_objective(self.detect)

    def built(self, adapter: str, frozen_stages: int = 0) -> Encoder:
        torch.manual_seed(0)
        return build_encoder(self.name, adapter=adapter).freeze(-1 if adapter == "none" else frozen_stages)

    def loss_of(self, features: Sequence[Tensor]) -> Tensor:
        values, generator = torch.stack(list(features)).transpose(1, 2), torch.Generator().manual_seed(0)
        windows = [MADE_UP_WINDOW] * len(values)
        return self.objective(self.detector, windows, values, None, generator=generator, training=True)["loss"]

    def alone(self) -> None:
        """The detector's part of a step."""
        self.loss_of([torch.rand(len(self.video), self.channels, requires_grad=True)]).backward()

    def few(self, encoder: Encoder) -> Callable[[], object]:
        """Ordinary back-propagation of a few snippets through the encoder alone."""

        def step() -> None:
            encoder.zero_grad()
            full_step(encoder, [self.video[:FEW]], _total, recompute=False, autocast=self.autocast)

        return step

    def sampled(self, encoder: Encoder, *, recompute: bool = False) -> Callable[[], object]:
        return lambda: self._sampled(encoder, self.video, recompute)

    def kept(self, encoder: Encoder, folder: Path) -> Callable[[], object]:
        """What lies under the trained blocks is read from disk."""
        cache = FrozenCache(encoder, folder, source={}, micro_batch=self.micro_batch, autocast=self.autocast)
        key = cache.entry("", window=(0, len(self.video)), sample="", draw=0)
        cache.save(key, cache.encode(self.video), set())

        def step() -> None:
            found = cache.load(key)
            assert found is not None
            self._sampled(encoder, found[0], False)

        return step

    def _sampled(self, encoder: Encoder, values: Tensor, recompute: bool) -> None:
        encoder.zero_grad()
        how = {"micro_batch": self.micro_batch, "recompute": recompute, "autocast": self.autocast}
        sgs_step(encoder, [values], self.loss_of, samples=[self.sample], **how)  # type: ignore[arg-type]


def rows_of(steps: Steps, *, share: str, folder: Path, repeats: int, wanted: Sequence[str]) -> list[Row]:
    """Time and memory of each way, beside ordinary back-propagation through the whole encoder."""
    name, count = steps.name, len(steps.video)
    times = count / FEW
    few = {"whole": steps.few(steps.built("none")), "series adapters": steps.few(steps.built("series"))}
    ways = {
        f"whole, {share}": steps.sampled(steps.built("none")),
        f"series adapters, {share}": steps.sampled(steps.built("series")),
        f"series adapters, {share}, recomputed": steps.sampled(steps.built("series"), recompute=True),
        f"side adapters, {share}": steps.sampled(steps.built("side")),
        f"series adapters, {share}, kept": steps.kept(steps.built("series", KEPT_STAGES), folder),
    }
    ways = {way: step for way, step in ways.items() if not wanted or any(way.endswith(each) for each in wanted)}
    few_peaks = {way: peak_mebibytes(step) for way, step in few.items()}
    peaks = {way: peak_mebibytes(step) for way, step in ways.items()}
    detector = peak_mebibytes(steps.alone)
    seconds = in_turn({"detector": steps.alone, **few, **ways}, repeats, warm_up=False)
    for way in few:
        ways[f"{way}, ordinary"] = few[way]
        seconds[f"{way}, ordinary"] = seconds[way] * times + seconds["detector"]
        peaks[f"{way}, ordinary"] = max(few_peaks[way] * times, detector)
    first = "whole, ordinary"
    return [
        Row(
            f"end-to-end step, {name}, {count} snippets: {way}",
            plain=seconds[first],
            ours=seconds[way],
            plain_peak_mib=peaks[first],
            peak_mib=peaks[way],
            aim=_AIMS.get(way.split(f"{share}")[-1], "") if way.startswith("series") and share in way else "",
            headline=False,
        )
        for way in ways
        if way != first
    ]


_AIMS = {"": "1.7 x, under 614 MiB", ", kept": "2.9 x"}


def _total(features: Sequence[Tensor]) -> Tensor:
    return sum((part.square().mean() for part in features), torch.zeros(()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="+", default=["videomae_s", "videomae_b"], choices=list(ENCODERS))
    parser.add_argument("--snippets", type=int, nargs="+", default=[48, 128])
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--ratio", type=float, default=0.3)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--ways", nargs="+", default=[], metavar="ENDING", help="ends of their names; all by default")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    how = {"side": asked.side, "ratio": asked.ratio, "micro_batch": asked.micro_batch, "precision": asked.precision}
    rows: list[Row] = []
    for name in asked.encoders:
        for count in asked.snippets:
            with tempfile.TemporaryDirectory() as folder:
                share = f"{100 * asked.ratio:g} % sampled"
                steps = Steps(name, count, **how)
                rows += rows_of(steps, share=share, folder=Path(folder), repeats=asked.repeats, wanted=asked.ways)
    title = f"{asked.side} pixels, micro-batch {asked.micro_batch}, {asked.precision}; reference: whole, ordinary"
    report(rows, title=title)


if __name__ == "__main__":
    main()
