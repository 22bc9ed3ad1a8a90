"""What a config names, read: annotations, and the videos that go with them."""

from __future__ import annotations

from pathlib import Path

from ...data.annotations import Annotations, match_ids, read_annotations, read_ids
from ...data.errors import EtadError, counted, listing
from ..config import Config


def block(annotations: Annotations, path: Path) -> Annotations:
    """Leave out the listed videos; ids match with or without `v_`.

    Raises
    ------
    EtadError
        None of the listed ids is annotated.
    """
    listed = read_ids(path)
    matches = match_ids(listed, annotations.videos, where=str(path))
    if listed and not matches:
        raise EtadError(
            f"{path}: none of its {counted(len(listed), 'id')} is a video of {annotations.source} "
            f"({listing(listed, most=3)}). Name another list, or correct the ids."
        )
    return annotations.without(set(matches.values()))


def read_data(config: Config, annotations: Path | None = None) -> Annotations:
    """Read the annotations that a config names, less what it blocks and drops."""
    path = annotations or config.data.annotations
    if path is None:
        raise EtadError("no annotations: name an ActivityNet-form JSON with --annotations, or set data.annotations.")
    read = read_annotations(path)
    if config.data.blocked is not None:
        read = block(read, config.data.blocked)
    return read.without_labels(config.data.dropped_labels)
