"""Base of every settings model, and where a run finds its data."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, and strict about names: an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataSettings(Settings):
    """Which videos, which annotations, which part of them is for what.

    Parameters
    ----------
    annotations
        ActivityNet JSON.
    videos
        Folder of video files; their stems are the ids.
    train_subset, test_subset
        Subset names; `train` and `training`, `test` and `testing`, `val` and `validation` mean the same.
    blocked
        Ids to leave out of everything, one a line.
    dropped_labels
        Labels whose actions are dropped (THUMOS-14's "Ambiguous").
    """

    annotations: Path | None = None
    videos: Path | None = None
    train_subset: str = "training"
    test_subset: str = "validation"
    blocked: Path | None = None
    dropped_labels: tuple[str, ...] = ()
