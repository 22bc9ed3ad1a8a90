"""Frames that carry their own number as a barcode, videos of them, and what any decoder makes of these."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS, WIDTH, HEIGHT, FPS = 12, 96, 64, 25
B_FRAMES = {"x264-params": "scenecut=0:bframes=3:b-pyramid=normal"}
OPEN_GROUPS = {"x264-params": "scenecut=0:bframes=3:open-gop=1"}


def picture(number: int) -> np.ndarray:
    """Draw a number, uint8 (H, W, 3), on a ground that moves with it."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    image[..., 0], image[..., 1] = (columns + 3 * number) % 256 // 2 + 40, (rows + 2 * number) % 256 // 2 + 40
    bits = np.array([235 if number >> bit & 1 else 20 for bit in range(BITS)], dtype=np.uint8)
    image[HEIGHT // 3 : 2 * HEIGHT // 3] = bits.repeat(WIDTH // BITS)[None, :, None]
    return image


def number(image: np.ndarray) -> int:
    """Read the number off a picture of any size."""
    height, width = image.shape[:2]
    columns = (np.arange(BITS) + 0.5) * width / BITS
    middle = image[round(0.45 * height) : round(0.55 * height)].mean(axis=(0, 2))
    return sum(int(middle[int(column)] > 128) << bit for bit, column in enumerate(columns))


def write(
    path: Path,
    frames: Sequence[int],
    *,
    codec: str = "libx264",
    gop: int = 12,
    first: int = 0,
    sound_seconds: tuple[float, float] | None = None,
    **options: str,
) -> Path:
    """Write frames of these numbers, 25 a second, the first one at `first` / 25 s; and silence from and to a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        stream.options = options
        due: list[tuple[float, av.stream.Stream, av.frame.Frame]] = []
        for place, each in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture(each), format="rgb24")
            frame.pts, frame.time_base = first + place, Fraction(1, FPS)
            due.append(((first + place) / FPS, stream, frame))
        if sound_seconds is not None:
            sound = container.add_stream("mp2" if path.suffix in (".ts", ".mpg") else "aac", rate=48000, layout="mono")
            form, kind = ("s16", np.int16) if path.suffix in (".ts", ".mpg") else ("fltp", np.float32)
            for start in range(int(sound_seconds[0] * 48000), int(sound_seconds[1] * 48000), 1024):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), kind), format=form, layout="mono")
                silence.sample_rate, silence.pts, silence.time_base = 48000, start, Fraction(1, 48000)
                due.append((start / 48000, sound, silence))
        for _, each, frame in sorted(due, key=lambda item: item[0]):
            container.mux(each.encode(frame))
        for each in container.streams:
            container.mux(each.encode(None))
    return path


def remux(
    path: Path,
    to: Path,
    *,
    first_packet: int = 0,
    change: dict[int, Callable[[bytes], bytes]] | None = None,
    **options: str,
) -> Path:
    """Copy a video's packets, from one on, some of them changed, into another container."""
    with av.open(str(path)) as source, av.open(str(to), "w", options=options) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for place, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.dts is None or place < first_packet:
                continue
            if place in (change or {}):
                other = av.Packet(change[place](bytes(packet)))
                other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
                other.time_base, other.is_keyframe = packet.time_base, packet.is_keyframe
                packet = other
            packet.stream = stream
            container.mux(packet)
    return to


def broken_midway(path: Path) -> Path:
    """Write 4 s of which all but the first is zeroed."""
    whole = write(path.with_name(f"whole_{path.name}"), range(100))
    return remux(whole, path, change={place: lambda content: bytes(len(content)) for place in range(25, 100)})


def decoded_numbers(path: Path) -> list[int]:
    """What the library's own loop decodes, packet by packet, passing over what it cannot: an independent view."""
    numbers = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size or packet.pts is None:
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    continue
                numbers += [number(frame.to_ndarray(format="rgb24")) for frame in frames]
    return numbers
