"""Embeddings on disk: written part by part, read as columns. Only this package touches the files of a store.

Read in this order: `store` (a finished store, as its readers see it), `parts` (what is written, and when it counts),
`verified` (parts read back), `manifest` (what the store is to hold), `pixels` (the images themselves), `moving` (the
corpus has another place now), `imports` (vectors of another tool: `partitions` are its files), `memory` (where the
vectors that are read are kept).
"""

from blindpairs.store.manifest import (
    count_items,
    has_items,
    has_manifest,
    has_markers,
    is_imported,
    is_moving,
    items_path,
    manifest_path,
    prepare_store,
    read_items,
    read_manifest,
    remove_store,
    write_items,
    write_manifest,
)
from blindpairs.store.parts import FAILURES, METADATA, Failure, Part, refuse_column_name, write_part
from blindpairs.store.pixels import images_of, pixels_of, references
from blindpairs.store.store import Store
from blindpairs.store.verified import finished, has_marker, read_failures, read_ids, read_vectors, summary_of

__all__ = [
    "FAILURES",
    "METADATA",
    "Failure",
    "Part",
    "Store",
    "count_items",
    "finished",
    "has_items",
    "has_manifest",
    "has_marker",
    "has_markers",
    "images_of",
    "is_imported",
    "is_moving",
    "items_path",
    "manifest_path",
    "pixels_of",
    "prepare_store",
    "read_failures",
    "read_ids",
    "read_items",
    "read_manifest",
    "read_vectors",
    "references",
    "refuse_column_name",
    "remove_store",
    "summary_of",
    "write_items",
    "write_manifest",
    "write_part",
]
