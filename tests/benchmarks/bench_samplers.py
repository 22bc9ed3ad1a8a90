"""FPS and k-DPP: wall time on snippets (128) and on proposals (8256), and the ratio to the plain way."""

import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from etad.detect.fps import farthest_points, sample_fps
from etad.detect.kdpp import sample_kdpp


def plain_fps(points: Tensor, count: int, start: int) -> list[int]:
    """One matrix-vector product per pick."""
    squares = points.square().sum(dim=1)
    picks = [start]
    nearest = squares + squares[start] - 2 * (points @ points[start])
    while len(picks) < count:
        picks.append(int(nearest.argmax()))
        torch.minimum(nearest, squares + squares[picks[-1]] - 2 * (points @ points[picks[-1]]), out=nearest)
    return picks


def plain_projection(vectors: Tensor, generator: torch.Generator) -> list[int]:
    """The projection part of k-DPP sampling alone, all rows brought up to date after each item (Gram-Schmidt)."""
    left = vectors.square().sum(dim=1)
    done = vectors.new_zeros(len(vectors), vectors.shape[1])
    drawn: list[int] = []
    for step in range(vectors.shape[1]):
        item = int(torch.multinomial(left.clamp(min=0), 1, generator=generator))
        drawn.append(item)
        column = (vectors @ vectors[item] - done[:, :step] @ done[item, :step]) / math.sqrt(float(left[item]))
        done[:, step] = column
        left = left - column.square()
        left[drawn] = 0
    return drawn


def milliseconds(run: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times) * 1e3


def compare(num_items: int, count: int, generator: torch.Generator) -> None:
    rows = F.normalize(torch.randn(num_items, 512, generator=generator), dim=1)
    vectors = torch.linalg.qr(rows.double()[:, :count]).Q
    print(f"{num_items} items, {count} sampled, 512 channels")
    slow = milliseconds(lambda: plain_fps(rows, count, 0))
    fast = milliseconds(lambda: sample_fps(rows[None], count, generator=generator))
    same = farthest_points(rows, count, start=0).tolist() == plain_fps(rows, count, 0)
    print(f"  FPS   {fast:7.1f} ms, plain {slow:7.1f} ms, {slow / fast:.1f} x; same picks: {same}")
    slow = milliseconds(lambda: plain_projection(vectors, generator))
    fast = milliseconds(lambda: sample_kdpp(rows[None], count, jitter=0.01, generator=generator))
    print(f"  k-DPP {fast:7.1f} ms, the plain projection alone {slow:7.1f} ms, {slow / fast:.1f} x")


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    compare(128, 38, generator)
    compare(8256, 495, generator)


if __name__ == "__main__":
    main()
