"""What the demo shows, over seeds: the same detector on poorer features, on good ones, and trained end to end."""

from __future__ import annotations

from dataclasses import replace

from ...config import Config
from ...e2e.checks import check_frozen
from ..grid import BASE, Cell, Claim, Grid
from ..runs import Inputs
from .base import base_cells, check_start, features_of_all_seeds, once_encoded, without_videos

STILL, UNTRAINED, PRETRAINED, ALONE, TUNED = "still", "untrained", BASE, "detector_alone", "tuned"
# By the folder of the cell. The demo prints the same names.
NAMES = {
    STILL: "clips of one repeated frame",
    UNTRAINED: "untrained encoder",
    PRETRAINED: "pretrained encoder",
    ALONE: "the same, then the detector trained on, alone",
    TUNED: "the same, then encoder and detector trained on, together",
}


def poorer_sets(config: Config) -> dict[str, tuple[str, ...]]:
    """Overrides of each row that is there for comparison, by its folder."""
    return {
        STILL: ("clips.still=true",),
        UNTRAINED: ("encoder.init=random",),
        ALONE: ("e2e.memory=sgs", "e2e.ratio=0", *once_encoded(config)),
    }


def demo_rows(config: Config, inputs: Inputs) -> Grid:
    """Cells of the table for a data set."""
    if inputs.features is None:
        check_start(config)
        check_frozen(config)
    sets = poorer_sets(config)
    *earlier, before = base_cells(config, inputs, detector=True, is_row=True)
    still = features_of_all_seeds(config, inputs, folder=f"{STILL}-features", sets=sets[STILL])
    cells = (
        *earlier,
        *still,
        Cell(
            name=NAMES[STILL],
            folder=STILL,
            stages=("detect",) if still else ("extract", "detect"),
            sets=sets[STILL],
            after=still[0].folder if still else BASE,
            against=PRETRAINED,
        ),
        Cell(
            name=NAMES[UNTRAINED],
            folder=UNTRAINED,
            stages=("extract", "detect"),
            sets=sets[UNTRAINED],
            against=PRETRAINED,
        ),
        replace(before, name=NAMES[PRETRAINED]),
        Cell(name=NAMES[ALONE], folder=ALONE, stages=("e2e",), sets=sets[ALONE]),
        Cell(name=NAMES[TUNED], folder=TUNED, stages=("e2e",), against=ALONE, cost=2),
    )
    return Grid(
        name="demo",
        title="The demo: one detector on features of several encoders",
        of="",
        cells=without_videos(cells, inputs),
        claims=(
            Claim(text="motion is needed: pretrained features beat those of still frames", left=BASE, right=STILL),
            Claim(text="learning is needed: they beat those of an untrained encoder", left=BASE, right=UNTRAINED),
            Claim(text="training the encoder, too, beats training the detector alone", left=TUNED, right=ALONE),
        ),
        notes=("The last two rows both go on from the pretrained encoder's detector, and are trained as long.",),
    )
