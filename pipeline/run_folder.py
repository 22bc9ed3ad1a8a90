"""Where the files of a run lie, and that a run keeps to one config."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ..data.cache.cache import parts_folder
from ..data.errors import EtadError
from ..data.files.atomic import write_text
from ..data.files.lock import holding
from .config import Config, differences

# What a detector's weights depend on, whether its features are cached or encoded on the way.
_DETECTOR = (
    "seed",
    "release",
    "data.train_subset",
    "data.dropped_labels",
    "detect.preset",
    "detect.enhancement",
    "detect.num_stages",
    "detect.num_snippets",
    "detect.max_duration",
    "detect.bins",
    "detect.windows",
    "detect.window_stride",
    "detect.precision",
    "detect.sampling.strategy",
    "detect.sampling.ratio",
    "detect.labels.source",
)
# What each stage's results depend on, as keys of the config; a key may name a whole group.
_DEPENDS = {
    "pretrain": ("seed", "pretrain", "encoder.name", "clips.clip_frames"),
    "extract": ("clips", "encoder.name", "encoder.init", "extract.store_dtype"),
    "detect": (*_DETECTOR, "detect.training"),
    "e2e": (
        *_DETECTOR,
        "clips",
        "encoder.name",
        "encoder.init",
        "encoder.frozen_stages",
        "detect.training.keep_negatives",
        "e2e",
    ),
}
# Keys inside those groups that say how a run goes, not what it computes.
_FREE = (
    "detect.training.checkpoint_seconds",
    "detect.training.memory_gib",
    "pretrain.checkpoint_seconds",
    "e2e.checkpoint_seconds",
    "e2e.failing_share",
    "e2e.memory_budget_gib",
    "e2e.micro_batch",
    "e2e.keep",
)

# Binding takes milliseconds, for each of many shards that start at once.
_MOST_BINDING_SECONDS = 60.0


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def cache(self) -> Path:
        return self.path / "features.h5"

    @property
    def pretrain(self) -> Path:
        return self.path / "pretrain"

    @property
    def encoder(self) -> Path:
        """The run's own pretrained encoder."""
        return self.pretrain / "encoder.pt"

    @property
    def detect(self) -> Path:
        return self.path / "detect"

    @property
    def e2e(self) -> Path:
        return self.path / "e2e"

    @property
    def plots(self) -> Path:
        return self.path / "plots"

    @contextlib.contextmanager
    def bind(self, stage: str, config: Config) -> Iterator[None]:
        """Bind the run to a stage's config, and keep others from that stage through the block.

        A config that contradicts what the stage has made already is refused. A stage that was refused or stopped
        before it made anything binds nobody. Any number of shards extract side by side: that stage enters the block
        to bind alone, and waits for its turn.

        Raises
        ------
        EtadError
            A key that the stage's results depend on has another value than when they were made, or another process
            runs the stage in this folder.
        """
        self._make()
        wait_seconds = _MOST_BINDING_SECONDS if stage == "extract" else 0.0
        with holding(self.path / f".{stage}.lock", f"running `{stage}`", wait_seconds=wait_seconds):
            made_with = self.path / f".{stage}.toml"
            now = _part(config, _DEPENDS[stage])
            if made_with.exists() and self._has_made(stage):
                before = tomllib.loads(made_with.read_text(encoding="utf-8"))
                changed = differences(before, now)
                if changed:
                    raise EtadError(
                        f"{self.path}: this run's `{stage}` was made with another config: {changed[0]}. "
                        "Choose another run folder with -o, or set the key back."
                    )
            else:
                write_text(made_with, tomli_w.dumps(now))
            self.save_config(config)
            yield

    def save_config(self, config: Config) -> None:
        """Write the run's config; what an earlier stage was told of the data and this one was not, stays."""
        self._make()
        tree = tomllib.loads(config.to_toml())
        if self.config.exists():
            before = tomllib.loads(self.config.read_text(encoding="utf-8"))
            tree["data"] = before.get("data", {}) | tree.get("data", {})
        write_text(self.config, tomli_w.dumps(tree))

    def _has_made(self, stage: str) -> bool:
        places = (self.cache, parts_folder(self.cache)) if stage == "extract" else (self.path / stage,)
        return any(place.exists() for place in places)

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EtadError(f"{self.path}: cannot be a run folder ({error.strerror}). Name another with -o.") from error


def stage_part(stage: str, config: Config) -> dict[str, Any]:
    """The keys of a config that a stage's results depend on."""
    return _part(config, _DEPENDS[stage])


def _part(config: Config, keys: Iterable[str]) -> dict[str, Any]:
    whole: dict[str, Any] = tomllib.loads(config.to_toml())
    for key in _FREE:
        *path, last = key.split(".")
        _descend(whole, path).pop(last, None)
    found: dict[str, Any] = {}
    for key in keys:
        *path, last = key.split(".")
        node = _descend(whole, path)
        if last in node:
            target = found
            for name in path:
                target = target.setdefault(name, {})
            target[last] = node[last]
    return found


def _descend(tree: Mapping[str, Any], path: Iterable[str]) -> dict[str, Any]:
    node: Any = tree
    for name in path:
        node = node.get(name, {})
    return node
