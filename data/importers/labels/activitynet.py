"""ActivityNet's own form, which annotations are kept in: read to be checked, merged or split anew."""

from __future__ import annotations

from pathlib import Path

from ...annotations import read_annotations
from ...errors import shown
from .rows import Labels, RowCollector

LAYOUT = "activitynet"


def matches(path: Path, head: bytes) -> bool:
    """Whether a file looks like annotations in ActivityNet's form."""
    return head.lstrip()[:1] == b"{" and b'"database"' in head


def read(path: Path, *, fps: float | None = None) -> Labels:
    """Read annotations; see `read_annotations` for what is refused."""
    annotations = read_annotations(path)
    collector = RowCollector(path, LAYOUT)
    for id in annotations.repeated:
        collector.refuse(
            f"video {shown(id)}", "stands twice, and what its first entry says is lost; keep one of them", video=id
        )
    for video in annotations.videos.values():
        where = f"video {video.id!r}"
        collector.video(video.id, where, duration_seconds=video.duration_seconds, subset=video.subset)
        for number, action in enumerate(video.actions, start=1):
            collector.action(
                video.id, action.start_seconds, action.end_seconds, action.label, f"{where}, action {number}"
            )
    return collector.labels()
