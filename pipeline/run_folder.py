"""Where the files of a run lie, and that a run keeps to one config."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ..data.cache.parts import parts_folder
from ..data.errors import EtadError, shown
from ..data.files.atomic import remove_if_empty, remove_leftovers, write_text
from ..data.files.lock import holding
from ..data.files.toml_file import read_toml
from ..data.ranks import current_ranks
from ..data.settings import Mark, Settings, marks, rename_keys
from ..detect.run_state import TrainingFiles
from .config import Config, differences, load_config, read_tree

# Groups of settings that each stage's results depend on. Within them, the marks of the settings models decide.
_GROUPS = {
    "pretrain": ("seed", "pretrain", "encoder", "clips"),
    "extract": ("encoder", "clips", "extract"),
    "detect": ("seed", "release", "data", "detect"),
    "e2e": ("seed", "release", "data", "encoder", "clips", "detect", "e2e"),
}
# Settings in those groups that are another stage's.
_OTHERS = {
    "pretrain": ("encoder.frozen_stages", "clips.layout", "clips.num_snippets", "clips.stride_frames", "clips.still"),
    # Which adapters there are, the weights tell, by their digest; fresh ones add nothing.
    "extract": ("encoder.frozen_stages", "encoder.adapter"),
    "detect": (),
    "e2e": tuple(
        f"detect.training.{name}"
        for name in (
            *("batch", "optimizer", "lr", "weight_decay", "decay", "decay_after", "warmup_epochs", "clip_norm", "ema"),
        )
    ),
}
# Stages that train have their inference done again where it may change; a feature is made once.
_INFERS = ("detect", "e2e")
# What the first format of a stage's file did not note, though it was there to be chosen.
_FORMAT = 2
_NOT_NOTED_AT_FIRST = {
    "pretrain": ("encoder.init", "encoder.precision", "clips."),
    "extract": ("encoder.precision",),
    "detect": ("detect.in_channels",),
    "e2e": ("detect.in_channels", "encoder.precision"),
}

# Settings of one call: another machine has others.
_OF_THE_CALL = ("device", "workers")
# Binding takes milliseconds, for each of many shards that start at once.
_MOST_BINDING_SECONDS = 60.0


@dataclass(frozen=True)
class StageFolder(TrainingFiles):
    """Where the files of a stage that trains, infers and measures lie."""

    @property
    def raw(self) -> Path:
        """Raw predictions."""
        return self.folder / "raw.h5"

    @property
    def classifier(self) -> Path:
        return self.folder / "classifier.pt"

    @property
    def classifier_digest(self) -> Path:
        """What the classifier was trained on."""
        return self.folder / "classifier.digest"

    @property
    def detections(self) -> Path:
        return self.folder / "detections.json"

    @property
    def thresholds(self) -> Path:
        """From which score on detections are reported."""
        return self.folder / "thresholds.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def inference(self) -> Path:
        """What the detections of end-to-end training were made from."""
        return self.folder / "inference.json"

    @property
    def encoder(self) -> Path:
        """The tuned encoder, as weights that extraction takes."""
        return self.folder / "encoder.pt"

    @property
    def frozen(self) -> Path:
        """Outputs of the encoder's frozen stages."""
        return self.folder / "frozen"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def settings(self) -> Path:
        """What is asked for, with its reasons: written by `etad init`, changed by whoever owns the run."""
        return self.path / "settings.toml"

    @property
    def annotations(self) -> Path:
        """Annotations that `etad init` wrote."""
        return self.path / "annotations.json"

    @property
    def manifest(self) -> Path:
        """What each stage was done with."""
        return self.path / "manifest.json"

    @property
    def cache(self) -> Path:
        return self.path / "features.h5"

    @property
    def weights(self) -> Path:
        """Where the encoder weights lie that the run has used, by their digests."""
        return self.path / "weights.json"

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
    def predict(self) -> Path:
        """Detections of videos beside the data set's."""
        return self.path / "predict"

    @property
    def plots(self) -> Path:
        return self.path / "plots"

    def curves(self, stage: str) -> Path:
        """Picture of a stage's losses."""
        return self.plots / ("curves.png" if stage == "detect" else f"{stage}_curves.png")

    def qualitative(self, stage: str) -> Path:
        """Picture of a stage's detections beside the ground truth."""
        return self.plots / ("qualitative.png" if stage == "detect" else f"{stage}_qualitative.png")

    def review_page(self, stage: str) -> Path:
        """Page that plays videos beside a stage's detections, where these are corrected."""
        return self.plots / ("review.html" if stage == "detect" else f"{stage}_review.html")

    def files(self, stage: str) -> StageFolder:
        """The files of `detect` or `e2e`."""
        return StageFolder(self.path / stage)

    @contextlib.contextmanager
    def bind(self, stage: str, config: Config) -> Iterator[dict[str, Any]]:
        """Bind the run to a stage's config, and keep others from that stage through the block.

        A config that contradicts what the stage has made already is refused. A stage that was refused or stopped
        before it made anything binds nobody. Any number of shards extract side by side: that stage enters the block
        to bind alone, and waits for its turn. Yields the settings that the run is bound to, as they were noted when it
        was: those that later versions add do not change their digest. The run's `config.toml` is as before: what the
        stage has made may contradict yet what else it was called with, and `remember` is for when it does not.

        Raises
        ------
        EtadError
            A setting that the stage's results depend on has another value than when they were made, or another process
            runs the stage in this folder.
        """
        ranks = current_ranks()
        with self.hold(stage, wait_seconds=_MOST_BINDING_SECONDS if stage == "extract" else 0.0):
            bound = self._bound(stage, config) if ranks.is_first else None
            yield ranks.broadcast(bound)

    def require_same(self, stage: str, config: Config) -> None:
        """Refuse a config that contradicts what a stage has made already; nothing is written.

        Raises
        ------
        EtadError
            A setting that the stage's results depend on has another value than when they were made.
        """
        noted = self.path / f".{stage}.toml"
        if not (noted.exists() and self._has_made(stage)):
            return
        changed = _changes(stage, _read(noted), config)
        if changed:
            raise EtadError(
                f"{self.path}: this run's `{stage}` was made with another config: {changed[0]}. "
                "Choose another run folder with -o, or set the key back."
            )

    @contextlib.contextmanager
    def hold(self, stage: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
        """Keep others from a stage through the block; of processes that work together, the first one does.

        Raises
        ------
        EtadError
            Another process runs the stage in this folder.
        """
        if not current_ranks().is_first:
            yield
            return
        self._make()
        with holding(self.path / f".{stage}.lock", f"running `{stage}`", wait_seconds=wait_seconds):
            self._tidy(stage)
            yield

    def _tidy(self, stage: str) -> None:
        """Remove what a run that was killed had begun to write."""
        folders = [self.path, self.path / stage, self.path / stage / "checkpoints", self.plots]
        folders += [parts_folder(self.cache)] if stage == "extract" else []
        for folder in folders:
            with contextlib.suppress(OSError):  # read-only: writing complains
                remove_leftovers(folder)
        if stage == "extract":
            remove_if_empty(parts_folder(self.cache))

    def _bound(self, stage: str, config: Config) -> dict[str, Any]:
        noted = self.path / f".{stage}.toml"
        if noted.exists() and self._has_made(stage):
            self.require_same(stage, config)
            bound = _read(noted)
        else:
            values = _flat(config.to_tree())
            bound = {"format": _FORMAT} | _nested({key: values[key] for key in _binding(stage) if key in values})
            write_text(noted, tomli_w.dumps(bound))
            bound = _read(noted)
        return {key: value for key, value in bound.items() if key != "format"}

    def known_config(self) -> dict[str, Any] | None:
        """Nested keys of the config that the run knows; None where it knows none.

        That is what its stages were done with, and whatever was changed in `settings.toml` since the last of them. On
        which device, and with how many workers, is of each call, unless the settings say so.

        Raises
        ------
        EtadError
            A file of the two cannot be read.
        """
        done = None
        if self.config.exists():
            tree = read_tree(str(self.config))
            if not tree:
                raise EtadError(f"{self.config}: is empty, and held what this run is. Put it back from a copy.")
            for name, found in tree.items():
                kind = Config.model_fields[name].annotation if name in Config.model_fields else None
                if isinstance(kind, type) and issubclass(kind, Settings) and not isinstance(found, Mapping):
                    raise EtadError(
                        f"{self.config}: {name}={shown(found)}: expected a group of keys. Put it back from a copy."
                    )
            done = _flat(tree)
        if done is not None:
            done = {key: value for key, value in done.items() if key not in _OF_THE_CALL}
        if not self.settings.exists():
            return None if done is None else _nested(done)
        asked = read_tree(str(self.settings))
        if done is None:
            return asked
        before = _flat(_read(self._settings_noted)) if self._settings_noted.exists() else {}
        now = _flat(asked)
        done |= {key: value for key, value in now.items() if key in _OF_THE_CALL or before.get(key) != value}
        return _nested({key: value for key, value in done.items() if key in now or key not in before})

    def remember(self, config: Config, stage: str) -> None:
        """Write the run's config, once a stage goes on with it; of processes that work together, the first one does.

        What only other stages depend on stays as they were done, and what they were told of the data and this one was
        not.
        """
        if not current_ranks().is_first:
            return
        self._make()
        tree = config.to_tree()
        if self.config.exists():
            before = _read(self.config)
            told = before.get("data", {})
            if not isinstance(told, dict):
                raise EtadError(f"{self.config}: data={told!r}: expected a group of keys. Put it back from a copy.")
            tree["data"] = told | tree.get("data", {})
            for other, groups in _GROUPS.items():
                if (self.path / f".{other}.toml").exists() and self._has_made(other):
                    tree |= {name: before[name] for name in groups if name not in _GROUPS[stage] and name in before}
        write_text(self.config, tomli_w.dumps(tree))
        if self.settings.exists():
            write_text(self._settings_noted, tomli_w.dumps(read_tree(str(self.settings))))

    @property
    def _settings_noted(self) -> Path:
        """What `settings.toml` held when a stage last took it."""
        return self.path / ".settings.toml"

    def _has_made(self, stage: str) -> bool:
        places = (self.cache, parts_folder(self.cache)) if stage == "extract" else (self.path / stage,)
        return any(place.exists() for place in places)

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EtadError(f"{self.path}: cannot be a run folder ({error.strerror}). Name another with -o.") from error


def _changes(stage: str, bound: Mapping[str, Any], config: Config) -> list[str]:
    """Name settings that have another value than the run is bound to; one that was not noted had its default."""
    before, now = _flat(rename_keys(Config, bound)), _flat(config.to_tree())
    defaults = _flat(load_config(release=bool(before.get("release", False))).to_tree())
    first_format = "format" not in bound
    then, since = {}, {}
    for key in _binding(stage):
        if first_format and key not in before and key.startswith(_NOT_NOTED_AT_FIRST[stage]):
            continue
        then[key], since[key] = before.get(key, defaults.get(key)), now.get(key)
    return differences(then, since)


def _binding(stage: str) -> list[str]:
    """Settings, by dotted name, that what the stage has made depends on."""
    counted = {Mark.WEIGHTS} if stage in _INFERS else {Mark.WEIGHTS, Mark.INFERENCE}
    return [
        key
        for key, mark in marks(Config)
        if mark in counted and key.split(".")[0] in _GROUPS[stage] and key not in _OTHERS[stage]
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        node = tree
        for name in path:
            node = node.setdefault(name, {})
        node[last] = value
    return tree


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path, what="a run's settings")
    except EtadError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise EtadError(
            f"{path}: cannot read what this run was made with: {reason} Put the file back from a copy, or choose "
            "another run folder with -o."
        ) from error
