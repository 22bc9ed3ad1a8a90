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
from scipy.stats import ttest_rel
from tqdm import tqdm

from ..data.atomic import write_json
from ..data.errors import EtadError
from ..data.features import FeatureCache
from .config import Config, override
from .detecting import detect
from .device import choose_device
from .drawn import draw_set
from .e2e import run_e2e
from .extracting import find_sources, run_extract
from .inputs import read_data
from .pretraining import run_pretrain
from .run_folder import RunFolder


@dataclass(frozen=True)
class Arm:
    """One way to train: which share of the snippets' gradients reaches the encoder, and how these are chosen."""

    ratio: float
    strategy: str = "grid"

    @property
    def name(self) -> str:
        if self.ratio == 0:
            return "frozen encoder, gamma 0 %"
        return f"end to end, gamma {100 * self.ratio:g} %" + (f", {self.strategy}" if self.ratio < 1 else "")


FROZEN = Arm(0.0)
ARMS = (FROZEN, Arm(0.1), Arm(0.3), Arm(0.3, "random"), Arm(1.0))
# Average mAP, per cent, on THUMOS-14 (Table 6).
PAPER = {
    "TSM": {0.0: 33.26, 0.1: 38.28, 0.3: 38.67, 1.0: 38.79},
    "SlowOnly": {0.0: 34.32, 0.1: 42.23, 0.3: 42.63, 1.0: 43.03},
}


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
    """What a training run came to: average mAP as a fraction, and the seconds it took now."""

    average_mAP: float
    seconds: float


@dataclass(frozen=True)
class Table6:
    """Average mAP, as fractions, seed by seed.

    Parameters
    ----------
    seeds
        What data, encoder and detector were drawn from.
    before
        (seeds,) of the detector that every run starts from.
    found
        (seeds,) of each arm.
    seconds
        Mean time of a run, beside other runs on the same machine.
    """

    seeds: tuple[int, ...]
    before: np.ndarray
    found: dict[Arm, np.ndarray]
    seconds: dict[Arm, float]

    def gain(self, arm: Arm) -> tuple[float, float, float | None]:
        """Mean and spread of the gain over the frozen encoder, and the p-value of a paired t-test over the seeds."""
        differences = self.found[arm] - self.found[FROZEN]
        if len(differences) < 2:
            return float(differences.mean()), 0.0, None
        p = float(ttest_rel(self.found[arm], self.found[FROZEN]).pvalue) if differences.any() else 1.0
        return float(differences.mean()), float(differences.std(ddof=1)), p

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of the printed table, in per cent."""
        rows = [("detector to start from", *_cells(self.before), "-", "-", "-", "-", "-")]
        for arm, values in self.found.items():
            mean, spread, p = self.gain(arm)
            gain = "-" if arm == FROZEN else f"{100 * mean:+.1f} +- {100 * spread:.1f}"
            significance = "-" if arm == FROZEN or p is None else f"{p:.2f}"
            paper = tuple(f"{PAPER[encoder][arm.ratio]:.1f}" for encoder in PAPER)
            rows.append((arm.name, *_cells(values), gain, significance, f"{self.seconds[arm]:.0f}", *paper))
        return rows

    @property
    def heads(self) -> tuple[str, ...]:
        seeds = tuple(f"seed {seed}" for seed in self.seeds)
        return ("average mAP, %", *seeds, "mean +- sd", "gain", "p", "seconds", *(f"paper, {name}" for name in PAPER))

    def as_json(self) -> dict[str, object]:
        return {
            "seeds": list(self.seeds),
            "before": self.before.tolist(),
            "average_mAP": {arm.name: values.tolist() for arm, values in self.found.items()},
            "gain_mean_sd_p": {arm.name: self.gain(arm) for arm in self.found if arm != FROZEN},
            "seconds": {arm.name: seconds for arm, seconds in self.seconds.items()},
        }


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
        Training runs at a time, each in a process of its own with one thread; 1: in this process.

    Raises
    ------
    EtadError
        No weights for a real set; whatever the stages complain of.
    """
    if config.data.annotations is not None and weights is None:
        raise EtadError("table6 on a data set of your own needs the encoder to start from: name it with --weights.")
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
    )
    write_json(folder / "table6.json", table.as_json(), indent=1)
    return table


def run_job(job: Job) -> Measured:
    """Do one training run; its bars go to a file beside it, for several at a time would garble the screen."""
    started = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / f"{job.run.path.name}.log").open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
        average_mAP = _base(job) if job.arm is None else _arm(job, job.arm)
    return Measured(average_mAP, time.monotonic() - started)


def _base(job: Job) -> float:
    """Draw, pretrain, extract, detect."""
    config, run = _with_data(job), job.run
    device, annotations = choose_device(config.device), read_data(config)
    weights = job.weights
    if weights is None:
        run_pretrain(config, run, weights=None, device=device)
        weights = run.encoder
    sources = find_sources(config, annotations, None)
    run_extract(config, run, sources=sources, weights=weights, shard=None, device=device)
    run.claim("detect", config)
    outcome = detect(
        config,
        run.detect,
        cache=FeatureCache(run.cache),
        annotations=annotations,
        scores=None,
        checkpoint=None,
        device=device,
    )
    assert outcome.evaluation is not None
    return outcome.evaluation.average_mAP


def _arm(job: Job, arm: Arm) -> float:
    """Go on from the base's encoder and detector, with gradients of a share of the snippets."""
    config = override(_with_data(job), f"e2e.ratio={arm.ratio:g}", f"e2e.strategy={arm.strategy}")
    base = Job(job.config, job.folder, None, job.weights).run
    annotations = read_data(config)
    outcome = run_e2e(
        config,
        job.run,
        sources=find_sources(config, annotations, None),
        annotations=annotations,
        init_detector=base.detect / "checkpoints" / f"{config.detect.inference.checkpoint}.pt",
        weights=job.weights or base.encoder,
        scores=None,
        device=choose_device(config.device),
    )
    assert outcome.evaluation is not None
    return outcome.evaluation.average_mAP


def _with_data(job: Job) -> Config:
    return job.config if job.config.data.annotations is not None else draw_set(job.config, job.folder / "data")


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
    with tqdm(total=len(jobs), desc=title, unit="run") as bar:
        futures = [submit(job) for job in jobs]
        for done in as_completed(futures):
            done.result()
            bar.update()
    return [future.result() for future in futures]


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def _cells(values: np.ndarray) -> tuple[str, ...]:
    spread = f" +- {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return (*(f"{100 * value:.1f}" for value in values), f"{100 * values.mean():.1f}{spread}")
