"""Working copies of a folder of videos, several at a time; safe to repeat."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...data.errors import DiskError, EtadError, counted, listing
from ...data.files.atomic import remove_leftovers
from ...data.progress import progress_bar
from ...data.video.copies import CopySettings, WorkingCopy, make_copy
from ...data.video.video import find_videos
from ...extract.clips import Failure
from .result import StageResult

_SUFFIX = ".mp4"


def transcode(videos: Path, out: Path, settings: CopySettings, *, workers: int = 2) -> StageResult:
    """Make working copies of all videos below a folder, under the same ids.

    Parameters
    ----------
    videos, out
        Folder of the originals, and of the copies; copies lie as their originals do below it.
    workers
        Videos that are copied at once.

    Raises
    ------
    EtadError
        No videos, one folder lies in the other, or the place cannot be written to.
    """
    found = find_videos(videos)
    inner, outer = Path(out).resolve(), Path(videos).resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise EtadError(
            f"{out}: lies in the folder of the originals, or holds it: copies would be taken for videos of their own. "
            "Name another folder with -o."
        )
    targets = _targets(found.files, Path(videos), Path(out))
    sizes = {video_id: path.stat().st_size for video_id, path in found.files.items()}
    results: dict[str, WorkingCopy] = {}
    failed: dict[str, Failure] = {}
    lock, stop = threading.Lock(), threading.Event()
    for folder in {target.parent for target in targets.values()}:
        if folder.is_dir():
            remove_leftovers(folder)
    with progress_bar("transcode", unit="MB", total=round(sum(sizes.values()) / 1e6)) as bar:
        shares: dict[str, float] = {}

        def report(video_id: str, share: float) -> None:
            if stop.is_set():
                raise _Stopped
            with lock:
                shares[video_id] = share
                done = round(sum(sizes[each] * part for each, part in shares.items()) / 1e6)
                bar.update(done - bar.n)

        def copy(video_id: str) -> None:
            path = found.files[video_id]
            try:
                results[video_id] = make_copy(
                    path, targets[video_id], settings, report=lambda share: report(video_id, share)
                )
            except DiskError:
                stop.set()
                raise
            except EtadError as error:
                failed[video_id] = Failure(video_id, path, str(error).removeprefix(f"{path}: "))
            report(video_id, 1.0)

        pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="transcode")
        try:
            for future in [pool.submit(copy, video_id) for video_id in found.files]:
                future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    made = [copy for copy in results.values() if copy.made]
    notes = [*filter(None, [found.passed_over_text()]), *_renamed(targets, Path(out))]
    if len(made) < len(results):
        notes.append(f"{len(results) - len(made)} of the copies were there already")
    before, after = sum(sizes[each] for each in results), sum(copy.path.stat().st_size for copy in results.values())
    return StageResult(
        Path(out),
        notes=tuple(notes),
        failed=tuple(failed[video_id] for video_id in sorted(failed)),
        summary=f"{len(made)} of {counted(len(found.files), 'video')} copied, {len(failed)} failed: "
        f"{before / 1e6:.1f} MB became {after / 1e6:.1f} MB, in {out}",
    )


class _Stopped(EtadError):
    """Another video met a fault of the disk."""

    def __init__(self) -> None:
        super().__init__("stopped")


def _targets(files: Mapping[str, Path], videos: Path, out: Path) -> dict[str, Path]:
    """Where each video's copy lies."""
    below = {video_id: path.relative_to(videos) for video_id, path in files.items()}
    shared = Counter(path.with_suffix("") for path in below.values())
    return {
        video_id: out / (path.with_suffix(_SUFFIX) if shared[path.with_suffix("")] == 1 else f"{path}{_SUFFIX}")
        for video_id, path in below.items()
    }


def _renamed(targets: Mapping[str, Path], out: Path) -> list[str]:
    """Say which copies have another id than their originals: those whose names several originals share."""
    stems = Counter(path.stem for path in targets.values())
    ids = {
        video_id: path.stem if stems[path.stem] == 1 else path.relative_to(out).as_posix()
        for video_id, path in targets.items()
    }
    changed = [f"{old} becomes {new}" for old, new in ids.items() if old != new]
    if not changed:
        return []
    return [f"{counted(len(changed), 'id')} of copies differ, since files share their names: {listing(changed)}"]
