"""`blindpairs index`."""

import json
from typing import Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, progress_bar, say
from blindpairs.workspace import Workspace


@command
def index(
    work: Work = WORK,
    kind: Annotated[str, typer.Option(help="flat, ivf, hnsw, or a FAISS factory string: IVF4096,SQfp16.")] = "ivf",
    encoder: Annotated[str, typer.Option(help="The column of vectors.")] = "clip",
    as_json: Json = False,
) -> None:
    """Build a FAISS index of one encoder's vectors, for `mine --method`; one that is there and fits is kept."""
    from blindpairs.index import Gpus, Making, build_index
    from blindpairs.store import Store

    space = Workspace(work)
    store = Store.open(space.embeddings)
    with progress_bar("index", "vectors") as show:
        file = build_index(
            store,
            encoder,
            space.index,
            kind=kind,
            making=Making(gpus=Gpus.visible(say)),
            progress=show,
        )
    if as_json:
        told = {"schema_version": 1, "path": str(file.path), "reused": file.reused, "reason": file.reason}
        typer.echo(json.dumps(told | {name: file.record[name] for name in ("factory", "rows", "dimension", "bytes")}))
        return
    record = file.record
    typer.echo(f"{file.path}: {record['factory']} of {record['rows']:,} vectors, {record['bytes'] / 1e6:,.1f} MB")
    typer.echo(f"  built: {file.reason}" if file.reason else "  reused: it was built from these embeddings")
