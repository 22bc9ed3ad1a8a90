"""What is known of an encoder before it is built, a row of the table each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

# Means and deviations of a pixel's red, green and blue, on 0..255.
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
KINETICS_MEAN, KINETICS_STD = (110.2008, 100.63983, 95.99475), (58.14765, 56.46975, 55.332195)
PYSLOWFAST_MEAN, PYSLOWFAST_STD = (114.75, 114.75, 114.75), (57.375, 57.375, 57.375)
LITE_MEAN, LITE_STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)


@dataclass(frozen=True)
class EncoderSpec:
    """What an encoder is called, what it takes, and where its weights are to be had.

    Parameters
    ----------
    name, family
        Its name in configs, and the kind of network: weights of a family fit its members only.
    channels
        Of its features.
    clip_frames, frame_step
        Frames of a clip and their distance that its published weights were trained on, at the video's own rate.
    mean, std
        Of a pixel's colours, 0..255.
    published
        Which file to get and where its publisher has it, in words.
    build
        Makes its stages; of a network that takes adapters, given the kind of them.
    resize, crop
        What it sees as a rule: size that frames are resized to, or their short side, and what is cut out of them.
    takes_adapter
        Whether adapters can stand beside its blocks.
    frames_multiple
        The frames of its clips divide by this number.
    """

    name: str
    family: str
    channels: int
    clip_frames: int
    frame_step: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    published: str
    build: Callable[..., list[nn.Module]]
    resize: tuple[int, int] | int = (171, 128)
    crop: tuple[int, int] | int = 112
    takes_adapter: bool = False
    frames_multiple: int = 1

    def weights_wanted(self) -> str:
        """Say in one sentence that weights are missing, and which to get."""
        return f"encoder {self.name} has no weights: give --weights FILE or set encoder.weights. Get {self.published}."
