"""Video files in and out: the only module that knows of codecs and containers."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from .errors import EtadError


def write_video(
    path: Path, frames: Iterable[np.ndarray], *, fps: float, crf: int = 18, bitrate: int | None = None, gop: int = 12
) -> None:
    """Write H.264 (yuv420p); the same frames give the same bytes, whatever the machine's core count.

    Parameters
    ----------
    frames
        uint8 (H, W, 3) RGB each, all of one size; H and W even.
    fps
        Frames per second.
    crf
        Constant quality, 0 (lossless) to 51.
    bitrate
        Bits per second, instead of a constant quality.
    gop
        Most frames from one key frame to the next.

    Raises
    ------
    EtadError
        No frames, or a size that 4:2:0 colour cannot hold.
    """
    path = Path(path)
    draft = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with av.open(str(draft), "w", options={"fflags": "+bitexact"}) as container:
            stream = None
            for frame in frames:
                if stream is None:
                    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                    _set_up_encoder(stream, frame.shape, path, crf=crf, bitrate=bitrate, gop=gop)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            if stream is None:
                raise EtadError(f"{path}: there are no frames to write.")
            container.mux(stream.encode(None))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _set_up_encoder(
    stream: av.VideoStream, shape: tuple[int, ...], path: Path, *, crf: int, bitrate: int | None, gop: int
) -> None:
    height, width = shape[:2]
    if height % 2 or width % 2:
        raise EtadError(f"{path}: frames are {width}x{height}, but H.264 needs an even width and height.")
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.thread_count = 1
    stream.codec_context.gop_size = gop
    stream.options = {"preset": "veryfast", "x264-params": "threads=1"}
    if bitrate is None:
        stream.options = {**stream.options, "crf": str(crf)}
    else:
        stream.codec_context.bit_rate = bitrate
