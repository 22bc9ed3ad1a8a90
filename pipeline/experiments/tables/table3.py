"""Table 3: shares of the proposals that are trained on (APS), with a frozen encoder and end to end."""

from __future__ import annotations

from ...config import Config
from ...e2e.checks import check_frozen
from ..grid import AVERAGE, BASE, Cell, Claim, Grid, unfit
from ..runs import Inputs
from .base import base_cells, check_start, once_encoded, without_videos

# Share of the proposals -> average mAP frozen and end to end, on ActivityNet-1.3.
PAPER = {
    0.001: (34.59, 34.50),
    0.002: (35.22, 35.21),
    0.02: (35.70, 36.34),
    0.04: (35.93, 36.41),
    0.06: (36.13, 36.79),
    0.1: (36.09, 36.72),
    0.2: (36.07, 36.66),
    1.0: (36.10, 36.51),
}
_DEFAULT = 0.06


def table3(config: Config, inputs: Inputs) -> Grid:
    """Cells of the table for a data set."""
    if inputs.features is None:
        check_start(config)
        check_frozen(config)
    cells = base_cells(config, inputs)
    for ratio, figures in PAPER.items():
        sets = (f"detect.sampling.ratio={ratio:g}",)
        share, why = f"{100 * ratio:g} %", unfit(config, sets)
        before, frozen = _folder("detector", ratio), _folder("frozen", ratio)
        if inputs.features is None:
            cells += [
                Cell(
                    name=f"detector to start from, {share}",
                    folder=before,
                    stages=("detect",),
                    sets=sets,
                    left_out=why,
                    cost=ratio,
                    is_row=False,
                ),
                Cell(
                    name=f"frozen, {share}",
                    folder=frozen,
                    stages=("e2e",),
                    sets=(*sets, "e2e.memory=sgs", "e2e.ratio=0", *once_encoded(config)),
                    after=before,
                    paper={AVERAGE: figures[0]},
                    left_out=why,
                ),
            ]
        else:
            cells.append(
                Cell(
                    name=f"frozen, {share}",
                    folder=frozen,
                    stages=("detect",),
                    sets=sets,
                    paper={AVERAGE: figures[0]},
                    left_out=why,
                    cost=ratio,
                )
            )
        cells.append(
            Cell(
                name=f"end to end, {share}",
                folder=_folder("e2e", ratio),
                stages=("e2e",),
                sets=sets,
                after=before if inputs.features is None else BASE,
                against=frozen,
                paper={AVERAGE: figures[1]},
                left_out=why,
                cost=2,
            )
        )
    return Grid(
        name="table3",
        title="Table 3: share of the proposals in training",
        of="ActivityNet-1.3 with TSM-R50",
        cells=without_videos(cells, inputs),
        claims=(
            *(
                Claim(
                    text=f"a frozen encoder is as good at {100 * ratio:g} %",
                    left=_folder("frozen", ratio),
                    right=_folder("e2e", ratio),
                    within=0.5,
                )
                for ratio in PAPER
                if ratio < 0.02
            ),
            *(
                Claim(
                    text=f"end to end beats a frozen encoder at {100 * ratio:g} %",
                    left=_folder("e2e", ratio),
                    right=_folder("frozen", ratio),
                )
                for ratio in PAPER
                if ratio >= 0.02
            ),
            Claim(text="frozen, 6 % beat 0.1 %", left=_folder("frozen", _DEFAULT), right=_folder("frozen", 0.001)),
            Claim(
                text="frozen, 6 % are as good as all",
                left=_folder("frozen", _DEFAULT),
                right=_folder("frozen", 1.0),
                within=0.5,
            ),
            Claim(text="end to end, 6 % beat 0.1 %", left=_folder("e2e", _DEFAULT), right=_folder("e2e", 0.001)),
            Claim(text="end to end, 6 % beat 2 %", left=_folder("e2e", _DEFAULT), right=_folder("e2e", 0.02)),
            Claim(text="end to end, 6 % beat all", left=_folder("e2e", _DEFAULT), right=_folder("e2e", 1.0)),
        ),
        notes=("Both rows of a share go on from one detector that was trained on it, and are trained as long.",)
        if inputs.features is None
        else (),
    )


def _folder(how: str, ratio: float) -> str:
    return f"{how}-{100 * ratio:g}"
