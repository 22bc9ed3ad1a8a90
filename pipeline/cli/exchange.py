"""Commands that take others' labels and features in and hand detections and features out: import and export."""

from __future__ import annotations

import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ...data.errors import nearest
from .options import LastCommand, Number, told_columns

_FILE = click.Path(path_type=Path)

# Kind -> the module and the name of its command.
_IMPORTS = {"labels": ("exchange", "import_labels"), "features": ("exchange_features", "import_features")}
_EXPORTS = {
    "detections": ("exchange", "export_detections"),
    "features": ("exchange_features", "export_features"),
}


class KindCommand(LastCommand):
    """A command whose first word says which of several commands is meant; a chain allows no groups within it."""

    def __init__(self, *args: Any, kinds: dict[str, tuple[str, str]], **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.kinds = kinds

    def kind(self, name: str) -> click.Command:
        """The command of a kind."""
        module, function = self.kinds[name]
        return getattr(import_module(f".{module}", __package__), function)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        if args and args[0] in self.kinds:
            return self.kind(args[0]).make_context(f"{info_name} {args[0]}", args[1:], parent=parent)
        if not args or args[0] not in ("-h", "--help"):
            said = f"'{args[0]}' is no kind.{nearest(args[0], self.kinds)}" if args else "name a kind."
            raise click.UsageError(f"{info_name}: {said} Known: {', '.join(self.kinds)}.")
        return super().make_context(info_name, args, parent=parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the kind's own command, whose context this is."""
        return ctx.command.invoke(ctx) if ctx.command is not self else super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Kinds"):
            formatter.write_dl([(name, self.kind(name).get_short_help_str(80)) for name in self.kinds])
        super().format_options(ctx, formatter)


@click.command("labels", cls=LastCommand)
@click.argument("file", type=_FILE)
@click.option("-o", "--out", type=_FILE, required=True, metavar="FILE", help="Annotations to write.")
@click.option("--layout", help="Form of the labels; found by what the file holds by default.")
@click.option(
    "--column", "columns", multiple=True, metavar="ROLE=NAME", help="Column of a table: video=Clip; repeatable."
)
@click.option("--fps", type=Number(min=0, min_open=True), help="Frames per second, where times are frames.")
@click.option("--subset", default="training", show_default=True, help="Of videos for which the file states none.")
def import_labels(
    file: Path, out: Path, layout: str | None, columns: tuple[str, ...], fps: float | None, subset: str
) -> int:
    """Turn labels of another tool, or a table, into annotations; others that are there are kept beside them.

    \b
    Example:
      etad import labels labels.csv -o annotations.json
    """
    from ...data.errors import counted, printable
    from ...data.files.keep import keeping
    from ...data.importers.labels.read import read_labels
    from ...data.importers.labels.rows import write_annotations
    from ..show.report import table

    _refuse_overwriting(file, out)
    labels = read_labels(file, layout=layout, columns=told_columns(columns), fps=fps)
    with keeping(out):
        write_annotations(out, labels, subset=subset)
    for note in labels.notes:
        click.echo(printable(note))
    without = len(labels.videos) - len(labels.subsets)
    if without:
        click.echo(f"{counted(without, 'video')} without a stated subset: put into '{subset}'; `etad init` splits them")
    if labels.left_out:
        rows = [tuple(printable(text).split(": ", 1)) for text in labels.left_out[:50]]
        click.echo(table(rows, heads=("where", "left out, since it")))
        if len(labels.left_out) > len(rows):
            click.echo(f"and {len(labels.left_out) - len(rows)} more")
    classes = counted(len(labels.classes), "class")
    click.echo(
        f"wrote {out}: {counted(len(labels.videos), 'video')}, {counted(len(labels.rows), 'action')} of {classes}, "
        f"read as {labels.layout}; {len(labels.left_out)} left out"
    )
    click.echo(f"next: etad init -o runs/mine --videos FOLDER --labels {shlex.quote(str(out))}")
    return 1 if labels.left_out else 0


def _refuse_overwriting(file: Path, out: Path) -> None:
    """Refuse to write the result in the place of what it is made from."""
    if out.exists() and file.exists() and out.samefile(file):
        raise click.UsageError(f"-o {out} is the file that is read. Name another one, so that it stays.")


@click.command("detections", cls=LastCommand)
@click.argument("file", type=_FILE)
@click.option(
    "-o", "--out", type=_FILE, required=True, metavar="PLACE", help="File, or folder where each video has one."
)
@click.option("--layout", help="By the suffix of -o by default.")
@click.option("--threshold", type=Number(0, 1), default=0.0, show_default=True, help="Least score.")
@click.option("--fps", type=Number(min=0, min_open=True), help="Frames per second, where times are frames.")
def export_detections(file: Path, out: Path, layout: str | None, threshold: float, fps: float | None) -> int:
    """Turn detections into a table, subtitles, or what BORIS and Label Studio take.

    A file that is there and differs is kept beside the new one, as NAME.before.

    \b
    Example:
      etad export detections runs/demo/detect/detections.json -o detections.csv --threshold 0.3
    """
    from ...data.detections import read_detections
    from ...data.errors import counted, listing
    from ...data.importers.detections.export import above, export_all

    _refuse_overwriting(file, out)
    detections = read_detections(file)
    found, num_files = export_all(detections, out, layout=layout, least_score=threshold, fps=fps)
    click.echo(f"wrote {out}: {counted(found, 'detection')} in {counted(num_files, 'file')}")
    detections = above(detections, threshold)
    reversed_ = detections.is_reversed
    if reversed_.any():
        ids = dict.fromkeys(detections.video_ids[number] for number in detections.video[reversed_].tolist())
        which = f"{counted(int(reversed_.sum()), 'detection')} of {file}"
        click.echo(f"{which}: the end lies before the start ({listing(ids)}). Turn them round.", err=True)
        return 1
    return 0


import_ = KindCommand(
    "import",
    kinds=_IMPORTS,
    help="Take in labels and features of others.\n\n\b\nExample:\n  etad import labels labels.csv -o annotations.json",
)
export = KindCommand(
    "export",
    kinds=_EXPORTS,
    help=(
        "Hand out detections and features in forms of others.\n\n\b\nExample:\n"
        "  etad export detections runs/demo/detect/detections.json -o detections.csv"
    ),
)
globals()["import"] = import_  # a keyword of Python, but what the command is called
