"""What a step through a vision transformer costs: fine-tuned whole, by adapters, by adapters under gradient sampling.

Memory is the process's highest above where the step began; weights and frames are there before. `recomputed` keeps what
goes into each block alone. Ordinary back-propagation of many snippets takes tens of gigabytes: `--skip-whole` leaves it
out.

Run as `python tests/benchmarks/bench_adapters.py [--encoders videomae_s videomae_b] [--snippets 48 128] [--side 160]`.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
from collections.abc import Callable, Sequence

import torch
from measure import Row, in_turn, peak_mebibytes, report
from torch import Tensor

from etad.detect.sampling.population import sample_size
from etad.extract.encoders.encoder import ENCODERS, Encoder, build_encoder
from etad.pipeline.e2e.full_step import full_step
from etad.pipeline.e2e.sgs import sgs_step


def loss_of(features: Sequence[Tensor]) -> Tensor:
    return sum((part.square().mean() for part in features), torch.zeros(()))


def ways_of(
    name: str, count: int, *, side: int, ratio: float, micro_batch: int, skip_whole: bool
) -> dict[str, Callable[[], object]]:
    """A step in each way, by what it is called; all on the same frames and sample."""
    generator = torch.Generator().manual_seed(0)
    size = (count, ENCODERS[name].clip_frames, side, side, 3)
    video = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    sample = torch.randperm(count, generator=generator)[: sample_size("random", count, ratio)]

    def built(adapter: str) -> Encoder:
        torch.manual_seed(0)
        return build_encoder(name, adapter=adapter).freeze(-1 if adapter == "none" else 0)

    def whole(encoder: Encoder) -> None:
        encoder.zero_grad()
        full_step(encoder, [video], loss_of, recompute=False)

    def sampled(encoder: Encoder, recompute: bool) -> None:
        encoder.zero_grad()
        sgs_step(encoder, [video], loss_of, samples=[sample], micro_batch=micro_batch, recompute=recompute)

    plain, series, beside = built("none"), built("series"), built("side")
    share = f"{100 * ratio:g} % sampled"
    ways: dict[str, Callable[[], object]] = {}
    if not skip_whole:
        ways["whole, ordinary"] = lambda: whole(plain)
        ways["series adapters, ordinary"] = lambda: whole(series)
    ways[f"whole, {share}"] = lambda: sampled(plain, False)
    ways[f"series adapters, {share}"] = lambda: sampled(series, False)
    ways[f"series adapters, {share}, recomputed"] = lambda: sampled(series, True)
    ways[f"side adapters, {share}"] = lambda: sampled(beside, False)
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="+", default=["videomae_s", "videomae_b"], choices=list(ENCODERS))
    parser.add_argument("--snippets", type=int, nargs="+", default=[48, 128])
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--ratio", type=float, default=0.3)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--skip-whole", action="store_true")
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    rows: list[Row] = []
    for name in asked.encoders:
        for count in asked.snippets:
            how = dict(side=asked.side, ratio=asked.ratio, micro_batch=asked.micro_batch, skip_whole=asked.skip_whole)
            ways = ways_of(name, count, **how)
            peaks = {way: peak_mebibytes(step) for way, step in ways.items()}
            seconds = in_turn(ways, asked.repeats, warm_up=False)
            first, *others = ways
            rows += [
                Row(
                    f"end-to-end step, {name}, {count} snippets: {way}",
                    plain=seconds[first],
                    ours=seconds[way],
                    plain_peak_mib=peaks[first],
                    peak_mib=peaks[way],
                    aim="under 614 MiB" if "recomputed" in way and name == "videomae_b" else "",
                    headline=False,
                )
                for way in others
            ]
    first = "whole, ordinary" if not asked.skip_whole else "whole, sampled"
    report(rows, title=f"{asked.side} pixels, micro-batch {asked.micro_batch}; reference: {first}")


if __name__ == "__main__":
    main()
