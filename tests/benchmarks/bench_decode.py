"""Decoding 640x360 H.264 to 228x128 RGB: PyAV the plain way against ours, in frames per processor second.

The ceiling is the same decoder that converts nothing. decord and torchcodec take part where they are installed, on one
thread as we are; their frames are scaled by other filters, so their pixels are not compared.

Run as `python tests/benchmarks/bench_decode.py [--frames 3000] [--repeats 2]`.
"""

import argparse
import functools
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from measure import Row, compare, in_turn, report

from etad.data.video.video import open_video, write_video

FPS = 30
SIZE = (228, 128)
CLIP_FRAMES = 16
NUM_CLIPS = 128
AT_ONCE = 128  # frames that another library is asked for in one call


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


def by_decord(path: Path, wanted: np.ndarray) -> Iterator[np.ndarray]:
    import decord

    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), width=SIZE[0], height=SIZE[1], num_threads=1)
    for first in range(0, len(wanted), AT_ONCE):
        yield from reader.get_batch(wanted[first : first + AT_ONCE].tolist()).asnumpy()


def by_torchcodec(path: Path, wanted: np.ndarray) -> Iterator[np.ndarray]:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    how = dict(dimension_order="NHWC", num_ffmpeg_threads=1, transforms=[Resize(SIZE[::-1])])
    decoder = VideoDecoder(str(path), **how)
    for first in range(0, len(wanted), AT_ONCE):
        yield from decoder.get_frames_at(wanted[first : first + AT_ONCE].tolist()).data.numpy()


def peers() -> dict[str, Callable[[Path, np.ndarray], Iterator[np.ndarray]]]:
    known = {"decord": by_decord, "torchcodec": by_torchcodec}
    return {name: way for name, way in known.items() if importlib.util.find_spec(name) is not None}


def _runs(wanted: np.ndarray) -> list[tuple[int, int]]:
    starts = np.flatnonzero(np.diff(wanted, prepend=-2) > 1)
    ends = np.append(starts[1:], len(wanted)) - 1
    return [(int(wanted[start]), int(wanted[end])) for start, end in zip(starts, ends)]


def decode_alone(path: Path) -> None:
    with av.open(str(path)) as container:
        for _ in container.decode(video=0):
            pass


def go_through(read: Callable[[Path, np.ndarray], Iterator[np.ndarray]], path: Path, wanted: np.ndarray) -> list[int]:
    """One pixel of each frame, so that both ways are seen to read the same."""
    return [int(frame[64, 114, 0]) for frame in read(path, wanted)]


def rows(path: Path, gop: int, num_frames: int, repeats: int) -> list[Row]:
    starts = np.round(np.linspace(0, num_frames - CLIP_FRAMES, NUM_CLIPS)).astype(int)
    clips = np.unique(starts[:, None] + np.arange(CLIP_FRAMES))
    found = []
    for what, wanted in (("all frames", np.arange(num_frames)), (f"{NUM_CLIPS} clips of {CLIP_FRAMES}", clips)):
        ways = {read.__name__: functools.partial(go_through, read, path, wanted) for read in (plain, ours)}
        assert ways["plain"]() == ways["ours"]()
        how = dict(unit="frames/s", items=len(wanted), repeats=repeats)
        cpu = compare(f"{what}, key frame every {gop}, by processor", **ways, **how, clock=time.process_time)
        if what == "all frames":
            decoding = in_turn({"alone": lambda: decode_alone(path)}, repeats, clock=time.process_time)["alone"]
            cpu = replace(cpu, ceiling=cpu.ours * decoding / num_frames, ceiling_of="decoding alone")
        for peer, read in peers().items():
            theirs = {"plain": functools.partial(go_through, read, path, wanted), "ours": ways["ours"]}
            against = f"{what}, key frame every {gop}, by processor; reference is {peer}"
            found.append(compare(against, **theirs, **how, clock=time.process_time))
        found += [cpu, compare(f"{what}, key frame every {gop}, by the clock", **ways, **how, headline=False)]
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--frames", type=int, default=3000)
    arguments.add_argument("--repeats", type=int, default=2)
    options = arguments.parse_args()
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for gop in (12, 250):
            path = Path(folder) / f"gop{gop}.mp4"
            write_video(path, film(options.frames), fps=FPS, crf=23, gop=gop)
            table += rows(path, gop, options.frames, options.repeats)
    report(table, title="Decoding 640x360 H.264 to 228x128 RGB")


if __name__ == "__main__":
    main()
