"""Embeddings on disk: written part by part, read as columns. Only this package touches the files of a store.

Read in this order: `store` (a finished store, as its readers see it), `parts` (what is written, and when it counts),
`plan` and `manifest` (what it was asked to hold), `proof` (checks before reading), `pixels` (the images themselves),
`moving` (the corpus has another place now), `imports` (vectors of another tool).
"""

from blindpairs.store.manifest import (
    has_manifest,
    is_imported,
    is_moving,
    manifest_path,
    read_manifest,
    write_manifest,
)
from blindpairs.store.parts import (
    FAILURES,
    METADATA,
    Failure,
    Part,
    finished,
    has_marker,
    has_markers,
    prepare_store,
    read_failures,
    read_ids,
    read_vectors,
    refuse_column_name,
    remove_store,
    summary_of,
    write_part,
)
from blindpairs.store.pixels import images_of, pixels_of
from blindpairs.store.plan import has_plan, plan_path, plan_size, read_items, write_plan
from blindpairs.store.store import Store

__all__ = [
    "FAILURES",
    "METADATA",
    "Failure",
    "Part",
    "Store",
    "finished",
    "has_manifest",
    "has_marker",
    "has_markers",
    "has_plan",
    "images_of",
    "is_imported",
    "is_moving",
    "manifest_path",
    "pixels_of",
    "plan_path",
    "plan_size",
    "prepare_store",
    "read_failures",
    "read_ids",
    "read_items",
    "read_manifest",
    "read_vectors",
    "refuse_column_name",
    "remove_store",
    "summary_of",
    "write_manifest",
    "write_part",
    "write_plan",
]
