"""Table 5: ETAD with several sampling strategies against BMN and BMN+TCANet, on the same features."""

from __future__ import annotations

from ....detect.settings import TcanetSettings
from ...config import Config
from ..grid import AVERAGE, MEMORY, MINUTES, Cell, Claim, Grid, unfit
from ..runs import Inputs
from .base import base_cells

# Method -> mAP at tIoU 0.5, 0.75 and 0.95, the average, GB at a batch of 16, minutes of training, on HACS.
PAPER = {
    "bmn": (52.49, 36.38, 10.37, 35.76, 12.10, 58.0),
    "bmn+tcanet": (55.60, 40.01, 11.47, 38.71, 12.34, 104.0),
    "random": (55.71, 39.06, 13.78, 38.77, 3.28, 50.0),
    "grid": (55.49, 39.09, 14.08, 38.76, 3.28, 50.0),
    "block": (51.46, 34.26, 11.43, 34.49, 3.28, 50.0),
}
_COLUMNS = ("0.5", "0.75", "0.95", AVERAGE, MEMORY, MINUTES)
_SMALL_TCANET = {"width": 256, "boundary_samples": 16, "action_samples": 32}
_BASELINES = {"bmn": "BMN", "bmn+tcanet": "BMN + TCANet"}


def table5(config: Config, inputs: Inputs) -> Grid:
    """Cells of the table for a data set."""
    cells = base_cells(config, inputs)
    sizes = _tcanet_sizes(config)
    for method, figures in PAPER.items():
        baseline = _BASELINES.get(method)
        sets = [f"detect.model={method}" if baseline else f"detect.sampling.strategy={method}"]
        sets += sizes if "tcanet" in method else ()
        cells.append(
            Cell(
                name=baseline or f"ETAD, {method}",
                folder=method.replace("+", "-"),
                stages=("detect",),
                sets=tuple(sets),
                against="random" if method != "random" else "",
                paper=dict(zip(_COLUMNS, figures)),
                left_out=unfit(config, sets),
                cost=len(baseline or ""),
                memory=True,
            )
        )
    return Grid(
        name="table5",
        title="Table 5: sampling strategies and other detectors",
        of="HACS with SlowFast features",
        cells=tuple(cells),
        claims=(
            Claim(text="ETAD beats BMN", left="random", right="bmn"),
            Claim(text="TCANet improves BMN", left="bmn-tcanet", right="bmn"),
            Claim(text="ETAD is as good as BMN + TCANet", left="random", right="bmn-tcanet", within=0.5),
            Claim(text="a grid is as good as random proposals", left="grid", right="random", within=0.5),
            Claim(text="blocks are worse than random proposals", left="random", right="block"),
            Claim(text="ETAD's best boundaries beat TCANet's", left="random", right="bmn-tcanet", column="0.95"),
            Claim(text="TCANet's good boundaries beat ETAD's", left="bmn-tcanet", right="random", column="0.75"),
            Claim(text="BMN needs more memory than ETAD", left="bmn", right="random", column=MEMORY),
            Claim(text="BMN + TCANet needs more memory than ETAD", left="bmn-tcanet", right="random", column=MEMORY),
            Claim(text="BMN takes longer than ETAD", left="bmn", right="random", column=MINUTES),
            Claim(text="BMN + TCANet takes longer than ETAD", left="bmn-tcanet", right="random", column=MINUTES),
        ),
        notes=(
            f"Memory: of a step of {config.detect.training.batch} windows, weights and what the optimiser keeps "
            "included; minutes: of the whole run, inference included.",
            *([f"On the synthetic set TCANet is smaller than published: {', '.join(sizes)}."] if sizes else []),
        ),
    )


def _tcanet_sizes(config: Config) -> tuple[str, ...]:
    """Sizes of TCANet in place of published ones, for windows of a synthetic set, a third as long as the paper's.

    At its published ones, a run takes longer than all other runs of the table together.
    """
    if config.data.annotations is not None or config.detect.tcanet != TcanetSettings():
        return ()
    return tuple(f"detect.tcanet.{name}={value}" for name, value in _SMALL_TCANET.items())
