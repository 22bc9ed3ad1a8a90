"""By which reading rules features were made, and of how many frames they lack: what every use of a cache should say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import counted, listing
from ..timeline import READING_RULES
from .item import open_file, read_header, read_stored, video_group
from .meta import FeatureMeta
from .names import part_name
from .parts import parts_folder, write_item_file

# What each version of the rules reads otherwise than the one before it.
_CHANGES = {
    2: "joined transport streams, fields, cut groups of pictures, mirrored pictures, pictures later than their sound, "
    "files cut short, lost frames"
}


def reading_notes(cache: Path, *, rules: Mapping[str, int], lost_frames: Mapping[str, int]) -> list[str]:
    """Say which videos were read by older rules, and which lack frames; nothing where all is well.

    Parameters
    ----------
    rules, lost_frames
        By id.
    """
    notes = []
    for version in sorted({version for version in rules.values() if version < READING_RULES}):
        ids = [id for id, its in rules.items() if its == version]
        changes = "; ".join(what for since, what in _CHANGES.items() if since > version)
        made = f"{counted(len(ids), 'video')} read by older rules (version {version}, now {READING_RULES})"
        notes.append(
            f"{cache}: {made}, which may be wrong about {changes}: {listing(ids)}. `etad extract` reads their files "
            f"again, and does those again that come out otherwise."
        )
    lost = [f"{id} ({count})" for id, count in lost_frames.items() if count]
    if lost:
        lack = "video lacks" if len(lost) == 1 else "videos lack"
        notes.append(
            f"{cache}: {len(lost)} {lack} frames that could not be decoded, the ones before stand in: {listing(lost)}."
        )
    return notes


def rewrite_meta(cache: Path, video_id: str, meta: FeatureMeta) -> None:
    """Write what is stored beside a video's features anew, as a part; the features stay, and are tested first.

    Raises
    ------
    EtadError
        The video is not there, or damaged.
    """
    part = parts_folder(cache) / part_name(video_id)
    source = part if part.exists() else cache
    with open_file(source) as file:
        group = video_group(source, file, video_id)
        features = read_stored(source, group, read_header(source, group, video_id))
    write_item_file(part, video_id, features, meta)
