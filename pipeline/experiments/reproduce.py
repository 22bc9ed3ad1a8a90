"""`etad reproduce table6`: what end-to-end training gains over a frozen encoder, at several sampling ratios."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...data.cache.cache import FeatureCache
from ...data.errors import EtadError
from ...data.files.atomic import open_to_append, write_json
from ...data.progress import progress_bar
from ..config import Config, override
from ..device import choose_device
from ..e2e.stage import run_e2e
from ..run_folder import RunFolder
from ..stages.detect import detect
from ..stages.extract import extract, find_sources
from ..stages.inputs import read_data
from ..stages.pretrain import pretrain
from ..stages.result import StageResult
from .synthetic_set import ensure_synthetic_set
from .table6 import ARMS, Arm, Table6


@dataclass(frozen=True)
class Job:
    """One training run.

    Parameters
    ----------
    folder
        Of the seed; its data set and all its runs lie there.
    arm
        How it trains; none: the run that all the others start from.
    weights
        Encoder weights; none: pretrained on the synthetic source set.
    """

    config: Config
    folder: Path
    arm: Arm | None
    weights: Path | None

    @property
    def run(self) -> RunFolder:
        arm = self.arm
        return RunFolder(self.folder / ("base" if arm is None else f"gamma{100 * arm.ratio:g}-{arm.strategy}"))


@dataclass(frozen=True)
class Measured:
    """What a training run came to: average mAP as a fraction, the seconds it took, the videos it went without."""

    average_mAP: float
    seconds: float
    left_out: tuple[str, ...]


def reproduce_table6(config: Config, folder: Path, *, seeds: Sequence[int], weights: Path | None, jobs: int) -> Table6:
    """Train a detector on frozen features, then go on from it in every way of `ARMS`, for each seed.

    The frozen encoder goes through the same training as the others, so that what they gain is not merely longer
    training. Done runs are not done again.

    Parameters
    ----------
    config
        With annotations and videos, or without: then a synthetic set is drawn for each seed.
    weights
        Encoder weights; needed unless the set is synthetic.
    jobs
        Training runs at a time, each in a process of its own with one thread; 1: in this process, with all threads.

    Raises
    ------
    EtadError
        No weights for a real set; whatever the stages complain of.
    """
    if config.data.annotations is not None and weights is None:
        raise EtadError("table6 on a data set of your own needs the encoder to start from: name it with --weights.")
    if config.detect.labels.source == "scores":
        raise EtadError(
            "table6 takes no file of class scores. Set detect.labels.source to branch, which the detector trains, or "
            "to classifier, which is trained on the features."
        )
    bases = [Job(override(config, f"seed={seed}"), folder / f"seed{seed}", None, weights) for seed in seeds]
    with _pool(jobs) as submit:
        before = _gather(submit, bases, title="detectors to start from")
        # The longest first, so that no core idles at the end.
        arms = sorted(ARMS, key=lambda arm: -arm.ratio)
        runs = [Job(base.config, base.folder, arm, weights) for arm in arms for base in bases]
        found = _gather(submit, runs, title="frozen and end to end")
    of_arm = {arm: [each for job, each in zip(runs, found) if job.arm == arm] for arm in ARMS}
    table = Table6(
        seeds=tuple(seeds),
        before=np.array([each.average_mAP for each in before]),
        found={arm: np.array([each.average_mAP for each in of_arm[arm]]) for arm in ARMS},
        seconds={arm: float(np.mean([each.seconds for each in of_arm[arm]])) for arm in ARMS},
        left_out=tuple(sorted({id for each in [*before, *found] for id in each.left_out})),
    )
    write_json(folder / "table6.json", table.as_json(), indent=1)
    return table


def run_job(job: Job) -> Measured:
    """Do one training run; its bars go to a file beside it, for several at a time would mix on the screen."""
    started = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    with open_to_append(job.folder / f"{job.run.path.name}.log") as log, contextlib.redirect_stderr(log):
        stages = _base(job) if job.arm is None else _arm(job, job.arm)
    average_mAP = stages[-1].measured().average_mAP
    took = job.folder / f"{job.run.path.name}.seconds.json"
    if not took.exists():  # a run that is there already takes no time, which is no news
        write_json(took, time.monotonic() - started)
    left_out = {id for stage in stages for id in stage.left_out}
    return Measured(average_mAP, float(took.read_text(encoding="utf-8")), tuple(sorted(left_out)))


def _base(job: Job) -> list[StageResult]:
    """Draw, pretrain, extract, detect."""
    config, weights = _with_data(job), job.weights
    annotations, device = read_data(config), choose_device(config.device)
    sources = find_sources(config, annotations, None)
    stages = []
    if weights is None:
        stages.append(pretrain(config, job.run, device=device))
        weights = job.run.encoder
    stages.append(extract(config, job.run, sources=sources, weights=weights, device=device))
    cache = FeatureCache(job.run.cache)
    stages.append(detect(config, job.run, cache=cache, annotations=annotations, device=device))
    return stages


def _arm(job: Job, arm: Arm) -> list[StageResult]:
    """Go on from the base's encoder and detector, with gradients of a share of the snippets."""
    config = override(_with_data(job), f"e2e.ratio={arm.ratio:g}", f"e2e.strategy={arm.strategy}")
    annotations = read_data(config)
    base = Job(job.config, job.folder, None, job.weights).run
    tuned = run_e2e(
        config,
        job.run,
        sources=find_sources(config, annotations, None),
        annotations=annotations,
        init_detector=base.files("detect").checkpoint(config.detect.inference.checkpoint),
        weights=job.weights or base.encoder,
        device=choose_device(config.device),
    )
    return [tuned]


def _with_data(job: Job) -> Config:
    if job.config.data.annotations is not None:
        return job.config
    return ensure_synthetic_set(job.config, job.folder / "data")


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[Callable[[Job], Future[Measured]]]:
    """Run jobs side by side in processes, or one after the other in this one."""
    if jobs == 1:

        def now(job: Job) -> Future[Measured]:
            done: Future[Measured] = Future()
            done.set_result(run_job(job))
            return done

        yield now
        return
    # Spawned, not forked: a fork takes over threads' locks in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool: Executor
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        try:
            yield lambda job: pool.submit(run_job, job)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _gather(submit: Callable[[Job], Future[Measured]], jobs: Sequence[Job], *, title: str) -> list[Measured]:
    with progress_bar(title, unit="run", total=len(jobs)) as bar:
        futures = []
        for job in jobs:
            futures.append(submit(job))
            futures[-1].add_done_callback(lambda _: bar.update())
        for done in as_completed(futures):
            done.result()
    return [future.result() for future in futures]


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
