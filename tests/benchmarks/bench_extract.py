"""How much of decoding hides behind encoding: one after the other, and overlapped.

The ceiling is the slower of the two alone: it hides the other one whole.

Run as `python tests/benchmarks/bench_extract.py [--videos 6] [--workers 1]`.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from bench_decode import film
from measure import Row, compare, in_turn, report
from torch import Tensor, nn

from etad.data.video.video import write_video
from etad.extract.clips import ClipBatch, ClipPlan, Failure, clip_batches
from etad.extract.encode import encode_batches
from etad.extract.encoders.encoder import Encoder
from etad.extract.settings import ClipSettings


class Waiting(nn.Module):
    """Stands for an encoder on another device: takes its time and no processor."""

    def __init__(self, seconds_per_clip: float) -> None:
        super().__init__()
        self.seconds_per_clip = seconds_per_clip

    def forward(self, clips: Tensor) -> Tensor:
        time.sleep(self.seconds_per_clip * len(clips))
        return clips.mean(dim=(2, 3, 4), keepdim=True)


Items = Iterator[ClipBatch | Failure]


def exhaust(items: Iterator[object]) -> None:
    for _ in items:
        pass


def rows(sources: dict[str, Path], workers: int, repeats: int) -> list[Row]:
    plan = ClipPlan(**ClipSettings(num_snippets=64, clip_frames=8).model_dump())

    def decode(with_workers: int) -> Items:
        return clip_batches(sources, plan, batch_clips=16, workers=with_workers)

    def encode(encoder: Encoder, items: Items) -> None:
        exhaust(encode_batches(encoder, items, device=torch.device("cpu"), dtype=torch.float32))

    batches = list(decode(0))
    num_clips = sum(len(item.clips) for item in batches if isinstance(item, ClipBatch))
    decoding = in_turn({"decoding": lambda: exhaust(decode(workers))}, repeats)["decoding"]
    found = []
    for share in (0.5, 1.0, 2.0):
        stages = [Waiting(share * decoding / num_clips), *(nn.Identity() for _ in range(4))]
        encoder = Encoder(stages, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3).eval()
        alone = {
            "decoding": lambda: exhaust(decode(workers)),
            "encoding": lambda encoder=encoder: encode(encoder, iter(batches)),
        }
        slower = max(in_turn(alone, repeats).values())
        row = compare(
            f"{len(sources)} videos, encoding {share:g} times as slow as decoding",
            plain=lambda encoder=encoder: encode(encoder, decode(0)),
            ours=lambda encoder=encoder: encode(encoder, decode(workers)),
            repeats=repeats,
        )
        found.append(replace(row, ceiling=slower / row.ours, ceiling_of="the slower alone"))
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--videos", type=int, default=6)
    arguments.add_argument("--frames", type=int, default=900)
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--repeats", type=int, default=3)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = {str(number): Path(folder) / f"{number}.mp4" for number in range(options.videos)}
        first, *others = sources.values()
        write_video(first, film(options.frames), fps=30, crf=23, gop=60)
        for path in others:  # drawing takes longer than everything else
            shutil.copyfile(first, path)
        torch.set_num_threads(1)
        report(rows(sources, options.workers, options.repeats), title="Extraction, decoding behind encoding")


if __name__ == "__main__":
    main()
