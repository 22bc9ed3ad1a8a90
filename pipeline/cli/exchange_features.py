"""Features of others in, features out."""

from __future__ import annotations

from pathlib import Path

import click

from .options import LastCommand

_FILE = click.Path(path_type=Path)


@click.command("features", cls=LastCommand)
@click.argument("source", type=_FILE)
@click.option("-o", "--out", "cache", type=_FILE, required=True, help="Feature cache to write.")
@click.option("--fps", type=float, help="Frames per second that the features were made from.")
@click.option("--stride", type=float, help="Frames from one snippet to the next.")
@click.option("--clip-frames", type=int, help="Frames that a snippet is made of.")
@click.option("--offset", type=float, default=0.0, help="First frame of the first snippet; 0 by default.")
@click.option("--rescaled", is_flag=True, help="Snippets share the whole duration evenly, as BMN's 100 do.")
@click.option("--annotations", type=_FILE, help="ActivityNet JSON that states durations.")
@click.option("--encoder", default="external", help="Name of what made them, for the cache to state.")
@click.option("--prefix", default="", help="What stands before the id in names.")
@click.option("--suffix", default="", help="What stands after the id in names.")
@click.option("--channels-first", is_flag=True, help="Arrays are [C, T].")
def import_features(
    source: Path,
    cache: Path,
    fps: float | None,
    stride: float | None,
    clip_frames: int | None,
    offset: float,
    rescaled: bool,
    annotations: Path | None,
    encoder: str,
    prefix: str,
    suffix: str,
    channels_first: bool,
) -> int:
    """Make a feature cache of .npy, .npz, .pkl, .csv or HDF5 files, for `detect`.

    SOURCE is a folder of files of one video each, or one file of all videos (.npz, .pkl, .h5). Arrays are [T, C].

    \b
    Example:
      etad import features i3d -o runs/t14/features.h5 --fps 30 --stride 4 --clip-frames 16
    """
    from ...data.annotations import read_annotations
    from ...data.errors import counted
    from ...data.importers.features.importing import import_features as run_import
    from ...data.importers.features.timing import snippet_timing
    from ..show.report import table

    timing = snippet_timing(
        fps=fps, stride_frames=stride, clip_frames=clip_frames, offset_frames=offset, rescaled=rescaled
    )
    report = run_import(
        source,
        cache,
        timing=timing,
        annotations=read_annotations(annotations) if annotations else None,
        encoder=encoder,
        prefix=prefix,
        suffix=suffix,
        channels_first=channels_first,
    )
    for note in report.notes:
        click.echo(note)
    if report.failed:
        rows = [(video_id, file.name, what) for video_id, file, what in report.failed]
        click.echo(table(rows, heads=("video", "file", "why it is left out")))
    what = f"{counted(len(report.videos), 'video')}, {counted(report.channels, 'channel')}, {report.store_dtype}"
    click.echo(f"wrote {report.path}: {what}, encoder {encoder}")
    return 1 if report.failed else 0


@click.command("features", cls=LastCommand)
@click.argument("cache", type=_FILE)
@click.option("-o", "--out", type=_FILE, required=True, help="Folder (npy) or file (tsp) to write.")
@click.option(
    "--layout",
    type=click.Choice(["npy", "tsp"]),
    default="npy",
    help="npy: a folder with one file a video; tsp: HDF5 with one data set a video.",
)
def export_features(cache: Path, out: Path, layout: str) -> int:
    """Write a feature cache as .npy files, or as HDF5 as TSP publishes it.

    \b
    Example:
      etad export features runs/t14/features.h5 -o features --layout npy
    """
    from ...data.cache.cache import FeatureCache
    from ...data.errors import counted
    from ...data.importers.features.exporting import export_features as run_export

    with FeatureCache(cache) as opened:
        for note in opened.reading_notes():
            click.echo(note)
        report = run_export(opened, out, layout=layout)
    click.echo(f"wrote {report.path}: {counted(report.num_videos, 'video')}")
    if report.again:
        click.echo(f"import them again with {report.again}")
    else:
        click.echo("where the snippets stand differs from video to video, and these files do not say it")
    return 0
