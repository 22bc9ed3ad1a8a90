"""What each of several processes runs in the tests of distribution: a few steps, then what they came to.

Called by torchrun: `rank_worker.py JOB FOLDER SETS ...`, where each of SETS is `KEY=VALUE KEY=VALUE`, a run of its own;
the first process writes what each came to into `FOLDER/0.pt`, `FOLDER/1.pt`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import miniature
import torch
from miniature_e2e import SETS as E2E_SETS
from miniature_e2e import paths

from etad.data.annotations import read_annotations
from etad.data.cache.cache import FeatureCache
from etad.data.ranks import Ranks, current_ranks
from etad.detect.loading import Batches
from etad.detect.model.build import build_detector
from etad.detect.objective import BatchLoss, Objective, build_objective, mean_loss
from etad.detect.run_state import step_generator
from etad.detect.windows import make_windows
from etad.pipeline.config import load_config
from etad.pipeline.e2e.setup import E2eSetup
from etad.pipeline.run_folder import RunFolder
from etad.pipeline.stages.extract import find_sources, load_encoder
from etad.pipeline.stages.result import StageNotes

CPU = torch.device("cpu")


def in_float64(objective: BatchLoss) -> BatchLoss:
    """ETAD's proposals in the dtype of its detector; baselines take care of theirs."""
    if isinstance(objective, Objective):
        objective.draw.all = objective.draw.all.double()
    return objective


def cached(folder: Path, sets: list[str], ranks: Ranks) -> dict[str, torch.Tensor]:
    """Gradients of one batch of cached features in float64, its loss, and the loss of validation."""
    batch = int(next((each.split("=")[1] for each in sets if each.startswith("batch=")), 5))
    settings = load_config(None, [*miniature.SETS, *(each for each in sets if not each.startswith("batch="))]).detect
    cache = FeatureCache(folder / "features.h5")
    annotations = read_annotations(folder / "annotations.json")
    windows, _ = make_windows(
        annotations.subset("training"), cache, settings=settings, classes=miniature.LABELS, training=True
    )
    detector = build_detector(settings, in_channels=cache.channels, num_classes=len(miniature.LABELS), seed=1).double()
    objective = in_float64(build_objective(settings, ranks))
    batches = Batches(windows, cache, settings=settings, workers=0, memory_gib=1.0)
    numbers = list(range(batch))
    ((features, mask),) = batches.of([ranks.share(numbers)])
    detector.train()
    parts = objective(
        detector,
        [windows[number] for number in numbers],
        None if features is None else features.double(),
        mask,
        generator=step_generator(3, 1, 0),  # type: ignore[arg-type]
        training=True,
    )
    if parts["loss"].requires_grad:
        parts["loss"].backward()
    ranks.sum_gradients(detector.parameters())
    found = {name: each.grad.clone() for name, each in detector.named_parameters() if each.grad is not None}
    found |= {f"part {name}": value.detach() for name, value in parts.items()}
    of_all = mean_loss(
        build_objective(settings, ranks),
        detector.float(),
        windows,
        batches.of,
        batch=3,
        device=CPU,
        generator_of=lambda number: step_generator(4, 2, number),  # type: ignore[arg-type]
    )
    return found | {"validation": torch.tensor(of_all)}


def end_to_end(folder: Path, sets: list[str], ranks: Ranks) -> dict[str, torch.Tensor]:
    """Gradients of one end-to-end step in float64, of encoder and detector."""
    annotations_path = folder / "annotations.json"
    config = load_config(None, [*E2E_SETS, *paths(annotations_path), "e2e.batch=3", *sets])
    run, annotations = RunFolder(folder / "run"), read_annotations(annotations_path)
    encoder, sha256, _ = load_encoder(config, run, None)
    encoder.freeze(config.encoder.frozen_stages)
    sources = find_sources(config, annotations, None)
    setup = E2eSetup(config, run, sources, annotations, CPU, StageNotes(run.e2e), config.to_tree(), ranks)
    trainer = setup.trainer(encoder, sha256, None)
    trainer.encoder.double()
    trainer.detector.double()
    in_float64(trainer.objective)
    before = {name: each.detach().clone() for name, each in trainer.encoder.named_parameters()}
    numbers = list(range(config.e2e.batch))
    frames = next(iter(trainer.clips.of([ranks.share(numbers)], 0)))
    trainer.optimizer = torch.optim.SGD([{"params": group["params"]} for group in trainer.optimizer.param_groups], 0.0)
    trainer.rates = dict.fromkeys(trainer.rates, 0.0)
    loss = trainer.step((numbers, frames))
    found = {f"encoder {name}": each.grad for name, each in trainer.encoder.named_parameters() if each.grad is not None}
    found |= {f"detector {n}": each.grad for n, each in trainer.detector.named_parameters() if each.grad is not None}
    assert all(torch.equal(before[name], each) for name, each in trainer.encoder.named_parameters())
    return found | {"loss": torch.tensor(loss, dtype=torch.float64)}


JOBS = {"cached": cached, "e2e": end_to_end}


def main() -> None:
    torch.set_num_threads(1)
    job, folder, *runs = sys.argv[1:]
    ranks = current_ranks()
    for number, sets in enumerate(runs):
        found = JOBS[job](Path(folder), sets.split(), ranks)
        if ranks.is_first:
            torch.save(found, Path(folder) / f"{number}.pt")
    ranks.wait()


if __name__ == "__main__":
    main()
