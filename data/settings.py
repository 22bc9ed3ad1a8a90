"""Base of every settings model, what a change of a setting undoes, and where a run finds its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, model_validator


class Mark(Enum):
    """What a change of a setting undoes in a run that has made something already.

    A field carries its mark as `Annotated[int, Mark.RUNTIME]`; a group's mark holds for the fields under it that have
    none. Without any, `WEIGHTS` holds: a new setting can never reuse what was made without it, unless its author
    says that it may.
    """

    WEIGHTS = "weights"  # what was trained or extracted: a change is refused
    INFERENCE = "inference"  # detections and what is measured on them: inference is done again
    RUNTIME = "runtime"  # nothing: it says how a run goes, not what it computes


class Settings(BaseModel):
    """Frozen, and strict about names: an unknown key is an error, never ignored.

    `RENAMED` maps names that fields had once to those they have now; configs and checkpoints of old versions hold them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
    RENAMED: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _with_new_names(cls, tree: Any) -> Any:
        return rename_keys(cls, tree) if isinstance(tree, Mapping) else tree


def rename_keys(model: type[Settings], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Give keys of old versions their new names, in the groups below, too; both at once are left, to be refused.

    Examples
    --------
    >>> class Old(Settings):
    ...     RENAMED = {"size": "side"}
    ...     side: int = 1
    >>> rename_keys(Old, {"size": 2})
    {'side': 2}
    """
    renamed: dict[str, Any] = {}
    for old, value in tree.items():
        new = model.RENAMED.get(old, old)
        key = old if new in tree else new
        group = _group(model, key)
        renamed[key] = rename_keys(group, value) if group is not None and isinstance(value, Mapping) else value
    return renamed


def marks(model: type[Settings], mark: Mark = Mark.WEIGHTS, prefix: str = "") -> Iterator[tuple[str, Mark]]:
    """Yield the dotted name and the mark of every setting of a model and of the groups in it.

    Parameters
    ----------
    mark
        Of what carries none.

    Examples
    --------
    >>> dict(marks(DataSettings))["train_subset"]
    <Mark.WEIGHTS: 'weights'>
    """
    for name, field in model.model_fields.items():
        own = next((each for each in field.metadata if isinstance(each, Mark)), mark)
        group = _group(model, name)
        if group is None:
            yield f"{prefix}{name}", own
        else:
            yield from marks(group, own, f"{prefix}{name}.")


def _group(model: type[Settings], name: str) -> type[Settings] | None:
    field = model.model_fields.get(name)
    kind = None if field is None else field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


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
    validation_subset
        The best checkpoint is the one with the least loss on these videos, which are neither trained nor tested on;
        none: the one with the least training loss.
    blocked
        Ids to leave out of everything, one a line.
    dropped_labels
        Labels whose actions are dropped (THUMOS-14's "Ambiguous").
    duplicates
        Evaluate against actions that are annotated twice (one label, both ends within 1 ms) as official evaluations do,
        which count each (`kept`), or as ActionFormer and OpenTAD do, which count one (`dropped`).
    """

    # What the files hold counts, not where they lie: digests of windows and features cover it.
    annotations: Annotated[Path | None, Mark.RUNTIME] = None
    videos: Annotated[Path | None, Mark.RUNTIME] = None
    train_subset: str = "training"
    test_subset: Annotated[str, Mark.INFERENCE] = "validation"
    validation_subset: str | None = None
    blocked: Annotated[Path | None, Mark.RUNTIME] = None
    dropped_labels: tuple[str, ...] = ()
    duplicates: Annotated[Literal["kept", "dropped"], Mark.INFERENCE] = "kept"
