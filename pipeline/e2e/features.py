"""Features of a tuned encoder that never leave memory, and the detector's loss on them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.cache.source import MemoryFeatures
from ...data.digest import digest_of, tensor_chunks
from ...data.progress import PartBar
from ...data.ranks import ALONE, Ranks
from ...data.timeline import Timing
from ...data.video.files import file_stamp
from ...extract.clips import ClipBatch, ClipPlan, Failure, clip_batches
from ...extract.encode import EncodedVideo, encode_batches
from ...extract.encoders.encoder import Encoder
from ...extract.frozen import FrozenCache
from ...extract.run import flaws_of


class KeptVideos:
    """Whole videos whose frozen part is paid for once, while an encoder's other stages change.

    A process reads what it has written itself and nothing else: what is to be said of a video is then known, too. A
    file that was changed since, or whose outputs are gone or damaged, is decoded again.

    Parameters
    ----------
    frozen
        Where the outputs of the frozen stages lie; what is there already is removed. Its dtype is that in which the
        other stages compute.
    """

    def __init__(self, frozen: FrozenCache) -> None:
        self.frozen = frozen
        frozen.keep_only(())
        self._batches: dict[str, list[tuple[str, ClipBatch]]] = {}  # their clips are left out

    def encode(
        self,
        files: Mapping[str, Path],
        plan: ClipPlan,
        *,
        batch_clips: int,
        workers: int,
        report: Callable[[float], None],
    ) -> Generator[EncodedVideo | Failure, None, None]:
        """Encode videos, those first of which outputs are kept; see `encode_in_memory`."""
        anew = {}
        for id, path in files.items():
            features = self._read(id, path, report)
            if features is None:
                anew[id] = path
            else:
                yield self._encoded(id, features)
        parts: list[Tensor] = []
        with contextlib.closing(clip_batches(anew, plan, batch_clips=batch_clips, workers=workers)) as decoded:
            for item in decoded:
                if isinstance(item, Failure):
                    self._batches.pop(item.video_id, None)
                    parts.clear()
                    yield item
                    continue
                parts.append(self._keep(item))
                report((item.first_snippet + len(item.clips)) / item.timeline.num_snippets)
                if item.is_last:
                    yield self._encoded(item.video_id, torch.cat(parts))
                    parts.clear()

    def _keep(self, batch: ClipBatch) -> Tensor:
        """Write what the frozen stages make of a batch, and return its features, (N, C)."""
        maps = self.frozen.encode(torch.from_numpy(batch.clips))
        window, name = (batch.first_snippet, len(batch.clips)), f"{batch.video_id} {batch.reading.stamp}"
        key = self.frozen.entry("", window=window, sample=name, draw=0)
        self.frozen.save(key, maps, set(batch.reading.lost_ticks))
        known = self._batches.setdefault(batch.video_id, [])
        if batch.first_snippet == 0:  # the file has changed, or what was kept of it is damaged
            self.frozen.forget(old for old, _ in known if old != key)
            known.clear()
        known.append((key, replace(batch, clips=batch.clips[:0].copy())))  # a view would hold all of them
        return self.frozen.finish(maps)

    def _read(self, id: str, path: Path, report: Callable[[float], None]) -> Tensor | None:
        """Features, (T, C), by what is kept of a video; none: not all of it is."""
        known, parts = self._batches.get(id, ()), []
        if not known or known[0][1].reading.stamp != file_stamp(path):
            return None
        for key, batch in known:
            found = self.frozen.load(key)
            if found is None:
                return None
            parts.append(self.frozen.finish(found[0]))
            report((batch.first_snippet + len(parts[-1])) / batch.timeline.num_snippets)
        return torch.cat(parts)

    def _encoded(self, id: str, features: Tensor) -> EncodedVideo:
        batches = [batch for _, batch in self._batches[id]]
        lost_ticks = frozenset(chain.from_iterable(batch.reading.lost_ticks for batch in batches))
        return EncodedVideo(
            video_id=id,
            path=batches[-1].path,
            features=features.cpu().numpy(),
            timeline=batches[-1].timeline,
            reading=replace(batches[-1].reading, lost_ticks=lost_ticks),
        )


def encode_in_memory(
    files: Mapping[str, Path],
    plan: ClipPlan,
    *,
    encoder: Encoder,
    dtype: torch.dtype,
    batch_clips: int,
    workers: int,
    folder: Path,
    device: torch.device,
    title: str,
    stated_seconds: Mapping[str, float] | None = None,
    ranks: Ranks = ALONE,
    kept: KeptVideos | None = None,
) -> tuple[MemoryFeatures, list[Failure], list[Failure]]:
    """Encode videos as extraction does, and keep their features.

    Parameters
    ----------
    stated_seconds
        How long videos are, by their annotations: a file that states no length of its own may have been cut short.
    ranks
        Processes that share the videos; all of them get the features of all.
    kept
        Outputs of the frozen stages; none: everything is computed anew.

    Returns
    -------
    features, failed, flawed
        Videos that fail are left out; flawed ones are in it as far as they go, and something is wrong with them.
    """
    features, timings, failed, flawed = {}, {}, [], []
    was_training = encoder.training
    encoder.eval()
    dealt = ranks.deal({id: path.stat().st_size if path.exists() else 0 for id, path in files.items()})
    own = {id: path for id, path in files.items() if id in dealt}
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(PartBar(title, unit="video", total=len(own)))
        how: dict[str, Any] = {"batch_clips": batch_clips, "workers": workers}
        if kept is None:
            decoded = stack.enter_context(contextlib.closing(clip_batches(own, plan, **how)))
            encoded: Iterator[EncodedVideo | Failure] = encode_batches(
                encoder, decoded, device=device, dtype=dtype, report=bar.within
            )
        else:
            encoded = stack.enter_context(contextlib.closing(kept.encode(own, plan, **how, report=bar.within)))
        for item in encoded:
            if isinstance(item, Failure):
                failed.append(item)
            else:
                features[item.video_id], timings[item.video_id] = item.features, Timing.of(item.timeline)
                flawed += flaws_of(item, (stated_seconds or {}).get(item.video_id))
            bar.finish_one()
    encoder.train(was_training)
    if ranks.size > 1:
        said = ranks.exchange(
            {
                "timings": {id: asdict(timing) for id, timing in timings.items()},
                "failed": [each.as_row() for each in failed],
                "flawed": [each.as_row() for each in flawed],
            }
        )
        joined = ranks.join_arrays([torch.from_numpy(each) for each in features.values()])
        failed, flawed = ([Failure.of_row(row) for rank in said for row in rank[name]] for name in ("failed", "flawed"))
        found = {
            id: (array.numpy(), Timing(**fields))
            for rank, arrays in zip(said, joined)
            for (id, fields), array in zip(rank["timings"].items(), arrays)
        }
        features = {id: found[id][0] for id in files if id in found}
        timings = {id: found[id][1] for id in files if id in found}
    digest = features_digest(files, plan, encoder=encoder, dtype=dtype)
    return MemoryFeatures(folder, encoder.channels, digest, features, timings), failed, flawed


def features_digest(files: Mapping[str, Path], plan: ClipPlan, *, encoder: Encoder, dtype: torch.dtype) -> str:
    """Name features before they are computed: by the encoder's weights, what is done to frames, and the files."""
    frames = f"{json.dumps(plan.describe(), sort_keys=True)} {dtype}"
    stats = ((id, path.stat() if path.exists() else None) for id, path in files.items())
    sources = (repr((id, found and (found.st_size, found.st_mtime_ns))).encode() for id, found in stats)
    return digest_of(chain([frames.encode()], tensor_chunks(encoder.state_dict()), sources))
