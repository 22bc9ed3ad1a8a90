"""Each data set's Make target, and each end-to-end preset, runs whole on a miniature of the data set's true layout."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from miniature import meta

from etad.data.cache.cache import pack, write_part
from etad.data.checkpoint import save_checkpoint
from etad.data.class_scores import UCF101_LABELS, write_class_scores
from etad.data.synthetic.dataset import SyntheticSpec, make_dataset
from etad.extract.encoders.encoder import build_encoder
from etad.extract.weights.load import encoder_checkpoint
from etad.pipeline.cli.main import run
from etad.pipeline.config import load_config

# What a miniature changes: how much and how large, never what a data set's own config is about.
SMALL = [
    "clips.clip_frames=4",
    "clips.resize=32",
    "clips.fps=10",
    "clips.crop=32",
    "detect.num_snippets=8",
    "detect.max_duration=8",
    "detect.bins=4",
    "detect.num_stages=1",
    "detect.sampling.ratio=0.3",
    "detect.training.batch=2",
    "detect.training.epochs=1",
    "e2e.batch=2",
    "e2e.epochs=1",
]
RESCALED = [*SMALL, "clips.num_snippets=8"]
SLIDING = [*SMALL, "detect.window_stride=8", "clips.stride_frames=10"]
TARGETS = {"activitynet": RESCALED, "thumos14": SLIDING, "hacs": [*RESCALED, "clips.clip_frames=8"]}
# Encoders of tens of millions of weights write as many moments with each checkpoint; one stage of them is trained.
FROZEN = ["encoder.frozen_stages=3"]
END_TO_END = {
    "activitynet-e2e-tsm": [*RESCALED, *FROZEN],
    "activitynet-e2e-tsp": [*RESCALED, *FROZEN],
    "thumos14-e2e-tsm": [*SLIDING, *FROZEN],
    "thumos14-e2e-slowonly": [*SLIDING, *FROZEN],
    # Of adapters, checkpoints are small whatever stands beside them.
    "activitynet-e2e-videomae-b": RESCALED,
    "thumos14-e2e-videomae-s": SLIDING,
    "thumos14-e2e-videomae-b": SLIDING,
}
# Labels of the miniature's actions in THUMOS-14, whose scores are columns of UCF101's classes.
THUMOS14_LABELS = {"sway": "Diving", "bounce": "CleanAndJerk", "circle": "HammerThrow"}


def lay_out(folder: Path, preset: str) -> None:
    """Videos, annotations, scores and weights as the preset's data set has them."""
    folder.mkdir(parents=True)
    config = load_config(preset)
    made = make_dataset(folder, SyntheticSpec(num_videos=4, shortest_seconds=7, longest_seconds=8, size=32, seed=3))
    drawn = json.loads(made.read_text())["database"]
    made.unlink(missing_ok=True)
    is_thumos = preset.startswith("thumos14")
    subsets = {"training": config.data.train_subset, "validation": config.data.test_subset}
    database: dict[str, Any] = {}
    for number, (video_id, entry) in enumerate(drawn.items(), start=1):
        entry["subset"] = subsets[entry["subset"]]
        name = f"v_{video_id}"
        if is_thumos:
            # Neither durations nor numbers: the public file has segments as text.
            name = f"video_{'validation' if entry['subset'] == 'training' else 'test'}_{number:07d}"
            entry = {
                "subset": entry["subset"],
                "annotations": [
                    {"segment": [str(s) for s in each["segment"]], "label": THUMOS14_LABELS[each["label"]]}
                    for each in entry["annotations"]
                ],
            }
        (folder / "videos" / f"{video_id}.mp4").rename(folder / "videos" / f"{name}.mp4")
        database[name.removeprefix("v_")] = entry
    (folder / "annotations.json").write_text(json.dumps({"version": preset, "taxonomy": [], "database": database}))
    random = np.random.default_rng(0)
    if is_thumos:
        np.save(folder / "video_scores.npy", random.random((1574, len(UCF101_LABELS))))
    else:
        labels = sorted({each["label"] for entry in database.values() for each in entry["annotations"]})
        write_class_scores(folder / "video_scores.json", labels, {id: random.random(len(labels)) for id in database})
    if preset == "hacs-slowfast":
        for video_id, entry in database.items():
            features = random.normal(size=(8, 2304)).astype(np.float32)
            stated = meta(entry["duration"], num_snippets=8, encoder=config.encoder.name)
            write_part(folder / "features.h5", video_id, features, stated, "float16")
        pack(folder / "features.h5")
        return
    torch.manual_seed(0)
    encoder = build_encoder(config.encoder.name, clip_frames=4)
    weights = {"format": "etad-encoder", **encoder_checkpoint(encoder, name=config.encoder.name)}
    save_checkpoint(folder / "weights.pt", weights)


def commands(target: str, **places: Path) -> list[list[str]]:
    """What `make TARGET` would call, without the program's name."""
    said = subprocess.run(
        ["make", "-n", target, *(f"{name}={place}" for name, place in places.items())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.replace("\\\n", " ")
    lines = [shlex.split(line) for line in said.splitlines()]
    return [words[1:] for words in lines if words and words[0].endswith("/etad")]


def with_sets(sets: list[str], words: list[str]) -> list[str]:
    return [*(word for value in sets for word in ("--set", value)), *words]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_data_sets_make_target_runs_whole(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = {"activitynet": "activitynet-tsp", "hacs": "hacs-slowfast"}.get(target, target)
    lay_out(tmp_path / "set", preset)
    places = {target.upper(): tmp_path / "set", "RUNS": tmp_path / "runs"}
    found = commands(target, **places)
    assert found
    for words in found:
        status = run(with_sets(TARGETS[target], words))
        captured = capsys.readouterr()
        assert status == 0, captured.out + captured.err
    metrics = json.loads((tmp_path / "runs" / target / "detect" / "metrics.json").read_text())
    assert metrics["videos"]["found"] == metrics["videos"]["asked"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("preset", END_TO_END)
def test_an_end_to_end_preset_runs_whole(preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "set"
    lay_out(place, preset)
    scores = place / ("video_scores.npy" if preset.startswith("thumos14") else "video_scores.json")
    words = ["e2e", "-c", preset, "-o", str(tmp_path / "run"), "--videos", str(place / "videos")]
    words += ["--annotations", str(place / "annotations.json"), "--weights", str(place / "weights.pt")]
    status = run(with_sets(END_TO_END[preset], [*words, "--scores", str(scores)]))
    captured = capsys.readouterr()
    assert status == 0, captured.out + captured.err
    assert (tmp_path / "run" / "e2e" / "encoder.pt").exists()
