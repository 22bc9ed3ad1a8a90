"""FPS and k-DPP on snippets (128) and on proposals (8256): the plain way and ours.

Of many items, the plain k-DPP is only its projection part, given the eigenvectors: less than ours does. There is no
ceiling to name: FPS brings only few items up to date for each pick.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from measure import Row, compare, report
from torch import Tensor

from etad.detect.sampling.fps import farthest_points, sample_fps
from etad.detect.sampling.kdpp import sample_kdpp

NUM_VIDEOS = 8


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


def plain_kdpp(rows: Tensor, count: int, generator: torch.Generator) -> list[int]:
    """All of it on the whole kernel, N x N, with the recursion over its eigenvalues as it stands in books."""
    kernel = rows.double() @ rows.double().T + 0.01 * torch.eye(len(rows), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(kernel)
    table = np.zeros((len(values) + 1, count + 1))
    table[:, 0] = 1.0
    for i, value in enumerate(values.tolist()):
        table[i + 1, 1:] = table[i, 1:] + value * table[i, :-1]
    chosen: list[int] = []
    for i in range(len(values), 0, -1):
        wanted = count - len(chosen)
        if not wanted:
            break
        share = float(values[i - 1]) * table[i - 1, wanted - 1] / table[i, wanted]
        if float(torch.rand((), generator=generator)) < share:
            chosen.append(i - 1)
    return plain_projection(vectors[:, chosen], generator)


def samplers(num_items: int, count: int, generator: torch.Generator) -> list[Row]:
    rows = F.normalize(torch.randn(num_items, 512, generator=generator), dim=1)
    vectors = torch.linalg.qr(rows.double()[:, :count]).Q
    assert farthest_points(rows, count, start=0).tolist() == plain_fps(rows, count, 0)
    size = f"{count} of {num_items}, 512 channels"
    fps = compare(
        f"FPS, {size}",
        plain=lambda: plain_fps(rows, count, 0),
        ours=lambda: sample_fps(rows[None], count, generator=generator),
        unit="ms",
        aim="" if num_items < 1000 else "under 250 ms",
    )
    # The whole kernel of thousands of items would take minutes and gigabytes.
    whole = num_items < 1000
    dpp = compare(
        f"k-DPP, {size}" + ("" if whole else " (reference: its projection alone)"),
        plain=lambda: plain_kdpp(rows, count, generator) if whole else plain_projection(vectors, generator),
        ours=lambda: sample_kdpp(rows[None], count, jitter=0.01, generator=generator),
        unit="ms",
        aim="" if whole else "under 700 ms",
    )
    together = rows.expand(NUM_VIDEOS, -1, -1)
    batches = {
        "FPS": lambda: sample_fps(together, count, generator=generator),
        "k-DPP": lambda: sample_kdpp(together, count, jitter=0.01, generator=generator),
    }
    found = [fps, dpp]
    for name, ours in batches.items():
        what = f"{name}, {size}, {NUM_VIDEOS} videos"
        found.append(compare(what, ours=ours, unit="ms a video", items=NUM_VIDEOS, repeats=2, headline=False))
    return found


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    report(samplers(128, 38, generator) + samplers(8256, 495, generator), title="Samplers")


if __name__ == "__main__":
    main()
