"""Videos read the plain way: every frame decoded from the beginning, each by a scaler of its own."""

from pathlib import Path

import av
import numpy as np


def decode_everything(path: Path, size: tuple[int, int], **open_options: str) -> list[np.ndarray]:
    """All frames of a video's largest stream, in the order they are shown, uint8 (H, W, 3) each, not turned."""
    with av.open(str(path), **open_options) as container:
        stream = max(container.streams.video, key=lambda stream: stream.width * stream.height)
        return [
            frame.reformat(width=size[0], height=size[1], format="rgb24").to_ndarray()
            for frame in container.decode(stream)
        ]


def gather(frames: list[np.ndarray], indices: np.ndarray) -> np.ndarray:
    """Frames of every clip, (T, L, H, W, 3)."""
    return np.stack([np.stack([frames[index] for index in clip]) for clip in indices.tolist()])
