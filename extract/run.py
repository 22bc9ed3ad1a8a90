"""The stage `extract`: videos and an encoder in, a feature cache out; repeated, it does what is missing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..data.cache.cache import FeatureCache, FeatureMeta, finished_ids, pack, write_part
from ..data.cache.meta import Kind, check_same_kind
from ..data.cache.parts import part_id, part_paths
from ..data.cache.rules import reading_notes, rewrite_meta
from ..data.digest import file_sha256
from ..data.errors import EtadError, UnwritableError, counted, listing
from ..data.precision import choose_dtype
from ..data.progress import PartBar, progress_bar
from ..data.ranks import ALONE, Ranks
from ..data.timeline import READING_RULES, Timeline, Timing
from ..data.video.files import FileStamp, file_stamp
from .clips import ClipPlan, Failure, clip_batches, flaw, lost_frames_text
from .encode import EncodedVideo
from .joined import Encoders
from .settings import ClipSettings, ExtractSettings

log = logging.getLogger(__name__)

# A file that is replaced while it is read is read again, so often in all.
_MOST_READINGS = 3
_NEVER_STILL = "it was replaced each time while it was read. Extract again when whatever writes it is done"
# A video may be so much shorter than its annotations say.
_SHORTER_SECONDS, _SHORTER_SHARE = 0.5, 0.01


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did.

    Parameters
    ----------
    done
        Ids whose features were extracted now.
    skipped
        Ids whose features were there.
    failed
        Videos that could not be extracted, and why.
    flawed
        Videos among `done` whose file is not what it should be, and how.
    notes
        What else there is to know of the cache.
    """

    cache: Path
    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[Failure, ...]
    flawed: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()


def run(
    sources: Mapping[str, Path],
    cache: Path,
    *,
    encoders: Encoders,
    clips: ClipSettings,
    settings: ExtractSettings,
    precision: str,
    device: torch.device,
    shard: tuple[int, int] | None = None,
    stated_seconds: Mapping[str, float] | None = None,
    progress: bool = True,
    ranks: Ranks = ALONE,
    accepted: Callable[[], None] = lambda: None,
) -> ExtractReport:
    """Extract the features of every video that the cache does not have, and pack them.

    A video counts as done where the cache has it whole and its file is still the same; a file that has changed is
    extracted anew, also one that changes while it is read. What fails is recorded and the rest goes on. Killed, it goes
    on where it stopped. Features that were made by older reading rules stay where the newer ones read the same.

    Parameters
    ----------
    sources
        Video files by id.
    cache
        Packed file to make or extend.
    encoders
        With their weights; moved to `device` here.
    shard
        (i, n): only every n-th video from the i-th on, i from 0; leaves the packing to whoever joins the shards.
    stated_seconds
        How long videos are, by their annotations: a file that states no length of its own may have been cut short.
    progress
        Draw a bar on stderr.
    ranks
        Processes that share the videos, by the sizes of their files; the report is of all, and the first one packs.
    accepted
        Called when it is known that the cache takes these features, before there are any.

    Raises
    ------
    EtadError
        The cache is damaged, or holds features of another encoder, transform or dtype.
    """
    chosen = _shard(sources, shard)
    dtype = choose_dtype(precision, device)
    plan = ClipPlan(**clips.model_dump())
    template = FeatureMeta(
        timing=Timing.of(Timeline(1.0, 1.0, 1, plan.clip_frames, plan.frame_step, (0,))),  # each video has its own
        encoder=encoders.names,
        weights_sha256=encoders.digests,
        transform=encoders.transform(plan),
        source_name="",
        source_bytes=0,
        source_sha256="",
        compute_dtype=str(dtype).removeprefix("torch."),
    )
    kind = Kind.of(template, store_dtype=settings.store_dtype, channels=encoders.channels)
    # The first rank looks, before any of them adds to the cache.
    skipped, notes = ranks.broadcast(
        _look_up_all(chosen, cache, kind, plan, settings=settings, progress=progress) if ranks.is_first else None
    )
    accepted()
    there = set(skipped)
    missing = {video_id: path for video_id, path in chosen.items() if video_id not in there}
    if ranks.size > 1:
        dealt = ranks.deal({id: path.stat().st_size if path.exists() else 0 for id, path in missing.items()})
        missing = {id: path for id, path in missing.items() if id in dealt}
    if skipped:
        log.info("%s: has %d of %d videos already (%s)", cache, len(skipped), len(chosen), listing(sorted(skipped), 3))
    done: list[str] = []
    failed: list[Failure] = []
    flawed: list[Failure] = []
    with PartBar(_title(ranks), unit="video", total=len(missing), shown=progress) as bar:
        for time in range(_MOST_READINGS):
            changed: dict[str, Path] = {}
            encoded = encoders.encode(
                missing,
                plan,
                batch_clips=settings.batch_clips,
                workers=settings.workers,
                device=device,
                dtype=dtype,
                report=bar.within,
            )
            with contextlib.closing(encoded):
                for item in encoded:
                    stored = item if isinstance(item, Failure) else _store(item, cache, template, settings.store_dtype)
                    if isinstance(stored, Failure) and _has_changed(stored.path, stored.stamp):
                        log.warning("%s: %s was replaced while it was read; it is read again", item.video_id, item.path)
                        changed[item.video_id] = item.path
                        if time + 1 < _MOST_READINGS:
                            continue
                        stored = Failure(item.video_id, item.path, f"{item.path}: {_NEVER_STILL}")
                    if isinstance(stored, Failure):
                        log.warning("%s: %s", stored.video_id, stored.reason)
                        failed.append(stored)
                        bar.set_postfix(failed=len(failed))
                    else:
                        done.append(item.video_id)
                        if isinstance(item, EncodedVideo):
                            flawed += flaws_of(item, (stated_seconds or {}).get(item.video_id))
                    bar.finish_one()
            missing = changed
            if not missing:
                break
    said = {"done": done, "failed": [each.as_row() for each in failed], "flawed": [each.as_row() for each in flawed]}
    of_ranks = ranks.exchange(said)
    if shard is None and ranks.is_first and part_paths(cache):
        pack(cache)
    ranks.wait()
    return ExtractReport(
        cache,
        tuple(id for rank in of_ranks for id in rank["done"]),
        tuple(skipped),
        tuple(Failure.of_row(row) for rank in of_ranks for row in rank["failed"]),
        tuple(Failure.of_row(row) for rank in of_ranks for row in rank["flawed"]),
        tuple(notes),
    )


def _title(ranks: Ranks) -> str:
    """What the bar counts.

    Examples
    --------
    >>> _title(Ranks(rank=0, size=3))
    'extract, share 1 of 3'
    """
    return "extract" if ranks.size == 1 else f"extract, share {ranks.rank + 1} of {ranks.size}"


def _look_up_all(
    chosen: Mapping[str, Path],
    cache: Path,
    kind: Kind,
    plan: ClipPlan,
    *,
    settings: ExtractSettings,
    progress: bool,
) -> tuple[list[str], list[str]]:
    """Which videos need nothing, and what there is to note about what the cache has."""
    found = _look_up(chosen, cache, kind)
    kept = _still_right(found, cache, plan, settings=settings, progress=progress and bool(found.older))
    return [id for id in chosen if id in found.current or id in kept], list(found.notes(cache, kept))


def _shard(sources: Mapping[str, Path], shard: tuple[int, int] | None) -> dict[str, Path]:
    ordered = {video_id: Path(sources[video_id]) for video_id in sorted(sources)}
    if shard is None:
        return ordered
    index, count = shard
    if not 0 <= index < count:
        raise EtadError(f"shard {index}/{count}: the first number runs from 0 to {count - 1}, one for each job.")
    return dict(list(ordered.items())[index::count])


@dataclass(frozen=True)
class _Found:
    """What a cache has of the chosen videos, from files that are still the same.

    Parameters
    ----------
    current
        By today's reading rules.
    older
        By older ones, with their files.
    """

    current: Mapping[str, FeatureMeta]
    older: Mapping[str, tuple[Path, FeatureMeta]]

    def notes(self, cache: Path, kept: Collection[str]) -> list[str]:
        """Say what is not as it should be of what is not extracted now, and what became of older features."""
        lost_frames = {video_id: meta.lost_frames for video_id, meta in self.current.items()}
        notes = reading_notes(cache, rules={}, lost_frames=lost_frames)
        if self.older:
            again = [video_id for video_id in self.older if video_id not in kept]
            done_again = f", {len(again)} are extracted again: {listing(again)}" if again else ""
            notes.append(
                f"{cache}: {counted(len(self.older), 'video')} read by older rules (now {READING_RULES}); "
                f"{len(kept)} read the same and stay{done_again}."
            )
        return notes


def _look_up(sources: Mapping[str, Path], cache: Path, kind: Kind) -> _Found:
    """Find the videos whose features the cache has, by the same encoder and from the same file.

    Raises
    ------
    EtadError
        The cache is damaged, or holds features of another kind.
    """
    current: dict[str, FeatureMeta] = {}
    older: dict[str, tuple[Path, FeatureMeta]] = {}
    finished = finished_ids(cache)
    if not finished:
        return _Found(current, older)
    with FeatureCache(cache) as features:
        check_same_kind(cache, features.ids[0], features.kind, next(iter(sources), "to extract"), kind)
        parts = {part_id(path): path for path in part_paths(cache)}
        for video_id, path in sources.items():
            if video_id in finished:
                meta = features.meta(video_id)
                if _is_same_file(path, meta, parts.get(video_id, cache)):
                    if meta.reading_rules == READING_RULES:
                        current[video_id] = meta
                    else:
                        older[video_id] = path, meta
    return _Found(current, older)


def _is_same_file(path: Path, meta: FeatureMeta, stored: Path) -> bool:
    """Whether features, stored in a file of the cache, are of this very video file.

    Digesting every video again would take as long as copying the data set: that is done only where the file has another
    date than when it was read; where that is not known, where it was touched after its features were stored. One that
    cannot be read is left to the decoder to complain of.
    """
    try:
        found = path.stat()
        if found.st_size != meta.source_bytes:
            return False
        if meta.source_modified_ns:
            is_old = found.st_mtime_ns == meta.source_modified_ns
        else:
            is_old = found.st_mtime < stored.stat().st_mtime
        return is_old or file_sha256(path) == meta.source_sha256
    except (OSError, EtadError):
        return False


def _still_right(found: _Found, cache: Path, plan: ClipPlan, *, settings: ExtractSettings, progress: bool) -> set[str]:
    """Read videos whose features are of older rules again, without encoding; those that read the same stay.

    So they do where the same times come out, no frame is lost, and nothing about the file is so uncommon that newer
    rules might have read it otherwise. They are marked as read by today's rules.
    """
    differs: set[str] = set()
    stamps: dict[str, FileStamp | None] = {}
    sources = {video_id: path for video_id, (path, _) in found.older.items()}
    decoded = clip_batches(sources, plan, batch_clips=settings.batch_clips, workers=settings.workers)
    with (
        contextlib.closing(decoded) as batches,
        progress_bar("read again", unit="video", total=len(sources), shown=progress) as bar,
    ):
        for item in batches:
            bar.update(isinstance(item, Failure) or item.is_last)
            if isinstance(item, Failure):
                differs.add(item.video_id)
                continue
            reading, timing = item.reading, found.older[item.video_id][1].timing
            stamps[item.video_id] = reading.stamp
            if reading.lost_ticks or reading.rules or Timing.of(item.timeline) != timing:
                differs.add(item.video_id)
    kept = set()
    for video_id, stamp in stamps.items():
        path, meta = found.older[video_id]
        if video_id in differs or stamp is None or _has_changed(path, stamp):
            continue
        now = replace(meta, reading_rules=READING_RULES, source_modified_ns=stamp.modified_ns)
        try:
            rewrite_meta(cache, video_id, now)
            kept.add(video_id)
        except UnwritableError:
            raise
        except EtadError:
            continue  # damaged features are made again
    return kept


def _has_changed(path: Path, stamp: FileStamp | None) -> bool:
    """Whether another file, or other content, stands where a file was; not whether it is gone."""
    now = file_stamp(path)
    return stamp is not None and now is not None and now != stamp


def _store(video: EncodedVideo, cache: Path, template: FeatureMeta, store_dtype: str) -> Failure | None:
    """Write one video's features; says what is wrong with them, or that they are of a file that is no longer there."""
    stamp = video.reading.stamp
    try:
        sha256 = file_sha256(video.path)
        # Looked at after the digest: what was decoded, what was digested and what is described are the same file.
        if stamp is None or _has_changed(video.path, stamp):
            return Failure(video.video_id, video.path, "the file has changed", stamp)
        meta = replace(
            template,
            timing=Timing.of(video.timeline),
            source_name=video.path.name,
            source_bytes=stamp.bytes,
            source_sha256=sha256,
            lost_frames=len(video.reading.lost_ticks),
            source_modified_ns=stamp.modified_ns,
        )
        write_part(cache, video.video_id, video.features, meta, store_dtype)
    except UnwritableError:
        raise  # a full disk is no fault of this video, and the next one would not fare better
    except (EtadError, OSError) as error:
        return Failure(video.video_id, video.path, str(error), stamp)
    return None


def flaws_of(video: EncodedVideo, stated_seconds: float | None) -> list[Failure]:
    """Say what is wrong with a video's file, though it could be encoded."""
    flaws = []
    if video.reading.lost_ticks:
        flaws.append(lost_frames_text(len(video.reading.lost_ticks)))
    found_seconds = video.timeline.duration_seconds
    stated = 0.0 if stated_seconds is None or video.reading.states_its_length else stated_seconds
    if found_seconds < stated - max(_SHORTER_SECONDS, _SHORTER_SHARE * stated):
        flaws.append(
            f"it lasts {found_seconds:.1f} s, the annotations say {stated:.1f} s: the file may have been cut short"
        )
    if not flaws:
        return []
    return [flaw(video.video_id, video.path, *flaws)]
