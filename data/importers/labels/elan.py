"""ELAN: annotation documents (.eaf) of one or more tiers over a video.

The form is that of the ELAN Annotation Format, version 3: TIME_SLOTs in milliseconds, and ALIGNABLE_ANNOTATIONs of
TIERs that point at two of them. It has not been tried on documents that ELAN itself wrote.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from ...errors import EtadError, counted, listing
from ...files.json_file import read_bytes
from .rows import Labels, RowCollector
from .table import video_id

LAYOUT = "elan"


def matches(path: Path, head: bytes) -> bool:
    """Whether a file looks like an annotation document."""
    return b"<ANNOTATION_DOCUMENT" in head


def read(path: Path, *, fps: float | None = None) -> Labels:
    """Read the annotations of all tiers that stand in time; labels are their values.

    Raises
    ------
    EtadError
        The file is no such document, or declares entities, which could make it grow without end.
    """
    content = read_bytes(path, what="labels")
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise EtadError(f"{path}: declares XML entities, which no document of ELAN does. Export it anew.")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise EtadError(f"{path}: this is no XML that can be read ({error}). Export it anew.") from error
    media = [each.get("MEDIA_URL", "") for each in root.iter("MEDIA_DESCRIPTOR")]
    name = video_id(unquote(media[0])) if media and media[0] else path.stem
    collector = RowCollector(path, LAYOUT)
    if len(media) > 1:
        collector.notes.append(f"of {len(media)} media files the first counts: {name}")
    slots = {each.get("TIME_SLOT_ID", ""): each.get("TIME_VALUE") for each in root.iter("TIME_SLOT")}
    video = collector.video(name, "the document")
    tiers: dict[str, int] = {}
    dependent = 0
    for tier in root.iter("TIER"):
        tier_id = tier.get("TIER_ID", "")
        dependent += sum(1 for _ in tier.iter("REF_ANNOTATION"))
        for number, each in enumerate(tier.iter("ALIGNABLE_ANNOTATION"), start=1):
            where = f"tier '{tier_id}', annotation {number}"
            times = [slots.get(each.get(f"TIME_SLOT_REF{end}", "")) for end in (1, 2)]
            tiers[tier_id] = tiers.get(tier_id, 0) + 1
            try:
                start, end = (int(time or "") / 1000 for time in times)
            except ValueError:
                collector.refuse(where, "points at no time of the document", video=video)
                continue
            collector.action(video, start, end, each.findtext("ANNOTATION_VALUE") or "", where)
    if len(tiers) > 1:
        collector.notes.append(f"{counted(len(tiers), 'tier')} together: {listing(tiers)}")
    if dependent:
        collector.notes.append(f"{counted(dependent, 'annotation')} depend on others and have no times of their own")
    return collector.labels()
