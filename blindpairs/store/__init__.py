"""Embeddings on disk, as an Arrow table that is written part by part and read as columns.

Read in this order: `parts` (what is written, and when it counts), `proof` (what is read is what was written), `store`
(a finished store), `moving` (its corpus lies elsewhere now).
"""

from blindpairs.store.parts import (
    FAILURES,
    IMPORTED,
    METADATA,
    PLAN,
    Failure,
    Part,
    arrow_to_vectors,
    finished,
    plan_size,
    read_failures,
    read_ids,
    read_plan,
    refuse_column_name,
    remove_store,
    vectors_to_arrow,
    write_part,
    write_plan,
)
from blindpairs.store.store import Store, is_moving, read_manifest, summarise

__all__ = [
    "FAILURES",
    "IMPORTED",
    "METADATA",
    "PLAN",
    "Failure",
    "Part",
    "Store",
    "arrow_to_vectors",
    "finished",
    "is_moving",
    "plan_size",
    "read_failures",
    "read_ids",
    "read_manifest",
    "read_plan",
    "refuse_column_name",
    "remove_store",
    "summarise",
    "vectors_to_arrow",
    "write_part",
    "write_plan",
]
