"""A cache and annotations small enough to train on in a second."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from etad.data.cache.cache import FeatureMeta, pack, write_part
from etad.data.timeline import Timing

LABELS = ("jump", "run", "turn")
SNIPPETS, CHANNELS = 16, 16

# What makes `etad detect` fit the miniature.
SETS = [
    "encoder.name=tsm_tiny",
    "clips.clip_frames=8",
    f"clips.num_snippets={SNIPPETS}",
    f"detect.num_snippets={SNIPPETS}",
    f"detect.max_duration={SNIPPETS}",
    "detect.bins=8",
    "detect.num_stages=2",
    "detect.enhancement=conv",
    "detect.sampling.ratio=0.3",
    "detect.training.batch=4",
    "detect.training.epochs=2",
    "detect.training.decay_after=1",
    "detect.labels.source=branch",
]


def meta(duration: float, *, num_snippets: int = SNIPPETS, **changes: object) -> FeatureMeta:
    timing = Timing(
        duration_seconds=duration,
        fps=10.0,
        num_frames=round(duration * 10),
        clip_frames=8,
        frame_step=1,
        first_center_seconds=0.4,
        center_step_seconds=(duration - 0.8) / (num_snippets - 1),
    )
    fields: dict[str, object] = {
        "timing": timing,
        "encoder": "tsm_tiny",
        "weights_sha256": "0" * 64,
        "transform": {},
        "source_name": "video.mp4",
        "source_bytes": 1,
        "source_sha256": "0" * 64,
        "compute_dtype": "float32",
    }
    return FeatureMeta(**{**fields, **changes})  # type: ignore[arg-type]


def make(folder: Path, *, num_videos: int = 12, seed: int = 0, **changes: object) -> tuple[Path, Path]:
    """Write a packed cache and its annotations; every fifth video has no action; `changes` as for `meta`.

    Returns
    -------
    cache, annotations
    """
    random = np.random.default_rng(seed)
    looks = random.normal(size=(len(LABELS), CHANNELS))
    cache, database = folder / "features.h5", {}
    for number in range(num_videos):
        duration = float(random.uniform(20, 40))
        features = random.normal(size=(SNIPPETS, CHANNELS)).astype(np.float32)
        annotations = []
        if number % 5 != 4:
            start = random.uniform(0, 0.6) * duration
            end = start + random.uniform(0.2, 0.4) * duration
            seconds = (np.arange(SNIPPETS) + 0.5) / SNIPPETS * duration
            features[(seconds >= start) & (seconds < end)] += 2 * looks[number % 3]
            annotations.append({"segment": [start, end], "label": LABELS[number % 3]})
        write_part(cache, f"v{number:02d}", features, meta(duration, **changes), "float16")
        subset = "training" if number < num_videos * 2 // 3 else "validation"
        database[f"v{number:02d}"] = {"subset": subset, "duration": duration, "annotations": annotations}
    pack(cache)
    path = folder / "annotations.json"
    path.write_text(json.dumps({"database": database}))
    return cache, path


def set_options(*more: str) -> list[str]:
    """Options that make `etad detect` fit the miniature."""
    return [word for value in [*SETS, *more] for word in ("--set", value)]


# The demo in a few seconds: what it finds is of no interest here, that it goes the whole way is.
SMALL_DEMO = [
    "demo.videos=8",
    "demo.shortest_seconds=8",
    "demo.longest_seconds=10",
    "demo.size=32",
    "pretrain.steps=2",
    "pretrain.held_out_clips=8",
    "clips.num_snippets=12",
    "detect.num_snippets=12",
    "detect.max_duration=12",
    "detect.sampling.ratio=0.3",
    "detect.training.batch=2",
    "detect.training.epochs=1",
    "detect.training.decay_after=1",
    "e2e.batch=2",
    "e2e.epochs=1",
    "e2e.decay_after=1",
    "e2e.cache_frozen=0",
]


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail with one sentence, and return that."""
    from etad.pipeline.cli import main as cli

    assert cli.run(arguments) == 2
    said = capsys.readouterr().err.splitlines()
    lines = [line for line in said if line.strip() and "/s" not in line.split("]")[0]]  # less the progress bars
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    return lines[0]
