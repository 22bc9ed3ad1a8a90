"""Table 7: augmentation, frozen stages, resolution and pretraining of the encoder, without gradient sampling."""

from __future__ import annotations

from ....data.errors import EtadError
from ....data.video.transforms import crop_size
from ...config import Config
from ..grid import AVERAGE, BASE, MEMORY, Cell, Claim, Grid
from ..runs import Inputs
from .base import base_cells, check_start, features_of_all_seeds, without_videos

# Resolution, augmentation and frozen stage -> average mAP and GB of a video, on ActivityNet-1.3; none: out of memory.
PAPER: dict[tuple[str, str, int], tuple[float | None, float | None]] = {
    ("small", "none", 2): (35.12, 9.1),
    ("small", "jitter", 2): (35.17, 9.1),
    ("small", "crop", 2): (35.53, 9.1),
    ("small", "crop+jitter", 2): (35.38, 9.1),
    ("small", "crop", 4): (34.26, 4.5),
    ("small", "crop", 3): (35.01, 4.6),
    ("small", "crop", 1): (35.52, 17.0),
    ("small", "crop", 0): (35.46, 25.8),
    ("large", "crop", 4): (36.24, 17.5),
    ("large", "crop", 3): (36.47, 17.6),
    ("large", "crop", 2): (36.79, 34.3),
    ("large", "crop", 1): (None, None),
}
PAPER_TUNED = (36.92, 34.3)
_AUGMENTATIONS = {
    "none": ("e2e.crop=centre", "e2e.jitter_frames=0"),
    "jitter": ("e2e.crop=centre", "e2e.jitter_frames=1"),
    "crop": ("e2e.crop=random", "e2e.jitter_frames=0"),
    "crop+jitter": ("e2e.crop=random", "e2e.jitter_frames=1"),
}
_LARGE, _TUNED = "large", "tuned"
# Frames are this much larger than the crop, on their short side, as 128 is than 112.
_MARGIN = 8 / 7


def table7(config: Config, inputs: Inputs) -> Grid:
    """Cells of the table for a data set; the larger frames have twice the side of the config's."""
    if inputs.features is None:
        check_start(config)
        _check_memory(config)
    small, large = _resolution(config, 1), _resolution(config, 2)
    side = {"small": _side(small), "large": _side(large)}
    # A drawn video is as large as the larger frames, so that these show more.
    drawn = () if config.data.annotations is not None else (f"demo.size={_frame_side(config, 2)}",)
    encoded = features_of_all_seeds(config, inputs, folder=f"{_LARGE}-features", sets=large)
    before = Cell(
        name=f"features of {side['large']}",
        folder=_LARGE,
        stages=("detect",) if encoded else ("extract", "detect"),
        sets=large,
        after=encoded[0].folder if encoded else BASE,
        cost=100,
        is_row=False,
    )
    cells = [*base_cells(config, inputs, detector=True), *encoded, before]
    for (size, augmentation, frozen), (figure, memory) in PAPER.items():
        cells.append(
            Cell(
                name=f"{side[size]}, {augmentation}, frozen {frozen}",
                folder=_folder(size, augmentation, frozen),
                stages=("e2e",),
                sets=(*(large if size == _LARGE else ()), *_training(augmentation, frozen)),
                after=BASE if size == "small" else _LARGE,
                against="" if (size, augmentation, frozen) == ("small", "crop", 2) else _folder("small", "crop", 2),
                paper={} if figure is None or memory is None else {AVERAGE: figure, MEMORY: memory},
                cost=(4 if size == _LARGE else 1) * (5 - frozen),
                memory=True,
            )
        )
    tuned = ("pretrain.source=videos", *large)
    cells += [
        Cell(
            name="fine-tuned encoder",
            folder=f"{_TUNED}-encoder",
            stages=("pretrain", "extract", "detect"),
            sets=tuned,
            cost=200,
            is_row=False,
        ),
        Cell(
            name=f"fine-tuned encoder, {side['large']}, crop, frozen 2",
            folder=_TUNED,
            stages=("e2e",),
            sets=(*tuned, *_training("crop", 2)),
            after=f"{_TUNED}-encoder",
            against=_folder(_LARGE, "crop", 2),
            paper=dict(zip((AVERAGE, MEMORY), PAPER_TUNED)),
            cost=12,
            memory=True,
        ),
    ]
    return Grid(
        name="table7",
        title="Table 7: augmentation, frozen stages, resolution, pretraining",
        of="ActivityNet-1.3 with TSM-R50, frames of 112x112 and 224x224, no gradient sampling",
        cells=without_videos(cells, inputs),
        sets=(*small, *drawn),
        claims=(
            Claim(text="random crops help", left=_folder("small", "crop", 2), right=_folder("small", "none", 2)),
            Claim(
                text="jitter takes from what random crops gain",
                left=_folder("small", "crop", 2),
                right=_folder("small", "crop+jitter", 2),
            ),
            Claim(
                text="training some stages beats a frozen encoder",
                left=_folder("small", "crop", 2),
                right=_folder("small", "crop", 4),
            ),
            Claim(
                text="freezing two stages is better than freezing three",
                left=_folder("small", "crop", 2),
                right=_folder("small", "crop", 3),
            ),
            Claim(
                text="jitter alone gains nothing",
                left=_folder("small", "none", 2),
                right=_folder("small", "jitter", 2),
                within=0.5,
            ),
            Claim(
                text="freezing three stages is better than freezing four",
                left=_folder("small", "crop", 3),
                right=_folder("small", "crop", 4),
            ),
            Claim(
                text="freezing one is about as good as freezing two",
                left=_folder("small", "crop", 1),
                right=_folder("small", "crop", 2),
                within=0.5,
            ),
            Claim(
                text="freezing none is about as good as freezing two",
                left=_folder("small", "crop", 0),
                right=_folder("small", "crop", 2),
                within=0.5,
            ),
            Claim(
                text="larger frames help a frozen encoder",
                left=_folder(_LARGE, "crop", 4),
                right=_folder("small", "crop", 4),
            ),
            Claim(
                text="larger frames help with two stages frozen",
                left=_folder(_LARGE, "crop", 2),
                right=_folder("small", "crop", 2),
            ),
            *(
                Claim(
                    text=f"larger frames, freezing {ours} is better than freezing {theirs}",
                    left=_folder(_LARGE, "crop", ours),
                    right=_folder(_LARGE, "crop", theirs),
                )
                for ours, theirs in ((3, 4), (2, 3))
            ),
            Claim(
                text="without classifying the data set's actions first it is nearly as good",
                left=_folder(_LARGE, "crop", 2),
                right=_TUNED,
                within=0.5,
            ),
            *(
                Claim(
                    text=f"freezing {ours} takes more memory than freezing {theirs}",
                    left=_folder("small", "crop", ours),
                    right=_folder("small", "crop", theirs),
                    column=MEMORY,
                )
                for ours, theirs in ((3, 4), (2, 3), (1, 2), (0, 1))
            ),
            Claim(
                text="larger frames take more memory",
                left=_folder(_LARGE, "crop", 2),
                right=_folder("small", "crop", 2),
                column=MEMORY,
            ),
        ),
        notes=(
            "All gradients reach the encoder; with all four stages frozen the detector alone is trained, and clips are "
            "encoded in micro-batches. Memory: of one video's forward and backward pass, but for that in one graph, "
            "weights and what the optimiser keeps included. "
            "In the paper, the larger frames with one frozen stage ran out of memory.",
        ),
    )


def _training(augmentation: str, frozen: int) -> tuple[str, ...]:
    graph = ("e2e.memory=sgs", "e2e.ratio=0") if frozen == 4 else ("e2e.memory=full",)
    plain: tuple[str, ...] = ("e2e.flip_probability=0", "e2e.rand_augment.operations=0")
    plain += ("e2e.per_video=false",)
    plain += tuple(f"e2e.colour_jitter.{name}=0" for name in ("brightness", "contrast", "saturation", "hue"))
    anew = ("e2e.cache_frozen=0", "e2e.first_pass_cache=maps")  # each epoch draws its own, and memory is the question
    return (*_AUGMENTATIONS[augmentation], *plain, *graph, *anew, f"encoder.frozen_stages={frozen}")


def _check_memory(config: Config) -> None:
    """Refuse what the rows cannot be trained with, before hours are spent on what they go on from.

    Raises
    ------
    EtadError
        Naming the key to set.
    """
    if config.e2e.memory_budget_gib is not None:
        raise EtadError(
            f"e2e.memory_budget_gib={config.e2e.memory_budget_gib:g}: table 7 is trained without gradient sampling, "
            "which alone keeps a budget. Leave it out."
        )
    if config.encoder.adapter != "none":
        raise EtadError(
            f"encoder.adapter={config.encoder.adapter}: table 7 asks how many of the encoder's stages to freeze, and "
            "adapters leave all of them frozen. Set encoder.adapter=none."
        )


def _resolution(config: Config, factor: int) -> tuple[str, ...]:
    width, height = (factor * each for each in crop_size(config.clips.crop))
    resize = config.clips.resize
    if isinstance(resize, int):
        sides = str(max(factor * resize, _margin(min(width, height))))
    else:
        sides = f"[{max(factor * resize[0], _margin(width))}, {max(factor * resize[1], _margin(height))}]"
    return (f"clips.crop=[{width}, {height}]", f"clips.resize={sides}")


def _frame_side(config: Config, factor: int) -> int:
    side = max(config.demo.size, _margin(factor * max(crop_size(config.clips.crop))))
    return side + side % 2  # videos have even sides


def _margin(crop: int) -> int:
    return round(crop * _MARGIN)


def _side(sets: tuple[str, ...]) -> str:
    return sets[0].partition("=")[2].strip("[]").replace(", ", "x")


def _folder(size: str, augmentation: str, frozen: int) -> str:
    return f"{size}-{augmentation.replace('+', '-')}-frozen{frozen}"
