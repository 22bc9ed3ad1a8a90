"""`etad reproduce`: a table of the paper asked again, cell by cell and seed by seed, several runs at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
    """Do all runs of a grid that are not done; what one fails of is noted, and those that do not need it go on.

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
        The run that all others come after failed for every seed.
    """
    of_seed = {seed: override(config, f"seed={seed}", *grid.sets) for seed in seeds}
    found: dict[tuple[str, int], Measured] = {}
    failed_bases: dict[int, str] = {}

    def jobs_after(folder_before: str | None, seed: int) -> dict[tuple[str, int], Job]:
        """Of a seed, the runs that wait for one alone; the longest first."""
        return {
            (cell.folder, seed): Job(
                config=override(config, "seed=0", *grid.sets) if cell.of_all_seeds else of_seed[seed],
                cell=cell,
                chain=grid.chain(cell),
                folder=folder / f"seed{seed}",
                home=(home or folder) / f"seed{seed}",
                inputs=inputs,
            )
            for cell in grid.after(folder_before)
            if not cell.of_all_seeds or seed == seeds[0]
        }

    def note(key: tuple[str, int], measured: Measured) -> dict[tuple[str, int], Job]:
        found[key] = measured
        cell, (name, seed) = grid.cell(key[0]), key
        following = jobs_after(name, seed)
        if cell.of_all_seeds:
            for other in seeds[1:]:
                found[name, other] = replace(measured, seconds=0.0)
                following |= jobs_after(name, other)
        if not measured.failed:
            return following
        if name == BASE:
            failed_bases[seed] = measured.failed
        for each in following:
            note(each, Measured(failed=f"it comes after {cell.name}, which failed: {measured.failed}"))
        return {}

    first = [jobs_after(None, seed) for seed in seeds]
    with pool_of(run_job, jobs) as pool:
        pool.work(
            {key: job for each in first for key, job in each.items()},
            note,
            title=f"{grid.name}: runs",
            total=len(grid.to_run) * len(seeds),
            count=lambda: len(found),
            killed=lambda: Measured(failed="its process was killed, most likely because memory ran out"),
        )
    if len(failed_bases) == len(seeds):
        raise EtadError(failed_bases[seeds[0]])
    runs = {cell.folder: tuple(found[cell.folder, seed] for seed in seeds) for cell in grid.to_run}
    return Outcome(grid, tuple(seeds), runs)
