"""A copy of a video with what was detected written into its frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...data.digest import values_digest
from ...data.errors import EtadError
from ...data.timeline import READING_RULES, count_frames
from ...data.video.files import file_stamp
from ...data.video.video import open_video, read_comment, write_video

# Backgrounds of classes in turn, dark enough for white letters.
_COLOURS = ((31, 98, 160), (172, 78, 11), (36, 120, 54), (150, 40, 58), (104, 72, 158), (100, 70, 50), (150, 55, 120))
# Labels that a frame shows at once, the best ones; and the height of a line, as a share of the picture's.
_MOST_LINES, _LINE_SHARE, _LEAST_PIXELS = 5, 0.06, 10
_BLOCK_FRAMES = 256
_SUFFIX = ".mp4"


@dataclass(frozen=True)
class DrawnLabel:
    """What is written while an action lasts, and the number of its class, which chooses the colour."""

    start_seconds: float
    end_seconds: float
    text: str
    score: float
    colour: int


def draw_labels(
    source: Path,
    target: Path,
    labels: Sequence[DrawnLabel],
    *,
    report: Callable[[float], None] = lambda share: None,
) -> bool:
    """Write a copy of a video, without sound, in which labels stand while their actions last.

    Parameters
    ----------
    target
        File to write; one that holds this very copy already is left alone.
    report
        Called with the share that is done, 0..1.

    Returns
    -------
    bool
        Whether it was written now.

    Raises
    ------
    EtadError
        The video cannot be read, changes while it is, or the copy cannot be written.
    """
    stamp = file_stamp(source)
    made_from = values_digest(
        {
            "source": list(stamp or ()),
            "labels": [[each.start_seconds, each.end_seconds, each.text, each.colour] for each in labels],
            "reading_rules": READING_RULES,
        }
    )
    if target.suffix != _SUFFIX:
        raise EtadError(f"{target}: labels are drawn into {_SUFFIX} files. Name one.")
    if _holds(target, made_from):
        return False
    ordered = sorted(labels, key=lambda each: -each.score)
    with open_video(source) as video:
        fps = video.info.fps
        num_frames = count_frames(video.info.duration_seconds, fps)
        # Colour has half the resolution: H.264 wants even sides.
        size = max(2, video.info.width // 2 * 2), max(2, video.info.height // 2 * 2)

        def frames() -> Iterator[np.ndarray]:
            blocks = (
                np.arange(first, min(first + _BLOCK_FRAMES, num_frames)) / fps
                for first in range(0, num_frames, _BLOCK_FRAMES)
            )
            for number, (_, image) in enumerate(video.read(blocks, resize=size)):
                seconds = number / fps
                shown = [each for each in ordered if each.start_seconds <= seconds < each.end_seconds]
                yield _labelled(image, shown[:_MOST_LINES]) if shown else image
                report((number + 1) / num_frames)
            if file_stamp(source) != stamp:
                raise EtadError(f"{source}: this file changed while it was read. Repeat when it is whole.")

        write_video(target, frames(), fps=fps, crf=23, comment=made_from)
    return True


def _holds(target: Path, made_from: str) -> bool:
    if not target.exists():
        return False
    try:
        return read_comment(target) == made_from
    except EtadError:
        return False  # damaged: it is written again


def _labelled(image: np.ndarray, labels: Sequence[DrawnLabel]) -> np.ndarray:
    """Write lines from the lower left corner upwards, the best one on top."""
    picture = Image.fromarray(image)
    line = max(_LEAST_PIXELS, round(_LINE_SHARE * picture.height))
    font = ImageFont.load_default(size=line * 0.75)
    canvas = ImageDraw.Draw(picture)
    for row, each in enumerate(reversed(labels)):
        text = each.text if each.text.isprintable() else repr(each.text)
        top = picture.height - (row + 1) * line
        width = round(canvas.textlength(text, font=font)) + line // 2
        canvas.rectangle((0, top, width, top + line - 1), fill=_COLOURS[each.colour % len(_COLOURS)])
        canvas.text((line // 4, top + line / 2), text, fill=(255, 255, 255), font=font, anchor="lm")
    return np.asarray(picture)
