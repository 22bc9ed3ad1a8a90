"""Features of a tuned encoder that never leave memory, and the detector's loss on them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import torch

from ...data.cache.source import MemoryFeatures
from ...data.digest import digest_of, tensor_chunks
from ...data.progress import PartBar
from ...data.ranks import ALONE, Ranks
from ...data.timeline import Timing
from ...extract.clips import ClipPlan, Failure, clip_batches
from ...extract.encode import encode_batches
from ...extract.encoders.encoder import Encoder
from ...extract.run import flaws_of


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
) -> tuple[MemoryFeatures, list[Failure], list[Failure]]:
    """Encode videos as extraction does, and keep their features.

    Parameters
    ----------
    stated_seconds
        How long videos are, by their annotations: a file that states no length of its own may have been cut short.
    ranks
        Processes that share the videos; all of them get the features of all.

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
    decoded = clip_batches(own, plan, batch_clips=batch_clips, workers=workers)
    with contextlib.closing(decoded), PartBar(title, unit="video", total=len(own)) as bar:
        for item in encode_batches(encoder, decoded, device=device, dtype=dtype, report=bar.within):
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
