"""What each stage of a run was done with: versions, inputs, device and processes, in `manifest.json`."""

from __future__ import annotations

import contextlib
import logging
import platform
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..data.digest import file_sha256, values_digest
from ..data.errors import EtadError
from ..data.files.atomic import write_json
from ..data.files.json_file import loads, read_bytes, read_json
from ..data.files.lock import holding
from ..data.ranks import current_ranks
from .config import Config
from .run_folder import RunFolder

_logger = logging.getLogger(__name__)

_FORMAT = 1
_LIBRARIES = ("torch", "av", "h5py", "numpy")
# A shard has a file of its own, which `merge` joins: a thousand that start at once need not take turns.
_SHARD_PREFIX = "manifest-"
# Noting takes milliseconds; two stages of one run may do so at once.
_MOST_NOTING_SECONDS = 60.0
# What differs from call to call though the same is done with the same.
_OF_THE_CALL = ("status", "begun", "finished", "host", "failed", "made", "earlier")


@contextlib.contextmanager
def noting(
    run: RunFolder,
    stage: str,
    config: Config,
    *,
    device: torch.device,
    files: Mapping[str, Path | None],
    digests: Mapping[str, str],
    shard: tuple[int, int] | None = None,
) -> Iterator[dict[str, Any]]:
    """Note in the run's manifest that a stage begins and, where the block ends well, that it has finished.

    A stage that is killed or fails stays noted as begun. Where it was done with other versions or inputs before, the
    entry keeps that under `earlier`: what lies in the run folder may be of that time. Of processes that work together,
    the first one writes.

    Parameters
    ----------
    files
        Inputs by name, to digest here; None, and what is no file, is left out.
    digests
        Digests of other inputs by name.
    shard
        (i, n): the entry has a file of its own, until `join_shards`.

    Yields
    ------
    The entry: what the block puts into it, such as digests of what it made (`made`), is noted at the end.
    """
    ranks = current_ranks()
    name = stage if shard is None else f"{stage} {shard[0]}/{shard[1]}"
    entry = _begun() | {
        "config": values_digest(config.to_tree()),
        "seed": config.seed,
        "device": _describe(device),
        "processes": ranks.size,
        "digests": dict(digests),
        "made": {},
    }
    if not ranks.is_first:
        yield entry
        return
    entry["digests"] |= {name: file_sha256(path) for name, path in files.items() if path is not None and path.is_file()}
    file = None if shard is None else run.path / f"{_SHARD_PREFIX}{stage}-{shard[0]}-of-{shard[1]}.json"
    note = partial(_put, run) if file is None else partial(_write, file)
    note({name: entry})
    yield entry
    entry |= {"status": "finished", "finished": _now()}
    note({name: entry})


def note_merge(run: RunFolder, begun: datetime, cache_digest: str) -> None:
    """Note that a run's cache was joined, with the entries of the shards; of those at work, another merge has the end.

    Raises
    ------
    EtadError
        A manifest is damaged.
    """
    found = {path: _read(path) for path in sorted(run.path.glob(f"{_SHARD_PREFIX}*.json"))}
    entries = {name: entry for shard in found.values() for name, entry in shard.items()}
    merge = _begun(begun) | {"status": "finished", "finished": _now(), "made": {"cache": cache_digest}}
    _put(run, entries | {"merge": merge})
    for path, shard in found.items():
        if all(entry.get("status") == "finished" for entry in shard.values()):
            path.unlink(missing_ok=True)


def _begun(at: datetime | None = None) -> dict[str, Any]:
    versions = {library: version(library) for library in _LIBRARIES}
    return {
        "status": "begun",
        "begun": _now() if at is None else _text(at),
        "host": socket.gethostname(),
        "versions": {"etad": __version__, "python": platform.python_version(), **versions},
    }


def _put(run: RunFolder, entries: Mapping[str, Any]) -> None:
    """Put entries into the run's manifest, by turns: stages and merges may end at once."""
    with holding(run.path / ".manifest.lock", "noting a stage", wait_seconds=_MOST_NOTING_SECONDS):
        _write(run.manifest, entries)


def _write(path: Path, entries: Mapping[str, Any]) -> None:
    stages = _read_or_move(path)
    for name, entry in entries.items():
        earlier = _earlier(stages.get(name), entry)
        new = {key: value for key, value in entry.items() if key != "earlier"}
        stages[name] = {**new, "earlier": earlier} if earlier else new
    write_json(path, {"format": _FORMAT, "stages": stages}, indent=1)


def _read_or_move(path: Path) -> dict[str, Any]:
    """Read what is noted; a damaged manifest, by which nothing is decided, is renamed, and noting begins anew.

    Raises
    ------
    EtadError
        The file cannot be read at all, which says nothing of what is in it.
    """
    if not path.exists():
        return {}
    content = read_bytes(path, what="a run's manifest")
    try:
        return _stages(path, loads(path, content, what="a run's manifest"))
    except EtadError as error:
        number = next(n for n in count(1) if not path.with_name(f"{path.name}.damaged-{n}").exists())
        aside = path.with_name(f"{path.name}.damaged-{number}")
        path.rename(aside)
        _logger.warning("%s It is kept as %s; a new one is begun, without what was noted before.", error, aside.name)
        return {}


def _earlier(before: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a stage was done with before, each once, oldest first, without what it is done with now."""
    last = [] if before is None else [{key: value for key, value in before.items() if key != "earlier"}]
    found: list[Mapping[str, Any]] = []
    for each in (*_list_of(before), *last, *_list_of(entry)):
        if _lasting(each) not in (_lasting(other) for other in (*found, entry)):
            found.append(each)
    return found


def _list_of(entry: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    listed = [] if entry is None else entry.get("earlier", [])
    return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []


def _lasting(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in _OF_THE_CALL}


def _read(path: Path) -> dict[str, Any]:
    return _stages(path, read_json(path, what="a run's manifest"))


def _stages(path: Path, read: Any) -> dict[str, Any]:
    stages = read.get("stages") if isinstance(read, dict) else None
    if not isinstance(stages, dict) or not all(isinstance(entry, dict) for entry in stages.values()):
        raise EtadError(
            f'{path}: is no manifest: expected {{"stages": {{NAME: {{...}}}}}}. Delete it, or restore a copy.'
        )
    return stages


def _describe(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _now() -> str:
    return _text(datetime.now(UTC))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
