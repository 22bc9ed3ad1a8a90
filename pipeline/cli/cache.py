"""Commands on files: the feature cache's verify and merge, and weights."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from .options import LastCommand

_FILE = click.Path(path_type=Path)


@click.command(cls=LastCommand)
@click.argument("cache", type=_FILE)
@click.option("--repair", is_flag=True, help="Move what is bad aside, so that extraction makes it again.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(cache: Path, repair: bool, as_json: bool) -> int:
    """Check a feature cache: digests, shapes, numbers, completeness, index.

    \b
    Example:
      etad verify runs/demo/features.h5
    """
    from ...data.cache.cache import FeatureCache
    from ...data.cache.cache import verify as find_problems
    from ...data.errors import counted
    from ..show.report import table

    found = find_problems(cache, repair=repair)
    problems, notes = [each for each in found if not each.is_note], [each for each in found if each.is_note]
    rows = [
        (problem.kind, problem.video_id or "-", problem.detail, str(problem.moved_to or "-")) for problem in problems
    ]
    if as_json:
        names = ("kind", "video", "detail", "moved_to")
        notes_only = {"notes": [note.detail for note in notes]} if notes else {}
        click.echo(json.dumps({"problems": [dict(zip(names, row)) for row in rows], **notes_only}))
    elif rows:
        click.echo(table(rows, heads=("problem", "video", "what was found", "moved to")))
        hint = "" if repair else "; `--repair` moves what is bad aside"
        click.echo(f"{counted(len(rows), 'problem')} in {cache}{hint}")
    else:
        cached = FeatureCache(cache)
        click.echo(f"{cache}: {counted(len(cached), 'video')}, all sound")
        said = [f"{cache}: {note.detail}" for note in notes]
        for line in (*said, *(line for line in cached.reading_notes() if line not in said)):
            click.echo(line)
    return 1 if problems else 0


@click.command(cls=LastCommand)
@click.argument("sources", nargs=-1, type=_FILE)
@click.option("--into", "cache", type=_FILE, required=True, help="Cache to make or extend.")
def merge(sources: tuple[Path, ...], cache: Path) -> int:
    """Join the shards of an extraction, and other caches, into one packed cache.

    \b
    Example:
      etad merge --into runs/demo/features.h5
    """
    from ...data.cache.cache import FeatureCache
    from ...data.cache.cache import merge as join
    from ...data.errors import counted
    from ..manifest import note_merge
    from ..run_folder import RunFolder

    begun = datetime.now(UTC)
    path = join(cache, sources)
    joined = FeatureCache(path)
    run = RunFolder(path.parent)
    if path == run.cache and run.config.exists():
        note_merge(run, begun, joined.digest)
    click.echo(f"wrote {path}: {counted(len(joined), 'video')}")
    for note in joined.reading_notes():
        click.echo(note)
    return 0


@click.command(cls=LastCommand)
@click.argument("file", type=_FILE)
def weights(file: Path) -> int:
    """Say what a weights file is, which encoder it fits and how much of it it covers.

    \b
    Example:
      etad weights runs/demo/pretrain/encoder.pt
    """
    from ...extract.weights.load import describe

    click.echo(describe(file))
    return 0
