"""`blindpairs import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, counted, named_folder, print_json, progress_bar
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.store.imports import Imported


@command
def import_(
    folder: Annotated[
        str, typer.Argument(help="Output folder of `clip-retrieval inference`, with img_emb/ and metadata/.")
    ],
    column: Annotated[
        str, typer.Option(rich_help_panel="Encoders", help="Name for the encoder of these vectors.")
    ] = "clip",
    second: Annotated[
        str,
        typer.Option(
            rich_help_panel="Encoders",
            help="NAME=FOLDER: a second encoder's vectors of the same images. Mining needs two encoders.",
        ),
    ] = "",
    read_images: Annotated[
        bool,
        typer.Option(rich_help_panel="Corpus", help="Read each image at its path to get its id, size and flags."),
    ] = True,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Import embeddings that clip-retrieval computed. The same command again resumes."""
    from blindpairs.store.imports import import_clip_retrieval

    other = _named_folder(second)  # before the import begins, which may take hours
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
        print_json({**vars(done), "folder": str(done.folder)})
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
        if any(counts.values()):
            typer.echo(f"  {label}: {counted(counts)}")
    if done.missing_partitions:
        typer.echo(f"  missing: {done.missing_partitions:,} partitions numbered below the highest")
    if len(columns) == 1:
        typer.echo("  to mine, import a second encoder with it: --second NAME=FOLDER")
