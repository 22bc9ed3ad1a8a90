"""What an end-to-end step costs: ordinary back-propagation, activation checkpointing, sequentialized gradient sampling.

Memory is the process's highest above where the step began; the frames are there before. Then what keeping costs and
saves: the frozen stages' maps of the sampled snippets, or their whole graphs.

Run as `python tests/benchmarks/bench_sgs.py [--encoder tsm_r18] [--snippets 16 32 64 128] [--ratio 0.3] [--side 112]`.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
from collections.abc import Callable, Sequence

import torch
from measure import Row, in_turn, peak_mebibytes, report
from torch import Tensor

from etad.detect.sampling.population import sample_size
from etad.extract.encoders.encoder import ENCODERS, build_encoder
from etad.pipeline.e2e.full_step import full_step
from etad.pipeline.e2e.sgs import sgs_step

KEPT = {"nothing": "nothing kept", "maps": "maps kept", "graphs": "graphs kept"}


def loss_of(features: Sequence[Tensor]) -> Tensor:
    return sum((part.square().mean() for part in features), torch.zeros(()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="tsm_r18", choices=list(ENCODERS))
    parser.add_argument("--snippets", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--ratio", type=float, default=0.3)
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--frozen", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    torch.manual_seed(0)
    encoder = build_encoder(asked.encoder).freeze(asked.frozen)
    autocast = torch.bfloat16 if asked.bfloat16 else None
    rows: list[Row] = []
    for count in asked.snippets:
        size = (count, ENCODERS[asked.encoder].clip_frames, asked.side, asked.side, 3)
        video = torch.randint(0, 256, size, dtype=torch.uint8)
        sample = torch.randperm(count)[: sample_size("random", count, asked.ratio)]

        def whole(recompute: bool, video: Tensor = video) -> None:
            encoder.zero_grad()
            full_step(encoder, [video], loss_of, recompute=recompute, autocast=autocast)

        def sampled(keep: str, video: Tensor = video, sample: Tensor = sample) -> None:
            encoder.zero_grad()
            how = dict(samples=[sample], micro_batch=asked.micro_batch, first_pass_cache=keep, autocast=autocast)
            sgs_step(encoder, [video], loss_of, **how)

        ways: dict[str, Callable[[], None]] = {"plain": lambda: whole(False), "checkpointing": lambda: whole(True)}
        for keep, told in KEPT.items():
            ways[f"{100 * asked.ratio:g} % sampled, {told}"] = lambda keep=keep: sampled(keep)
        peaks = {name: peak_mebibytes(way) for name, way in ways.items()}
        seconds = in_turn(ways, asked.repeats, warm_up=False)
        rows += [
            Row(
                f"end-to-end step, {asked.encoder}, {count} snippets: {name}",
                plain=seconds["plain"],
                ours=seconds[name],
                plain_peak_mib=peaks["plain"],
                peak_mib=peaks[name],
                aim="memory flat in the snippets" if "nothing" in name else "",
                headline="graphs" not in name and count in (asked.snippets[0], asked.snippets[-1]),
            )
            for name in list(ways)[1:]
        ]
    frozen = f"stem and {asked.frozen} stages frozen"
    report(rows, title=f"{asked.encoder}, {asked.side} pixels, {frozen}; reference: no sampling, no checkpoints")


if __name__ == "__main__":
    main()
