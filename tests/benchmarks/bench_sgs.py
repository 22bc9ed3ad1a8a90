"""What a step of sequentialized gradient sampling costs: ordinary back-propagation and ours, in turn in one process.

Memory is the process's highest above where the step began, as Linux counts it; elsewhere it is not printed.

Run as `python tests/benchmarks/bench_sgs.py [--encoder tsm_r50] [--snippets 32] [--ratio 0.3] [--micro-batch 2]`.
"""

import argparse
import contextlib
import ctypes
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from etad.extract.encoders import ENCODERS, Encoder, build_encoder
from etad.pipeline.sgs import sample_size, sgs_step

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def loss_of(features: Sequence[Tensor]) -> Tensor:
    return sum((part.square().mean() for part in features), torch.zeros(()))


def ordinary(encoder: Encoder, video: Tensor, autocast: torch.dtype | None) -> None:
    """One graph through every snippet."""
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        features = encoder(encoder.normalise(video))
    loss_of([features.float()]).backward()


def mebibytes(field: str) -> float | None:
    if not STATUS.exists():
        return None
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def measured(step: Callable[[], None], encoder: Encoder) -> tuple[float, float, float | None]:
    """Wall seconds, processor seconds and MiB above the start of one step."""
    encoder.zero_grad()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or the last step's memory would count as there already
    if RESET.exists():
        RESET.write_text("5")  # forgets the highest memory so far
    before, wall, cpu = mebibytes("VmRSS"), time.perf_counter(), time.process_time()
    step()
    taken = time.perf_counter() - wall, time.process_time() - cpu
    highest = mebibytes("VmHWM")
    return *taken, None if before is None or highest is None else highest - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="tsm_r50", choices=list(ENCODERS))
    parser.add_argument("--snippets", type=int, default=32)
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--ratio", type=float, default=0.3)
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--frozen", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    encoder = build_encoder(asked.encoder).freeze(asked.frozen)
    size = (asked.snippets, ENCODERS[asked.encoder].clip_frames, asked.side, asked.side, 3)
    video = torch.randint(0, 256, size, dtype=torch.uint8)
    sample = torch.randperm(asked.snippets)[: sample_size(asked.snippets, ratio=asked.ratio)]
    autocast = torch.bfloat16 if asked.bfloat16 else None

    def sgs(keep: str, samples: Tensor) -> Callable[[], None]:
        def step() -> None:
            how = dict(samples=[samples], micro_batch=asked.micro_batch, keep=keep, autocast=autocast)
            sgs_step(encoder, [video], loss_of, **how)

        return step

    steps = {"every snippet, keeping nothing": sgs("nothing", torch.arange(asked.snippets))}
    for keep in ("nothing", "maps", "graphs"):
        steps[f"{len(sample)} of {asked.snippets} snippets, keeping {keep}"] = sgs(keep, sample)
    steps["ordinary back-propagation"] = lambda: ordinary(encoder, video, autocast)
    sgs("nothing", sample[:1])()  # allocates what later steps reuse
    for name, step in steps.items():
        wall, cpu, memory = measured(step, encoder)
        print(f"{asked.encoder}, {name}: {wall:.1f} s wall, {cpu:.1f} s of processor", end="")
        print("" if memory is None else f", {memory:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
