"""`blindpairs import`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, named_folder, progress_bar
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.store.imports import Imported


@command
def import_(
    folder: Annotated[str, typer.Argument(help="What `clip-retrieval inference` wrote: img_emb/ and metadata/.")],
    work: Work = WORK,
    column: Annotated[str, typer.Option(help="What the vectors are called.")] = "clip",
    second: Annotated[
        str, typer.Option(help="NAME=FOLDER: another encoder's vectors of the same images; mining takes two.")
    ] = "",
    read_images: Annotated[
        bool, typer.Option(help="Look for each image at its path, for its id, size and flags.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Take over embeddings that clip-retrieval computed; the same command again resumes."""
    from blindpairs.store.imports import import_clip_retrieval

    other = _named_folder(second)
    with progress_bar("import") as show:
        done = import_clip_retrieval(
            named_folder("FOLDER", folder),
            Workspace(work).embeddings,
            column=column,
            second=other,
            read_images=read_images,
            progress=show,
        )
    if as_json:
        typer.echo(json.dumps({"schema_version": 1, **vars(done), "folder": str(done.folder)}))
    else:
        _print_report(done, [column, *([other[0]] if other else [])])


def _named_folder(text: str) -> tuple[str, Path] | None:
    if not text:
        return None
    name, found, folder = text.partition("=")
    if not found or not name.isidentifier() or not folder:
        raise ConfigError(f"--second {text!r} is not NAME=FOLDER, such as dino=dinov2-output")
    return name, named_folder("--second", folder)


def _print_report(done: "Imported", columns: list[str]) -> None:
    typer.echo(f"{done.folder}: {done.rows:,} images with vectors of {' and '.join(columns)}")
    for label, counts in (("failed", done.failures_by_code), ("flagged", done.flags)):
        if counts:
            typer.echo(f"  {label}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    if done.missing_partitions:
        typer.echo(f"  not there: {done.missing_partitions:,} partitions numbered below the highest")
    if len(columns) == 1:
        typer.echo("  to mine, import a second encoder with it: --second NAME=FOLDER")
