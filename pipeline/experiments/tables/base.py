"""What every table begins with: features, a detector where one is gone on from, and what is refused beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ....data.cache.parts import parts_folder
from ....data.errors import EtadError
from ....extract.weights.packaged import packaged_weights
from ...config import Config
from ...stages.inputs import NO_SCORES
from ..grid import BASE, Cell, CellStage
from ..runs import Inputs

_SHARED = "features"


def base_cells(config: Config, inputs: Inputs, *, detector: bool = False, is_row: bool = False) -> list[Cell]:
    """The runs that prepare features, and a detector where cells go on from one; the last of them is `BASE`.

    Features of a real data set are the same for all seeds, and these are extracted once.

    Raises
    ------
    EtadError
        A real data set, and nothing says which encoder made, or makes, its features.
    """
    check_inputs(config, inputs)
    cells: list[Cell] = []
    stages: list[CellStage] = []
    if inputs.features is None:
        if config.data.annotations is None and inputs.weights is None:
            stages.append("pretrain")
        cells += features_of_all_seeds(config, inputs, folder=_SHARED)
        if not cells:
            stages.append("extract")
    if detector:
        stages.append("detect")
    base = Cell(
        name="detector to start from" if detector else "features",
        folder=BASE,
        stages=tuple(stages),
        # Adapters are there to tune an encoder that has learned: the source set trains the whole of it.
        sets=("encoder.adapter=none",) if "pretrain" in stages else (),
        after=_SHARED if cells else None,
        is_row=is_row,
    )
    return [*cells, base]


def features_of_all_seeds(config: Config, inputs: Inputs, *, folder: str, sets: tuple[str, ...] = ()) -> list[Cell]:
    """The run that extracts features which no seed changes; none where each seed has its own, or they are given.

    Parameters
    ----------
    sets
        Overrides of the config that make them what they are.
    """
    if config.data.annotations is None or config.encoder.init == "random" or inputs.features is not None:
        return []
    return [
        Cell(
            name=f"{folder.replace('-', ' ')}, for all seeds",
            folder=folder,
            stages=("extract",),
            sets=sets,
            after=None,
            is_row=False,
            of_all_seeds=True,
        )
    ]


def check_inputs(config: Config, inputs: Inputs) -> None:
    """Refuse what cannot be measured, before anything is drawn or trained.

    Raises
    ------
    EtadError
        Naming the option that is missing.
    """
    if inputs.features is not None and not (inputs.features.exists() or parts_folder(inputs.features).exists()):
        raise EtadError(f"{inputs.features}: there is no such cache. Check what --features names.")
    for option, path in (("weights", inputs.weights), ("scores", inputs.scores)):
        if path is not None and not path.exists():
            raise EtadError(f"{path}: there is no such file. Check what --{option} names.")
    is_drawn = config.data.annotations is None
    if is_drawn and inputs.features is not None:
        raise EtadError(
            f"{inputs.features}: nothing says which actions these features show. Name --annotations, or leave "
            "--features out: then a synthetic set is drawn."
        )
    if not is_drawn and inputs.features is None:
        named = inputs.weights or config.encoder.weights or packaged_weights(config.encoder.name)
        if named is None and config.encoder.init == "weights":
            raise EtadError("a data set of your own needs the encoder to start from: name it with --weights.")
        if config.data.videos is None:
            raise EtadError("a data set of your own needs videos, or a cache of features: --videos or --features.")
    if config.detect.labels.source == "scores" and inputs.scores is None:
        raise EtadError(NO_SCORES)


def check_start(config: Config) -> None:
    """Refuse rows that would not go on from one detector, before anything is drawn.

    Raises
    ------
    EtadError
        Naming the key to set.
    """
    if config.e2e.start == "scratch":
        raise EtadError(
            "e2e.start=scratch: the rows that are trained end to end go on from a detector that was trained on "
            "features. Set e2e.start=detector."
        )


def without_videos(cells: Sequence[Cell], inputs: Inputs) -> tuple[Cell, ...]:
    """Leave out the cells that go through the encoder, where features are all there is."""
    if inputs.features is None:
        return tuple(cells)
    why = "it trains through the encoder, and --features names features alone; name --videos instead"
    needs = {"pretrain", "extract", "e2e"}
    return tuple(
        replace(cell, left_out=why) if needs & set(cell.stages) and not cell.left_out else cell for cell in cells
    )


def once_encoded(config: Config) -> tuple[str, ...]:
    """Overrides under which an encoder that stays frozen encodes each window once.

    None where frames are drawn, or where the config keeps nothing: it may not fit on the disk.
    """
    settings = config.e2e
    if settings.is_augmented or not settings.cache_frozen:
        return ()
    return ("encoder.frozen_stages=4", f"e2e.cache_frozen={int(settings.epochs > 1)}")
