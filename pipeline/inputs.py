"""What a config names, read: annotations, and the videos that go with them."""

from __future__ import annotations

from pathlib import Path

from ..data.annotations import Annotations, read_annotations, read_ids
from ..data.errors import EtadError
from .config import Config


def read_data(config: Config, annotations: Path | None = None) -> Annotations:
    """Read the annotations that a config names, less what it blocks and drops."""
    path = annotations or config.data.annotations
    if path is None:
        raise EtadError("no annotations: name an ActivityNet-form JSON with --annotations, or set data.annotations.")
    read = read_annotations(path)
    if config.data.blocked is not None:
        read = read.without(set(read_ids(config.data.blocked)))
    return read.without_labels(config.data.dropped_labels)
