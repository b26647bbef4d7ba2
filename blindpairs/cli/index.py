"""`blindpairs index`."""

from typing import Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, print_json, progress_bar, say
from blindpairs.workspace import Workspace


@command
def index(
    encoder: Annotated[
        str, typer.Option(rich_help_panel="Encoders", help="The encoder whose vectors to index.")
    ] = "clip",
    kind: Annotated[
        str,
        typer.Option(rich_help_panel="Encoders", help="flat, ivf, hnsw, or a FAISS factory string: IVF4096,SQfp16."),
    ] = "ivf",
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Build a FAISS index of one encoder's vectors for `mine --method`, or reuse one that is up to date."""
    from blindpairs.index import BuildOptions, Gpus, build_index
    from blindpairs.store import Store

    space = Workspace(work)
    store = Store.open(space.embeddings)
    with progress_bar("index", "vectors") as show:
        file = build_index(
            store,
            encoder,
            space.index,
            kind=kind,
            options=BuildOptions(gpus=Gpus.visible(say)),  # no --device: GPUs only run the k-means of the build
            progress=show,
        )
    if as_json:
        fields = {"path": str(file.path), "reused": file.reused, "reason": file.reason}
        print_json(fields | {name: file.record[name] for name in ("factory", "rows", "dimension", "bytes")})
        return
    record = file.record
    typer.echo(f"{file.path}: {record['factory']} of {record['rows']:,} vectors, {record['bytes'] / 1e6:,.1f} MB")
    typer.echo(f"  built: {file.reason}" if file.reason else "  reused: it was built from these embeddings")
