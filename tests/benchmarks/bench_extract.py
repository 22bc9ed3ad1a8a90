"""How much of decoding hides behind encoding: both alone, then together; the sum against the slower of the two.

python tests/benchmarks/bench_extract.py [--videos 6] [--workers 1]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from bench_decode import film
from torch import Tensor, nn

from etad.data.video import write_video
from etad.extract.clips import ClipBatch, ClipPlan, Failure, clip_batches
from etad.extract.encode import encode_batches
from etad.extract.encoders import Encoder
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


def timed(run: Callable[[], Iterator[object]], repeats: int) -> float:
    """Least wall time of several runs, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in run():
            pass
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--videos", type=int, default=6)
    arguments.add_argument("--frames", type=int, default=900)
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--repeats", type=int, default=3)
    options = arguments.parse_args()
    plan = ClipPlan(**ClipSettings(num_snippets=64, clip_frames=8).model_dump())
    with tempfile.TemporaryDirectory() as folder:
        sources = {str(number): Path(folder) / f"{number}.mp4" for number in range(options.videos)}
        for path in sources.values():
            write_video(path, film(options.frames), fps=30, crf=23, gop=60)
        torch.set_num_threads(1)

        def decode(workers: int) -> Items:
            return clip_batches(sources, plan, batch_clips=16, workers=workers)

        def encode(items: Items) -> Iterator[object]:
            return encode_batches(encoder, items, device=torch.device("cpu"), dtype=torch.float32)

        batches = list(decode(0))
        num_clips = sum(len(item.clips) for item in batches if isinstance(item, ClipBatch))
        decoding = timed(lambda: decode(options.workers), options.repeats)
        for share in (0.5, 1.0, 2.0):
            stages = [Waiting(share * decoding / num_clips), *(nn.Identity() for _ in range(4))]
            encoder = Encoder(stages, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3).eval()
            encoding = timed(lambda: encode(iter(batches)), options.repeats)
            in_turn = timed(lambda: encode(decode(0)), options.repeats)
            overlapped = timed(lambda: encode(decode(options.workers)), options.repeats)
            over = 100 * (overlapped / max(decoding, encoding) - 1)
            sys.stdout.write(
                f"decoding {decoding:5.2f} s, encoding {encoding:5.2f} s: in turn {in_turn:5.2f} s, overlapped "
                f"{overlapped:5.2f} s, {in_turn / overlapped:.2f} x; {over:+.0f} % of the slower\n"
            )


if __name__ == "__main__":
    main()
