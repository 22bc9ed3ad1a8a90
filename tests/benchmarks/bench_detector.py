"""The detector: a training step and inference, plain and ours in turn, beside the machine's matrix rate.

python tests/benchmarks/bench_detector.py [--repeats 3] [--full]
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from etad.detect.losses import LossRules, detection_loss
from etad.detect.model import Detector
from etad.detect.proposals import boundaries, lattice
from etad.detect.targets import Actions, boundary_targets, match

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reference import detector as plain

NUM_SNIPPETS, CHANNELS, BINS = 128, 512, 24


def rate() -> float:
    """Matrix product of float32, GFLOP/s."""
    a = torch.randn(2048, 2048)
    a @ a
    begin = time.perf_counter()
    for _ in range(4):
        a @ a
    return 4 * 2 * 2048**3 / (time.perf_counter() - begin) / 1e9


def in_turn(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each way, one after the other, round by round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # warm up
    for _ in range(repeats):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def training(batch: int, proposals: Tensor) -> dict[str, Callable[[], object]]:
    detector = Detector(in_channels=CHANNELS, enhancement="lstm", num_stages=3, bins=BINS)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-5, fused=True)
    features = torch.randn(batch, CHANNELS, NUM_SNIPPETS)
    actions = Actions.of([torch.tensor([[0.2, 0.5], [0.6, 0.7]])] * batch, [torch.tensor([1, 2])] * batch)
    proposals = proposals.expand(batch, -1, -1)

    def step(forward: Callable[..., object]) -> None:
        output = forward(features, proposals)
        parts = detection_loss(
            output,  # type: ignore[arg-type]
            match(proposals, actions),
            boundary_targets(actions, NUM_SNIPPETS),
            rules=LossRules.paper(),
            draw=lambda positive: torch.rand(positive.shape),
        )
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        optimizer.step()

    return {"plain": lambda: step(lambda *a: plain.detect(detector, *a)), "ours": lambda: step(detector)}


def inference(proposals: Tensor) -> dict[str, Callable[[], object]]:
    detector = Detector(in_channels=CHANNELS, enhancement="lstm", num_stages=3, bins=BINS).eval()
    features = torch.randn(1, CHANNELS, NUM_SNIPPETS)
    run = torch.inference_mode()
    return {
        "plain": run(lambda: plain.detect(detector, features, proposals[None])),
        "ours": run(lambda: detector(features, proposals[None])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="also train on all proposals (needs 8 GiB)")
    arguments = parser.parse_args()
    every = boundaries(lattice(NUM_SNIPPETS, NUM_SNIPPETS), NUM_SNIPPETS)
    some = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:495].sort().values]
    cases = {
        "training, 6 %, batch 16": lambda: training(16, some),
        "training, 2 %, batch 16": lambda: training(16, some[::3]),
        "inference, 8256 proposals": lambda: inference(every),
    }
    if arguments.full:
        cases["training, 100 %, batch 2"] = lambda: training(2, every)
    print(f"{torch.get_num_threads()} threads, float32 product {rate():.0f} GFLOP/s")
    print("case | plain s | ours s | ratio")
    for name, make in cases.items():
        seconds = in_turn(make(), arguments.repeats)
        print(f"{name} | {seconds['plain']:.2f} | {seconds['ours']:.2f} | {seconds['plain'] / seconds['ours']:.1f} x")
    print(f"peak memory of both {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
