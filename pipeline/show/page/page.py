"""The review page: one HTML file that shows detections beside their videos, and where they are corrected.

The page loads nothing from anywhere but the videos themselves. Style, script and data stand in it; a content security
policy that names style and script by their digests keeps anything else from running, whatever a label says.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

from ....data.files.atomic import write_text
from .content import PageVideo, page_data

# In the order in which they are joined: each may use what stands before it.
_SCRIPTS = (
    *("store.js", "saved_file.js", "player.js", "ruler.js"),
    *("timeline.js", "pointer.js", "panel.js", "keys.js", "page.js"),
)
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
# Folders that a page and its videos, moved together, may be apart: further away, the full path is the better guess.
_MOST_FOLDERS_UP = 4


def write_page(
    path: Path | str,
    videos: Sequence[PageVideo],
    *,
    labels: Sequence[str],
    thresholds: Mapping[str, float],
    title: str,
    notes: Sequence[str] = (),
) -> Path:
    """Write the review page of some videos, whole or not at all; returns its path.

    Parameters
    ----------
    labels
        Classes, in the order of their lanes and colours.
    thresholds
        Score from which on a class's detections are shown at first; 0 where it has none.
    notes
        What else a reader should know: which detector, how it was measured, what was left out.

    Raises
    ------
    EtadError
        A value cannot be shown (see `page_data`), or the place cannot be written.
    """
    path = Path(path)
    urls = [None if video.file is None else video_url(video.file, path.parent) for video in videos]
    data = page_data(videos, urls, labels=labels, thresholds=thresholds, title=title, notes=notes)
    return write_text(path, render_page(data))


def render_page(data: Mapping[str, Any]) -> str:
    """Put a page's parts into one HTML text."""
    style = _part("page.css")
    # The private scope of a function, so that no name of ours meets one of the browser's.
    script = "(() => {\n'use strict';\n" + "\n".join(map(_part, _SCRIPTS)) + "})();\n"
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "media-src 'self' file: blob:; img-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(_speakable(data["title"])),
        "style": style,
        "data": embedded_json(data),
        "script": script,
    }
    # One pass: what a title holds is no placeholder.
    return _PLACEHOLDER.sub(lambda found: parts[found[1]], _part("page.html"))


def embedded_json(value: Any) -> str:
    r"""Write JSON that may stand within a script element, whatever its texts hold.

    Examples
    --------
    >>> embedded_json(["</script>", "a&b"])
    '["\\u003c/script\\u003e","a\\u0026b"]'
    """
    # Outside texts JSON has none of these three; everything beyond ASCII is escaped, line separators among it.
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def video_url(file: Path | str, folder: Path | str) -> str:
    """Where a page in `folder` finds a video: relative where they may move together, a file's full address elsewhere.

    Examples
    --------
    >>> video_url("/data/run/clips/a #1.mp4", "/data/run/plots")
    '../clips/a%20%231.mp4'
    >>> video_url("/media/disk/a.mp4", "/home/someone/deep/in/some/folder/run")
    'file:///media/disk/a.mp4'
    """
    # Links stay as they are named: a browser, too, goes up by names alone.
    target, start = (Path(os.path.normpath(Path(place).absolute())) for place in (file, folder))
    try:
        relative = Path(os.path.relpath(target, start))
    except ValueError:  # another drive
        return target.as_uri()
    up = sum(part == os.pardir for part in relative.parts)
    if up > _MOST_FOLDERS_UP or up >= len(start.parts) - 1:
        return f"file://{_quoted(target.as_posix())}" if os.name == "posix" else target.as_uri()
    return _quoted(relative.as_posix())


def _quoted(path: str) -> str:
    """Percent-encode a path; names that are no UTF-8 byte by byte."""
    return quote_from_bytes(os.fsencode(path), safe="/") if os.name == "posix" else quote(path, safe="/")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _speakable(text: str) -> str:
    """Replace halves of characters, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _part(name: str) -> str:
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    assert name.endswith(".html") or "</s" not in text, f"{name} would end its element"
    return text
