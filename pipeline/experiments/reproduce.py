"""`etad reproduce`: a table of the paper asked again, cell by cell and seed by seed, several runs at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...data.errors import EtadError
from ..config import Config, override
from .grid import BASE, Grid
from .outcome import Outcome
from .pool import pool_of
from .runs import Inputs, Job, Measured, run_job


def reproduce_grid(
    grid: Grid,
    config: Config,
    folder: Path,
    *,
    seeds: Sequence[int],
    inputs: Inputs,
    jobs: int,
    home: Path | None = None,
) -> Outcome:
    """Do all runs of a grid that are not done; what one fails of is noted, and the others go on.

    Parameters
    ----------
    config
        With annotations, or without: then a synthetic set is drawn for each seed.
    jobs
        Runs at a time, each in a process of its own with one thread; 1: in this process, with all threads.
    home
        Where the drawn sets and the base runs lie, which several grids may share; none: in the same folder.

    Raises
    ------
    EtadError
        The run that all others come after failed.
    """
    of_seed = {seed: override(config, f"seed={seed}", *grid.sets) for seed in seeds}
    found: dict[str, list[Measured]] = {}
    with pool_of(run_job, jobs) as pool:
        for level in grid.levels():
            queue = [
                Job(
                    config=of_seed[seed],
                    cell=cell,
                    chain=grid.chain(cell),
                    folder=folder / f"seed{seed}",
                    home=(home or folder) / f"seed{seed}",
                    inputs=inputs,
                )
                for cell in level
                for seed in seeds
            ]
            ready = [job for job in queue if not _lacking(job, found, seeds)]
            title = f"{grid.name}: {'base' if level[0].folder == BASE else 'runs'}"
            results = iter(pool.gather(ready, title=title))
            for job in queue:
                lacking = _lacking(job, found, seeds)
                measured = Measured(failed=lacking) if lacking else next(results)
                found.setdefault(job.cell.folder, []).append(measured)
            if BASE in found and (failed := next((each.failed for each in found[BASE] if each.failed), "")):
                raise EtadError(failed)
    return Outcome(grid, tuple(seeds), {name: tuple(runs) for name, runs in found.items()})


def _lacking(job: Job, found: dict[str, list[Measured]], seeds: Sequence[int]) -> str:
    """Why a run cannot be begun: one that it comes after has failed at its seed."""
    number = list(seeds).index(job.config.seed)
    for cell in job.chain:
        if (why := found[cell.folder][number].failed) if cell.folder in found else "":
            return f"it comes after {cell.name}, which failed: {why}"
    return ""
