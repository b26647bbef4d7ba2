"""A store whose corpus lies elsewhere now: rows and failures get their new places, vectors stay byte for byte.

    embeddings/moved/   plan.parquet and manifest.json of the new places, and each part until it takes the old one's

Promises: wherever a run is killed, the next one goes on; a store half of which has moved is told as such.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from blindpairs.access import present
from blindpairs.images import Item
from blindpairs.store.parts import (
    METADATA,
    MOVED,
    PLACE,
    Failure,
    Part,
    arrow_to_vectors,
    failure_table,
    fingerprints,
    finished,
    part_table,
    read_failures,
    read_plan,
    write_verified,
)
from blindpairs.store.proof import read_columns
from blindpairs.store.store import read_manifest
from blindpairs.workspace import put, write_json


def finish_move(folder: Path) -> dict[str, Any]:
    """Give rows and failures of every finished part the places of the plan in `moved/`, and its manifest to the store.

    Vectors stay byte for byte. A part is written aside whole, its marker last, before it takes the old one's place, so
    that wherever a run is killed the next one goes on here. The manifest comes in last. Returns it.
    """
    aside = folder / MOVED
    manifest = read_manifest(aside)
    plan = next(path for path in (aside / "plan.parquet", folder / "plan.parquet") if present(path))
    for number in range(manifest["plan"]["parts"]):
        staged, part = Part(aside, number), Part(folder, number)
        marker = finished(part)
        if marker and not present(staged.marker):
            _stage_part(part, staged, marker, read_plan(plan, number))
        if present(staged.marker):
            _take([(staged.data, part.data), (staged.failures, part.failures), (staged.marker, part.marker)])
    _take([(aside / name, folder / name) for name in ("plan.parquet", "manifest.json")])
    tidy_move(folder)
    return manifest


def tidy_move(folder: Path) -> None:
    """Remove the folders of a move where nothing is left in them."""
    for empty in (folder / MOVED / "failures", folder / MOVED):
        with suppress(OSError):  # not empty, or not there
            empty.rmdir()


def _take(files: Sequence[tuple[Path, Path]]) -> None:
    for aside, path in files:
        if present(aside):  # else it was taken before a kill
            put(aside, path)


def _stage_part(part: Part, staged: Part, marker: Mapping[str, Any], items: Sequence[Item]) -> None:
    """Write a part aside with other places, where it has not got them yet."""
    table, failures = read_columns(part.data, (*METADATA.names, *marker["columns"])), read_failures(part)
    failed = {failure.row for failure in failures}
    kept = [item for row, item in enumerate(items) if row not in failed]
    moved = [_failed_at(failure, items[failure.row]) for failure in failures]
    rows = {name: table[name].to_pylist() for name in METADATA.names}
    places = {name: [getattr(item, name) for item in kept] for name in PLACE}
    if moved == failures and places == {name: rows[name] for name in PLACE}:
        return
    # The metadata is built anew, as embedding builds it, so that a moved store has the bytes of a fresh one.
    vectors = {name: arrow_to_vectors(table[name]) for name in marker["columns"]}
    write_verified(staged.failures, failure_table(moved), ())
    write_verified(staged.data, part_table(rows | places, vectors), tuple(vectors))
    write_json(staged.marker, dict(marker) | fingerprints(staged))


def _failed_at(failure: Failure, item: Item) -> Failure:
    """The failure at its new place, which its message may name."""
    old = failure.uri.removesuffix(item.uri.removeprefix(item.container)) if item.container else failure.uri
    message = failure.message.replace(old, item.container or item.uri)
    return replace(failure, uri=item.uri, uri_bytes=item.uri_bytes, message=message)
