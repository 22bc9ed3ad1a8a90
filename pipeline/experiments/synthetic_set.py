"""The synthetic set of a run: drawn where it is missing, and entered into the config."""

from __future__ import annotations

from pathlib import Path

from ...data.synthetic.dataset import SyntheticSpec, make_dataset
from ..config import Config, override, toml_path


def ensure_synthetic_set(config: Config, folder: Path) -> Config:
    """Draw the videos that `config.demo` asks for into a folder; returns the config that names them."""
    settings = config.demo
    spec = SyntheticSpec(
        num_videos=settings.videos,
        validation_share=settings.validation_share,
        size=settings.size,
        fps=settings.fps,
        shortest_seconds=settings.shortest_seconds,
        longest_seconds=settings.longest_seconds,
        difficulty=settings.difficulty,
        seed=config.seed,
    )
    path = make_dataset(folder, spec, workers=config.workers)
    return override(config, f"data.annotations={toml_path(path)}", f"data.videos={toml_path(path.parent / 'videos')}")
