"""The detector: training steps and inference, plain and ours in turn, beside the machine's matrix rate.

The floor is what the least arithmetic takes at the machine's rate of products: every layer on features projected
first, the enhancement in float32 and the rest in the dtype that is asked for. bfloat16 takes part where the
processor multiplies it.

python tests/benchmarks/bench_detector.py [--repeats 3] [--case NAME] [--profile]
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from measure import Row, compare, matrix_rate, report
from torch import Tensor

from etad.data.precision import choose_training_dtype
from etad.detect.kernels import one_thread
from etad.detect.loss.losses import detection_loss
from etad.detect.loss.targets import Actions, boundary_targets, match
from etad.detect.model.detector import Detector
from etad.detect.model.proposals import boundaries, lattice
from etad.detect.preset import PRESETS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reference import detector as plain

NUM_SNIPPETS, CHANNELS, BINS, STAGES = 128, 512, 24, 3
KINDS = {
    "matrix products": {"mm", "bmm", "addmm", "addmm_", "baddbmm", "baddbmm_"},
    "gathers": {"_embedding_bag_forward_only"},
    "LSTMs and convolutions": {
        "mkldnn_rnn_layer",
        "mkldnn_rnn_layer_backward",
        "mkldnn_convolution",
        "convolution_backward",
    },
    "copies and fills": {"copy_", "cat", "fill_"},
    "biases, ReLUs, sums": {"add_", "clamp_min_", "threshold_backward", "sum"},
}


def training(batch: int, proposals: Tensor, precision: str) -> dict[str, Callable[[], object]]:
    detector = Detector(in_channels=CHANNELS, enhancement="lstm", num_stages=STAGES, bins=BINS, precision=precision)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-5, fused=True)
    features = torch.randn(batch, CHANNELS, NUM_SNIPPETS)
    actions = Actions.of([torch.tensor([[0.2, 0.5], [0.6, 0.7]])] * batch, [torch.tensor([1, 2])] * batch)

    def step(forward: Callable[..., object]) -> None:
        output = forward(features, proposals)
        parts = detection_loss(
            output,  # type: ignore[arg-type]
            match(proposals, actions),
            boundary_targets(actions, NUM_SNIPPETS),
            rules=PRESETS["paper"].loss,
            draw=lambda positive: torch.rand(positive.shape),
        )
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        optimizer.step()

    def forward(features: Tensor, proposals: Tensor) -> object:
        return plain.detect(detector, features, proposals.expand(batch, -1, -1))

    return {"plain": lambda: step(forward), "ours": lambda: step(detector)}


def inference(batch: int, proposals: Tensor, precision: str) -> dict[str, Callable[[], object]]:
    detector = Detector(in_channels=CHANNELS, enhancement="lstm", num_stages=STAGES, bins=BINS, precision=precision)
    detector.eval()
    features = torch.randn(batch, CHANNELS, NUM_SNIPPETS)
    run = torch.inference_mode()
    return {
        # Video by video: all at once, it would only take more memory.
        "plain": run(lambda: [plain.detect(detector, video, proposals[None]) for video in features.split(1)]),
        "ours": run(lambda: detector(features, proposals)),
    }


def floor_seconds(batch: int, num_proposals: int, precision: str, *, trained: bool) -> float:
    """Time of the least arithmetic at the machine's rate: features projected first; no gather, copy or ReLU."""
    table = NUM_SNIPPETS * 128 * (BINS + BINS // 2) * 512
    heads = num_proposals * (5 * 512 * 128 + 5 * 2 * 128 * 128 + 5 * 128 * 2)
    stage_convolutions = NUM_SNIPPETS * 3 * (64 * 256 + 256 * 128)
    lstms = 2 * NUM_SNIPPETS * 4 * 256 * 512
    convolutions = NUM_SNIPPETS * (3 * (CHANNELS // 4 * 256 + 3 * 64 * 256) + 128 * 256)
    passes = 2 * batch * (3 if trained else 1) / 1e9
    in_float32 = passes * (STAGES * stage_convolutions + lstms + convolutions)
    in_precision = passes * STAGES * (table + heads)
    return in_float32 / matrix_rate() + in_precision / matrix_rate(getattr(torch, precision))


def profile(name: str, ours: Callable[[], object]) -> None:
    """Print where our way's time goes on one thread, by kind of operation and by operation."""
    with one_thread():
        for _ in range(3):  # until memory is got from the system once and for all
            ours()
    with one_thread(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        ours()
    spent = sorted(((each.self_cpu_time_total / 1e3, each.key) for each in seen.key_averages()), reverse=True)
    total = sum(ms for ms, _ in spent)
    kinds = dict.fromkeys([*KINDS, "placing samples and all else"], 0.0)
    for ms, operation in spent:
        matching = (kind for kind, operations in KINDS.items() if operation.removeprefix("aten::") in operations)
        kinds[next(matching, "placing samples and all else")] += ms
    print(f"{name}: {total:.0f} ms on one thread, of which")
    for kind, ms in kinds.items():
        print(f"  {100 * ms / total:4.1f} %  {ms:7.1f} ms  {kind}")
    print("operation by operation")
    for ms, operation in spent[:14]:
        print(f"  {100 * ms / total:4.1f} %  {ms:7.1f} ms  {operation}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", help="only the cases whose name holds this")
    parser.add_argument("--profile", action="store_true", help="show where the time goes instead")
    asked = parser.parse_args()
    every = boundaries(lattice(NUM_SNIPPETS, NUM_SNIPPETS), NUM_SNIPPETS)
    drawn = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))
    some, few = (every[drawn[:count].sort().values] for count in (495, 165))
    cases = {
        "training step, 6 %, batch 16": (16, some, True, {"float32": "5 x", "bfloat16": "8 x"}),
        "training step, 2 %, batch 16": (16, few, True, {"float32": ""}),
        "training step, 100 %, batch 2": (
            2,
            every,
            True,
            {"float32": "7 x, a third of the memory", "bfloat16": "10 x"},
        ),
        "inference, 8256 proposals, one video": (1, every, False, {"float32": "5 x", "bfloat16": "8 x"}),
        "inference, 8256 proposals, 8 videos": (8, every, False, {"float32": "5 x", "bfloat16": "8 x"}),
    }
    gains = choose_training_dtype("auto", torch.device("cpu")) != torch.float32
    rows: list[Row] = []
    for name, (batch, proposals, trained, aims) in cases.items():
        for precision, aim in aims.items():
            if asked.case and asked.case not in f"{name}, {precision}":
                continue
            if precision != "float32" and not gains:
                continue
            torch.manual_seed(0)
            ways = (training if trained else inference)(batch, proposals, precision)
            if asked.profile:
                profile(f"{name}, {precision}", ways["ours"])
                continue
            items = 1 if trained else batch
            how = dict(unit="s" if trained else "s a video", items=items, repeats=asked.repeats, aim=aim)
            row = compare(f"detector: {name}, {precision}", **ways, **how)
            floor = floor_seconds(batch, len(proposals), precision, trained=trained) / items
            rows.append(dataclasses.replace(row, ceiling=floor / row.ours, ceiling_of=f"{precision} products"))
    if rows:
        report(rows, title="The detector, T = D = 128, C = 512, R = 24, three stages")


if __name__ == "__main__":
    main()
