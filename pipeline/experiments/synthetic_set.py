"""The synthetic set of a run: drawn where it is missing, and entered into the config."""

from __future__ import annotations

from pathlib import Path

from ...data.synthetic.dataset import ANNOTATIONS, VIDEOS, SyntheticSpec, check_drawn, make_dataset
from ..config import Config, override, toml_path


def ensure_synthetic_set(config: Config, folder: Path) -> Config:
    """Draw the videos that `config.demo` asks for into a folder; returns the config that names them.

    Raises
    ------
    EtadError
        The folder holds another set.
    """
    make_dataset(folder, _spec(config), workers=config.workers)
    return naming_synthetic_set(config, folder)


def naming_synthetic_set(config: Config, folder: Path) -> Config:
    """The config that names a set which is, or will be, drawn into a folder.

    Raises
    ------
    EtadError
        The folder holds another set.
    """
    check_drawn(folder, _spec(config))
    annotations, videos = folder / ANNOTATIONS, folder / VIDEOS
    return override(config, f"data.annotations={toml_path(annotations)}", f"data.videos={toml_path(videos)}")


def _spec(config: Config) -> SyntheticSpec:
    settings = config.demo
    return SyntheticSpec(
        num_videos=settings.videos,
        validation_share=settings.validation_share,
        size=settings.size,
        fps=settings.fps,
        shortest_seconds=settings.shortest_seconds,
        longest_seconds=settings.longest_seconds,
        difficulty=settings.difficulty,
        seed=config.seed,
    )
