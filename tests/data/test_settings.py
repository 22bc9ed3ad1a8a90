"""Marks of settings, and names that they had once."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, get_args

import pytest
from pydantic import ValidationError

from etad.data.settings import Mark, Settings, marks, rename_keys
from etad.pipeline.config import Config


class Inner(Settings):
    RENAMED: ClassVar = {"most": "limit"}
    limit: int = 1
    speed: Annotated[int, Mark.RUNTIME] = 1


class Outer(Settings):
    RENAMED: ClassVar = {"old": "inner"}
    size: int = 1
    inner: Annotated[Inner, Mark.INFERENCE] = Inner()


def test_a_setting_without_a_mark_counts_as_one_that_shapes_weights() -> None:
    assert dict(marks(Outer)) == {
        "size": Mark.WEIGHTS,
        "inner.limit": Mark.INFERENCE,  # of its group
        "inner.speed": Mark.RUNTIME,  # its own
    }


def test_old_names_are_taken_at_every_depth_and_both_at_once_are_refused() -> None:
    assert rename_keys(Outer, {"old": {"most": 3}}) == {"inner": {"limit": 3}}
    assert Outer.model_validate({"inner": {"most": 3}}).inner.limit == 3
    with pytest.raises(ValidationError, match="most"):
        Outer.model_validate({"inner": {"most": 3, "limit": 4}})


def test_every_setting_that_may_be_none_is_none_by_default_and_no_old_name_is_in_use_again() -> None:
    """TOML holds no none: a key that is absent means the default, which must be the same then."""

    def models(model: type[Settings]) -> Iterator[type[Settings]]:
        yield model
        for field in model.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
                yield from models(field.annotation)

    for model in models(Config):
        for name, field in model.model_fields.items():
            if type(None) in get_args(field.annotation):
                assert field.default is None, f"{model.__name__}.{name}"
        assert not model.RENAMED.keys() & model.model_fields.keys()
        assert set(model.RENAMED.values()) <= model.model_fields.keys()
