"""The plan file of a store: every item of the corpus in order, written before any image is read.

    plan.parquet   one row an item; row group k holds the items of part k

Promises: writing holds the items of one part in memory; a plan is only read as the file that was written, or an
InputError names what is wrong with it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.access import present
from blindpairs.errors import ConfigError
from blindpairs.images import Item
from blindpairs.store.proof import explained
from blindpairs.workspace import sha256_file, written_atomically

PLAN = pa.schema(
    [
        ("uri", pa.string()),
        ("uri_bytes", pa.binary()),
        ("container", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("offset", pa.int64()),
        ("column", pa.string()),
    ]
)


def plan_path(folder: Path) -> Path:
    """Where the plan of a store is, for messages."""
    return folder / "plan.parquet"


def write_plan(folder: Path, items: Iterable[Item], part_rows: int, sha256: str = "") -> dict[str, Any]:
    """Write the items, `part_rows` a part. Returns what the manifest records: `items`, `parts`, `sha256`.

    ConfigError, and nothing written, where `sha256` is given and the file would have another one.
    """
    path, count = plan_path(folder), 0
    with written_atomically(path) as aside, pq.ParquetWriter(aside, PLAN, write_page_checksum=True) as writer:
        block: list[Item] = []
        for item in items:
            block.append(item)
            count += 1
            if len(block) == part_rows:
                writer.write_table(_table(block), row_group_size=part_rows)
                block = []
        if block:
            writer.write_table(_table(block), row_group_size=part_rows)
        writer.close()
        written = sha256_file(aside)
        if sha256 and written != sha256:
            raise ConfigError(
                f"{path} is missing or damaged: --overwrite embeds everything again (the corpus has changed, and "
                "the plan cannot be rebuilt from it)"
            )
    return {"items": count, "parts": -(-count // part_rows), "sha256": written}


def _table(items: Sequence[Item]) -> pa.Table:
    names = [field.name for field in fields(Item)]
    return pa.table({name: [getattr(item, name) for item in items] for name in names}, schema=PLAN)


def has_plan(folder: Path, sha256: str) -> bool:
    """Whether the plan of a store is there and has this sha256."""
    return present(plan_path(folder)) and sha256_file(plan_path(folder)) == sha256


def plan_size(folder: Path) -> tuple[int, int]:
    """How many items and how many parts the plan has."""
    with explained(plan_path(folder)):
        metadata = pq.read_metadata(plan_path(folder))
        return metadata.num_rows, metadata.num_row_groups


def read_items(folder: Path, part: int) -> list[Item]:
    """The planned items of one part, in order."""
    with explained(plan_path(folder)), pq.ParquetFile(plan_path(folder), page_checksum_verification=True) as file:
        return [Item(**row) for row in file.read_row_group(part).to_pylist()]
