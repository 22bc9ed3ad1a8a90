"""Table 1: feature enhancement modules, and numbers of proposal evaluation modules."""

from __future__ import annotations

from ...config import Config
from ..grid import Cell, Claim, Grid, unfit
from ..runs import Inputs
from .base import base_cells

# Feature enhancement and stages -> mAP at tIoU 0.5, 0.75 and 0.9, and the average, on ActivityNet-1.3.
PAPER = {
    ("transformer", 1): (52.75, 36.34, 7.28, 35.34),
    ("conv", 1): (53.06, 36.72, 7.32, 35.71),
    ("lstm", 1): (53.52, 37.54, 6.08, 36.10),
    ("lstm", 2): (54.02, 37.84, 7.96, 36.59),
    ("lstm", 3): (53.79, 37.59, 10.56, 36.79),
    ("lstm", 4): (53.26, 37.65, 9.65, 36.57),
}
_COLUMNS = ("0.5", "0.75", "0.9", "average")


def table1(config: Config, inputs: Inputs) -> Grid:
    """Cells of the table for a data set."""
    cells = base_cells(config, inputs)
    for (enhancement, stages), figures in PAPER.items():
        sets = (f"detect.enhancement={enhancement}", f"detect.num_stages={stages}")
        cells.append(
            Cell(
                name=f"{enhancement}, {stages} stage{'s' if stages > 1 else ''}",
                folder=_folder(enhancement, stages),
                stages=("detect",),
                sets=sets,
                against=_folder("lstm", 1) if (enhancement, stages) != ("lstm", 1) else "",
                paper=dict(zip(_COLUMNS, figures)),
                left_out=unfit(config, sets),
                cost=stages,
            )
        )
    return Grid(
        name="table1",
        title="Table 1: feature enhancement and cascade stages",
        of="ActivityNet-1.3 with TSM-R50",
        cells=tuple(cells),
        claims=(
            Claim(text="LSTMs beat convolutions", left=_folder("lstm", 1), right=_folder("conv", 1)),
            Claim(text="convolutions beat a transformer", left=_folder("conv", 1), right=_folder("transformer", 1)),
            Claim(text="two stages beat one", left=_folder("lstm", 2), right=_folder("lstm", 1)),
            Claim(text="three stages beat two", left=_folder("lstm", 3), right=_folder("lstm", 2)),
            Claim(text="a fourth stage gains nothing", left=_folder("lstm", 3), right=_folder("lstm", 4)),
            Claim(
                text="three stages find boundaries more exactly than one",
                left=_folder("lstm", 3),
                right=_folder("lstm", 1),
                column="0.9",
            ),
        ),
        notes=("The detector is trained on features of a frozen encoder.",),
    )


def _folder(enhancement: str, stages: int) -> str:
    return f"{enhancement}{stages}"
