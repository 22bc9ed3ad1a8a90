"""A whole `etad detect` on synthetic features of ActivityNet's size: training, inference, evaluation; where time goes.

A part's floor is the least arithmetic of its products at the machine's rate of products. There is no plain
way to compare with; `bench_detector.py` has one for the steps.

Run as `python tests/benchmarks/bench_run.py [--videos 1000] [--epochs 6]`.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_detector import floor_seconds
from bench_features import CHANNELS, SNIPPETS, build
from measure import Row, report

from etad.data.annotations import read_annotations
from etad.data.cache.cache import FeatureCache
from etad.data.precision import choose_training_dtype
from etad.pipeline.config import load_config
from etad.pipeline.run_folder import RunFolder
from etad.pipeline.stages.detect import detect

SETS = ["encoder.name=tsm_r50", "clips.fps=30", "detect.training.keep_negatives=true", "detect.bins=24"]
CLASSES = 20


def annotate(path: Path, ids: list[str], duration: float) -> Path:
    """One to three actions a video; every fifth video is there to test on."""
    rng, database = np.random.default_rng(0), {}
    for number, id in enumerate(ids):
        edges = np.sort(rng.random((rng.integers(1, 4), 2)), axis=1) * duration
        actions = [{"segment": edge.tolist(), "label": f"class {number // 5 % CLASSES}"} for edge in edges]
        subset = "validation" if number % 5 == 4 else "training"
        database[id] = {"subset": subset, "duration": duration, "annotations": actions}
    path.write_text(json.dumps({"database": database}))
    return path


def class_scores(path: Path, ids: list[str]) -> Path:
    rng = np.random.default_rng(1)
    results = {id: rng.dirichlet(np.ones(CLASSES)).tolist() for id in ids}
    path.write_text(json.dumps({"class": [f"class {number}" for number in range(CLASSES)], "results": results}))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1000, help="a fifth of them to test on")
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    sets = [*SETS, f"detect.training.epochs={asked.epochs}", f"detect.training.decay_after={max(asked.epochs - 1, 1)}"]
    config = load_config("activitynet-tsp", [*sets, "clips.layout=spread", f"clips.num_snippets={SNIPPETS}"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder / "features.h5", videos=asked.videos, snippets=SNIPPETS, channels=CHANNELS)
        cache = FeatureCache(folder / "features.h5")
        duration = cache.timing(cache.ids[0]).duration_seconds
        annotations = read_annotations(annotate(folder / "annotations.json", list(cache.ids), duration))
        scores = class_scores(folder / "scores.json", list(cache.ids))
        run = RunFolder(folder / "run")
        how = dict(cache=cache, annotations=annotations, scores=scores, device=torch.device("cpu"))
        begin = time.perf_counter()
        detect(config, run, **how)
        whole = time.perf_counter() - begin
        last = run.detect / "checkpoints" / "last.pt"
        begin = time.perf_counter()
        detect(config, RunFolder(folder / "again"), checkpoint=last, **how)
        rest = time.perf_counter() - begin
        lines = [json.loads(line) for line in (run.detect / "log.jsonl").read_text().splitlines()]
    steps = sum(line["seconds"] for line in lines)
    learned, tested = asked.videos - asked.videos // 5, asked.videos // 5
    batch, drawn = config.detect.training.batch, int(8256 * config.detect.sampling.ratio)
    short = str(choose_training_dtype(config.detect.precision, torch.device("cpu"))).removeprefix("torch.")
    in_steps = asked.epochs * (learned // batch) * floor_seconds(batch, drawn, short, trained=True)
    in_checks = asked.epochs * floor_seconds(tested, drawn, short, trained=False)
    in_rest = floor_seconds(tested, 8256, short, trained=False)

    def share(floor: float, seconds: float) -> dict[str, Any]:
        return {"ceiling": floor / seconds, "ceiling_of": f"{short} products"}

    parts = f"{short}: {asked.epochs} epochs on {learned} videos"
    between = max(whole - steps - rest, 1e-9)
    rows = [
        Row(f"etad detect, {parts}, inference on {tested}", whole, **share(in_steps + in_checks + in_rest, whole)),
        Row("of which training steps", steps, headline=False, **share(in_steps, steps)),
        Row("of which validation losses, checkpoints", between, headline=False, **share(in_checks, between)),
        Row("of which inference, thinning, evaluation", rest, headline=False, **share(in_rest, rest)),
    ]
    report(rows, title="A whole run on features of T = 128, C = 512")


if __name__ == "__main__":
    main()
