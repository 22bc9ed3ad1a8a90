"""FPS and k-DPP on snippets (128) and on proposals (8256): the plain way and ours.

The plain k-DPP is only its projection part, given the eigenvectors: less than ours does. There is no ceiling to name:
FPS brings only few items up to date for each pick.
"""

import math

import torch
import torch.nn.functional as F
from measure import Row, compare, report
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
    )
    dpp = compare(
        f"k-DPP, {size} (plain: its projection alone)",
        plain=lambda: plain_projection(vectors, generator),
        ours=lambda: sample_kdpp(rows[None], count, jitter=0.01, generator=generator),
        unit="ms",
    )
    return [fps, dpp]


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    report(samplers(128, 38, generator) + samplers(8256, 495, generator), title="Samplers")


if __name__ == "__main__":
    main()
