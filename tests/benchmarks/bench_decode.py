"""Decoding 640x360 H.264 to 228x128 RGB: PyAV the plain way against ours, in turn, in one process.

python tests/benchmarks/bench_decode.py [--frames 4500] [--repeats 3]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from etad.data.video import open_video, write_video

FPS = 30
SIZE = (228, 128)
CLIP_FRAMES = 16
NUM_CLIPS = 128


def film(num_frames: int) -> Iterator[np.ndarray]:
    """A textured scene that a camera pans over, with something moving in it and a little noise."""
    generator = np.random.default_rng(0)
    scene = generator.integers(0, 256, (30, 120, 3)).astype(np.float32)
    rows, columns = np.linspace(0, 29, 360), np.linspace(0, 119, 1440)
    scene = scene[rows.astype(int)][:, columns.astype(int)]
    for axis in (0, 1):
        scene = sum(np.roll(scene, shift, axis) for shift in range(-6, 7)) / 13
    noise = generator.integers(-6, 7, (8, 360, 640, 3))
    for number in range(num_frames):
        left = int(400 + 380 * np.sin(number / 90))
        frame = scene[:, left : left + 640] + noise[number % 8]
        top, side = int(140 + 120 * np.sin(number / 23)), int(300 + 250 * np.cos(number / 31))
        frame[top : top + 60, side : side + 60] = (number * 5 % 256, 200, 40)
        yield np.clip(frame, 0, 255).astype(np.uint8)


def plain(path: Path, wanted: np.ndarray) -> Iterator[np.ndarray]:
    """Wanted frames by seeking for each clip, each frame converted by itself."""
    for first, last in _runs(wanted):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            container.seek(int(first / FPS / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                number = round(float(frame.pts * stream.time_base) * FPS)
                if number >= first:
                    yield frame.reformat(width=SIZE[0], height=SIZE[1], format="rgb24").to_ndarray()
                if number >= last:
                    break


def ours(path: Path, wanted: np.ndarray) -> Iterator[np.ndarray]:
    with open_video(path) as video:
        for _, frame in video.read(wanted / FPS, resize=SIZE):
            yield frame


def _runs(wanted: np.ndarray) -> list[tuple[int, int]]:
    starts = np.flatnonzero(np.diff(wanted, prepend=-2) > 1)
    ends = np.append(starts[1:], len(wanted)) - 1
    return [(int(wanted[start]), int(wanted[end])) for start, end in zip(starts, ends)]


def measure(
    read: Callable[[Path, np.ndarray], Iterator[np.ndarray]], path: Path, wanted: np.ndarray
) -> tuple[float, float, tuple[int, int]]:
    wall, cpu = time.perf_counter(), time.process_time()
    count, total = 0, 0
    for frame in read(path, wanted):
        count, total = count + 1, total + int(frame[64, 114, 0])
    return time.perf_counter() - wall, time.process_time() - cpu, (count, total)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--frames", type=int, default=4500)
    arguments.add_argument("--repeats", type=int, default=3)
    options = arguments.parse_args()
    starts = np.round(np.linspace(0, options.frames - CLIP_FRAMES, NUM_CLIPS)).astype(int)
    clips = np.unique(starts[:, None] + np.arange(CLIP_FRAMES))
    with tempfile.TemporaryDirectory() as folder:
        for gop in (12, 250):
            path = Path(folder) / f"gop{gop}.mp4"
            write_video(path, film(options.frames), fps=FPS, crf=23, gop=gop)
            for what, wanted in (("sequential", np.arange(options.frames)), (f"{NUM_CLIPS} x {CLIP_FRAMES}", clips)):
                times: dict[str, list[tuple[float, float]]] = {"plain": [], "ours": []}
                for _ in range(options.repeats):
                    results = {}
                    for name, read in (("plain", plain), ("ours", ours)):
                        wall, cpu, results[name] = measure(read, path, wanted)
                        times[name].append((wall, cpu))
                    assert results["plain"] == results["ours"], results
                (plain_wall, plain_cpu), (our_wall, our_cpu) = (min(times[name]) for name in ("plain", "ours"))
                plain_rate, our_rate = len(wanted) / plain_cpu, len(wanted) / our_cpu
                sys.stdout.write(
                    f"{what:>10}, GOP {gop:>3}: plain {plain_wall:6.2f} s, ours {our_wall:6.2f} s, "
                    f"{plain_wall / our_wall:.2f} x; frames per CPU second {plain_rate:5.0f} and {our_rate:5.0f}, "
                    f"{our_rate / plain_rate:.2f} x\n"
                )


if __name__ == "__main__":
    main()
