"""Table 4: shares of the proposals that are evaluated at inference, by one trained detector."""

from __future__ import annotations

from ...config import Config
from ..grid import AVERAGE, Cell, Claim, Grid, unfit
from ..runs import Inputs
from .base import base_cells

# Share of the proposals -> average mAP, on ActivityNet-1.3.
PAPER = {1.0: 36.79, 0.2: 36.77, 0.15: 36.74, 0.1: 36.71, 0.06: 36.51}


def table4(config: Config, inputs: Inputs) -> Grid:
    """Cells of the table for a data set."""
    cells = base_cells(config, inputs, detector=True)
    for ratio, figure in PAPER.items():
        sets = (f"detect.sampling.inference_ratio={ratio:g}",)
        cells.append(
            Cell(
                name=f"{100 * ratio:g} % at inference",
                folder=_folder(ratio),
                stages=("infer",),
                sets=sets,
                against=_folder(1.0) if ratio < 1 else "",
                paper={AVERAGE: figure},
                left_out=unfit(config, sets),
                cost=ratio,
            )
        )
    return Grid(
        name="table4",
        title="Table 4: share of the proposals at inference",
        of="ActivityNet-1.3 with TSM-R50",
        cells=tuple(cells),
        claims=(
            Claim(text="20 % are as good as all", left=_folder(0.2), right=_folder(1.0), within=0.1),
            Claim(text="15 % are as good as all", left=_folder(0.15), right=_folder(1.0), within=0.1),
            Claim(text="10 % are nearly as good as all", left=_folder(0.1), right=_folder(1.0), within=0.2),
            Claim(text="6 % lose something", left=_folder(1.0), right=_folder(0.06)),
            Claim(text="6 % lose more than 10 % do", left=_folder(0.1), right=_folder(0.06)),
        ),
        notes=("One detector a seed, trained on features, infers on a grid of the proposals.",),
    )


def _folder(ratio: float) -> str:
    return f"inference-{100 * ratio:g}"
