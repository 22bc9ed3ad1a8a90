"""The stage `extract`: videos and an encoder in, a feature cache out; repeated, it does what is missing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..data.cache.cache import FeatureCache, FeatureMeta, finished_ids, pack, write_part
from ..data.cache.meta import Kind, check_same_kind
from ..data.cache.parts import part_id, part_paths
from ..data.digest import file_sha256
from ..data.errors import EtadError, listing
from ..data.precision import choose_dtype
from ..data.progress import progress_bar
from ..data.timeline import Timeline, Timing
from .clips import ClipPlan, Failure, clip_batches
from .encode import EncodedVideo, encode_batches
from .encoders.encoder import Encoder
from .settings import ClipSettings, ExtractSettings

log = logging.getLogger(__name__)


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
    """

    cache: Path
    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[Failure, ...]


def run(
    sources: Mapping[str, Path],
    cache: Path,
    *,
    encoder: Encoder,
    encoder_name: str,
    weights_sha256: str,
    clips: ClipSettings,
    settings: ExtractSettings,
    precision: str,
    device: torch.device,
    shard: tuple[int, int] | None = None,
    progress: bool = True,
) -> ExtractReport:
    """Extract the features of every video that the cache does not have, and pack them.

    A video counts as done where the cache has it whole and its file is still the same; a file that has changed is
    extracted anew. What fails is recorded and the rest goes on. Killed, it goes on where it stopped.

    Parameters
    ----------
    sources
        Video files by id.
    cache
        Packed file to make or extend.
    encoder
        With its weights; moved to `device` here.
    weights_sha256
        Digest of the file they came from; a word such as `random` where there is none.
    shard
        (i, n): only every n-th video from the i-th on, i from 0; leaves the packing to whoever joins the shards.
    progress
        Draw a bar on stderr.

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
        encoder=encoder_name,
        weights_sha256=weights_sha256,
        transform=plan.describe(),
        source_name="",
        source_bytes=0,
        source_sha256="",
        compute_dtype=str(dtype).removeprefix("torch."),
    )
    kind = Kind.of(template, store_dtype=settings.store_dtype, channels=encoder.channels)
    skipped = _up_to_date(chosen, cache, kind)
    missing = {video_id: path for video_id, path in chosen.items() if video_id not in skipped}
    if skipped:
        log.info("%s: has %d of %d videos already (%s)", cache, len(skipped), len(chosen), listing(sorted(skipped), 3))
    encoder = encoder.to(device).eval()
    done: list[str] = []
    failed: list[Failure] = []
    decoded = clip_batches(missing, plan, batch_clips=settings.batch_clips, workers=settings.workers)
    with (
        contextlib.closing(decoded),
        progress_bar("extract", unit="video", total=len(missing), shown=progress) as bar,
    ):
        for item in encode_batches(encoder, decoded, device=device, dtype=dtype):
            failure = item if isinstance(item, Failure) else _store(item, cache, template, settings.store_dtype)
            if failure is not None:
                log.warning("%s: %s", failure.video_id, failure.reason)
                failed.append(failure)
                bar.set_postfix(failed=len(failed))
            else:
                done.append(item.video_id)
            bar.update()
    if shard is None and part_paths(cache):
        pack(cache)
    return ExtractReport(cache, tuple(done), tuple(skipped), tuple(failed))


def _shard(sources: Mapping[str, Path], shard: tuple[int, int] | None) -> dict[str, Path]:
    ordered = {video_id: Path(sources[video_id]) for video_id in sorted(sources)}
    if shard is None:
        return ordered
    index, count = shard
    if not 0 <= index < count:
        raise EtadError(f"shard {index}/{count}: the first number runs from 0 to {count - 1}, one for each job.")
    return dict(list(ordered.items())[index::count])


def _up_to_date(sources: Mapping[str, Path], cache: Path, kind: Kind) -> list[str]:
    """Ids whose features the cache has, by the same encoder and from the same file.

    Raises
    ------
    EtadError
        The cache is damaged, or holds features of another kind.
    """
    finished = finished_ids(cache)
    if not finished:
        return []
    with FeatureCache(cache) as features:
        check_same_kind(cache, features.ids[0], features.kind, next(iter(sources), "to extract"), kind)
        parts = {part_id(path): path for path in part_paths(cache)}
        return [
            video_id
            for video_id, path in sources.items()
            if video_id in finished and _is_same_file(path, features.meta(video_id), parts.get(video_id, cache))
        ]


def _is_same_file(path: Path, meta: FeatureMeta, stored: Path) -> bool:
    """Whether features, stored in a file of the cache, are of this very video file.

    Digesting every video again would take as long as copying the data set: that is done only where the file was
    touched after its features were stored. One that cannot be read is left to the decoder to complain of.
    """
    try:
        found = path.stat()
        if found.st_size != meta.source_bytes:
            return False
        return found.st_mtime < stored.stat().st_mtime or file_sha256(path) == meta.source_sha256
    except (OSError, EtadError):
        return False


def _store(video: EncodedVideo, cache: Path, template: FeatureMeta, store_dtype: str) -> Failure | None:
    """Write one video's features; says what is wrong with them if they cannot be stored."""
    try:
        meta = replace(
            template,
            timing=Timing.of(video.timeline),
            source_name=video.path.name,
            source_bytes=video.path.stat().st_size,
            source_sha256=file_sha256(video.path),
        )
        write_part(cache, video.video_id, video.features, meta, store_dtype)
    except (EtadError, OSError) as error:
        return Failure(video.video_id, video.path, str(error))
    return None
