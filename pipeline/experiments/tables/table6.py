"""Table 6: what end-to-end training gains over a frozen encoder, by the share of snippets whose gradients reach it."""

from __future__ import annotations

from ....detect.strategies import find_strategy
from ....extract.encoders.encoder import encoder_spec
from ...config import Config
from ..grid import AVERAGE, MEMORY, MINUTES, Cell, Claim, Grid
from ..runs import Inputs
from .base import base_cells, check_start, once_encoded, without_videos

# Encoder and share of the gradients -> mAP at tIoU 0.3 to 0.7, the average, GB of a video, hours, on THUMOS-14.
PAPER: dict[str, dict[float, tuple[float | None, ...]]] = {
    "SlowOnly": {
        0.0: (52.45, 44.11, 34.32, 24.84, 15.89, 34.32, None, None),
        0.1: (59.72, 52.74, 42.73, 32.98, 23.02, 42.23, 1.06, 2.08),
        0.3: (60.66, 52.87, 42.95, 33.31, 23.38, 42.63, 1.06, 2.25),
        1.0: (60.18, 52.93, 44.40, 33.88, 23.76, 43.03, 1.06, 3.09),
    },
    "TSM": {
        0.0: (52.18, 42.80, 33.10, 24.20, 14.05, 33.26, None, None),
        0.1: (57.63, 48.76, 38.12, 28.55, 18.39, 38.28, 1.19, 2.23),
        0.3: (56.50, 49.16, 39.17, 29.47, 19.07, 38.67, 1.19, 2.51),
        1.0: (57.44, 48.99, 39.55, 29.37, 18.60, 38.79, 1.19, 3.92),
    },
}
_COLUMNS = ("0.3", "0.4", "0.5", "0.6", "0.7", AVERAGE, MEMORY, MINUTES)
# Share of the gradients, and how the snippets are chosen. The paper names no strategy; the fewer there are, the more it
# matters that they are those with a gradient, and that they speak for the others.
ARMS = ((0.0, "grid"), (0.1, "coreset"), (0.1, "gradnorm"), (0.3, "gradnorm"), (1.0, "grid"))
_FAMILIES = {"tsm": "TSM", "slowonly": "SlowOnly"}
_PRESETS = {"TSM": "thumos14-e2e-tsm", "SlowOnly": "thumos14-e2e-slowonly"}


def table6(config: Config, inputs: Inputs) -> Grid:
    """Cells of the table for a data set: those of the config's encoder are run."""
    if inputs.features is None:
        check_start(config)
    adapter = "" if config.encoder.adapter == "none" else f", {config.encoder.adapter} adapters"
    own = _FAMILIES.get(encoder_spec(config.encoder.name).family, config.encoder.name + adapter)
    cells = base_cells(config, inputs, detector=True, is_row=True)
    cells += [
        _cell(
            own,
            ratio,
            strategy,
            # Under a budget a step is another one, as small as it must be.
            is_measured=config.e2e.memory_budget_gib is None,
            # All of them sample: other memories send all gradients, whatever the ratio.
            sets=("e2e.memory=sgs", *(once_encoded(config) if ratio == 0 else _cache_sets(config, strategy))),
        )
        for ratio, strategy in ARMS
    ]
    return Grid(
        name="table6",
        title="Table 6: share of the snippets whose gradients reach the encoder",
        of="THUMOS-14",
        over="0.3:0.1:0.7",
        cells=without_videos(cells, inputs),
        claims=_claims(own, is_measured=config.e2e.memory_budget_gib is None),
        notes=(
            "All go on from one detector of the seed, and are trained as long; seconds and minutes are of a run beside "
            "others on the same machine, inference included; the paper's are of training.",
            "The paper does not say how it chooses the snippets. coreset: those that are sampled carry the gradients "
            "of all that look like them.",
            "GB: of one video's step, weights and what the optimiser keeps included.",
            *(_of_another(name) for name in PAPER if name != own),
        ),
    )


def _of_another(encoder: str) -> str:
    """What the paper has of an encoder that the config does not name."""
    figures = ", ".join(f"{100 * ratio:g} % {figures[5]:.2f}" for ratio, figures in PAPER[encoder].items())
    return f"The paper's figures of {encoder}, which has a preset of its own (--data {_PRESETS[encoder]}): {figures}."


def _cache_sets(config: Config, strategy: str) -> tuple[str, ...]:
    """What a cell cannot keep: graphs of samples that are not drawn beforehand; outputs that no epoch would read."""
    late = find_strategy(strategy, gradients=True).needs != "nothing"
    graphs = ("e2e.first_pass_cache=maps",) if late and config.e2e.first_pass_cache == "graphs" else ()
    return (*graphs, "e2e.cache_frozen=0") if 0 < config.e2e.epochs <= config.e2e.cache_frozen else graphs


def _cell(encoder: str, ratio: float, strategy: str, *, sets: tuple[str, ...], is_measured: bool) -> Cell:
    stated = PAPER[encoder][ratio] if encoder in PAPER else ()
    figures = {
        name: 60 * value if name == MINUTES else value for name, value in zip(_COLUMNS, stated) if value is not None
    }
    how = "frozen encoder, gamma 0 %" if ratio == 0 else f"end to end, gamma {100 * ratio:g} %"
    chosen = f", {strategy}" if 0 < ratio < 1 else ""
    return Cell(
        name=f"{encoder}: {how}{chosen}",
        folder=_folder(ratio, strategy),
        stages=("e2e",),
        sets=(f"e2e.ratio={ratio:g}", f"e2e.strategy={strategy}", *sets),
        against=_folder(0.0, "grid") if ratio > 0 else "",
        paper=figures,
        cost=ratio,
        memory=ratio > 0 and is_measured,
    )


def _claims(encoder: str, *, is_measured: bool) -> tuple[Claim, ...]:
    frozen, few = _folder(0.0, "grid"), _folder(0.1, "coreset")
    some, every = _folder(0.3, "gradnorm"), _folder(1.0, "grid")
    beaten = tuple(
        Claim(
            text=f"{encoder}: {100 * ratio:g} % of the gradients{_by(ratio, strategy)} beat a frozen encoder",
            left=_folder(ratio, strategy),
            right=frozen,
        )
        for ratio, strategy in ARMS
        if ratio > 0
    )
    as_good = Claim(text=f"{encoder}: 30 % (gradnorm) are nearly as good as all", left=some, right=every, within=1.0)
    memory = Claim(
        text=f"{encoder}: all gradients take no more memory than 10 %",
        left=few,
        right=every,
        within=5.0,
        column=MEMORY,
    )
    longer = Claim(text=f"{encoder}: all gradients take longer than 30 %", left=every, right=some, column=MINUTES)
    return (*beaten, as_good, *([memory] if is_measured else []), longer)


def _by(ratio: float, strategy: str) -> str:
    return f" ({strategy})" if 0 < ratio < 1 else ""


def _folder(ratio: float, strategy: str) -> str:
    return f"gamma{100 * ratio:g}-{strategy}"
