"""Moving a store to the new place of its corpus: rows and failures get new uris, vectors stay byte for byte.

    embeddings/moved/   the new manifest and list of items, and each part until it replaces the old one

First `stage_items`, then `move`, or `drop_items` if nothing has moved. Promises: nothing of the store changes before
`move`; if a run is killed after that, at any point, `finish_move` completes it; `is_moving` recognises such a store.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from blindpairs.access import present, remove
from blindpairs.images import Item
from blindpairs.store.manifest import (
    MOVED,
    items_path,
    manifest_path,
    read_items,
    read_manifest,
    write_items,
    write_manifest,
)
from blindpairs.store.parts import (
    FAILURES_FOLDER,
    METADATA,
    Failure,
    Part,
    failure_table,
    fingerprints,
    part_table,
    write_verified,
)
from blindpairs.store.verified import finished, read_columns, read_failures, read_vectors
from blindpairs.workspace import rename_durably, write_json

LOCATION = ("uri", "uri_bytes")  # the columns that say where the image of a row is


def stage_items(folder: Path, items: Iterable[Item], part_rows: int) -> dict[str, Any]:
    """Write the items with their new uris beside the store. Returns what `write_items` returns."""
    try:
        return write_items(folder / MOVED, items, part_rows)
    finally:
        _remove_empty(folder)  # if an item was not the store's, nothing was written


def drop_items(folder: Path) -> None:
    """Remove staged items: the corpus is still where it was."""
    remove(items_path(folder / MOVED))
    _remove_empty(folder)


def move(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Move the store to the staged items; `manifest` is the new one, which is returned."""
    # The point of no return: from here on the store is between two places, and every run finishes the move first.
    write_manifest(folder / MOVED, manifest)
    return finish_move(folder)


def finish_move(folder: Path) -> dict[str, Any]:
    """Give the rows and failures of every finished part the uris of the staged items. Returns the new manifest.

    A part is written to `moved/` completely, its marker last, before it replaces the old one. The manifest comes last.
    """
    staging = folder / MOVED
    manifest = read_manifest(staging)
    listed = staging if present(items_path(staging)) else folder  # a killed run may have moved the list already
    for number in range(manifest["plan"]["parts"]):
        staged, part = Part(staging, number), Part(folder, number)
        marker = finished(part)
        if marker and not present(staged.marker):
            _stage_part(part, staged, marker, read_items(listed, number))
        if present(staged.marker):
            # The marker last: until then the old one does not fit the new tables, and the part counts as unfinished.
            _put_in_place([(staged.data, part.data), (staged.failures, part.failures), (staged.marker, part.marker)])
    _put_in_place([(path(staging), path(folder)) for path in (items_path, manifest_path)])
    _remove_empty(folder)
    return manifest


def _remove_empty(folder: Path) -> None:
    """Remove the folders of a move that hold nothing."""
    for empty in (folder / MOVED / FAILURES_FOLDER, folder / MOVED):
        with suppress(OSError):  # not empty, or not there
            empty.rmdir()


def _put_in_place(files: Sequence[tuple[Path, Path]]) -> None:
    for staged, path in files:
        if present(staged):  # else a run that was killed has put it in its place
            rename_durably(staged, path)


def _stage_part(part: Part, staged: Part, marker: Mapping[str, Any], items: Sequence[Item]) -> None:
    """Write a part to `moved/` with the uris of these items, unless it already has them."""
    table, failures = read_columns(part.data, METADATA.names), read_failures(part)
    failed = {failure.row for failure in failures}
    kept = [item for row, item in enumerate(items) if row not in failed]
    moved = [_failed_at(failure, items[failure.row]) for failure in failures]
    rows = {name: table[name].to_pylist() for name in METADATA.names}
    uris = {name: [getattr(item, name) for item in kept] for name in LOCATION}
    if moved == failures and uris == {name: rows[name] for name in LOCATION}:
        return
    # The table is built again as embedding builds it, so that a moved store has the bytes of a fresh one.
    vectors = read_vectors(part, marker["columns"])
    write_verified(staged.failures, failure_table(moved), ())
    write_verified(staged.data, part_table(rows | uris, vectors), tuple(vectors))
    write_json(staged.marker, dict(marker) | fingerprints(staged))


def _failed_at(failure: Failure, item: Item) -> Failure:
    """The failure with the uri of `item`, also where its message names the old one."""
    old = failure.uri.removesuffix(item.uri.removeprefix(item.container)) if item.container else failure.uri
    message = failure.message.replace(old, item.container or item.uri)
    return replace(failure, uri=item.uri, uri_bytes=item.uri_bytes, message=message)
