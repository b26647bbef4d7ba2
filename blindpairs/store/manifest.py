"""What a store is to hold: its manifest, the list of its items, and the folder that has both.

    manifest.json   settings (corpus, limits, rows of a part), fingerprint of the corpus, counts, encoders
    plan.parquet    one row an item of the corpus, in order; row group k has the items of part k

The list is written before any image is read, and the manifest after it: a folder is a store only if it has a manifest.
Promises: a manifest that is returned has been checked; the list is only read as the file that was written, or an
InputError names what is wrong with it; writing it holds the items of one part in memory; a store whose corpus move was
interrupted is recognised.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.access import listed, present, remove
from blindpairs.errors import ConfigError, InputError, Refused
from blindpairs.images import Item
from blindpairs.store.parts import FAILURES_FOLDER
from blindpairs.store.verified import explained
from blindpairs.workspace import prepare_folder, read_json, sha256_file, write_json, written_atomically

IMPORTED = "clip-retrieval"  # the spec of imported vectors: no encoder here can produce more of them
MOVED = "moved"  # subfolder of a store: the files of a move in progress
# The fields of Item. Names and types are a file format: releases read each other's stores.
ITEMS = pa.schema(
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


def manifest_path(folder: Path) -> Path:
    """Where the manifest of a store is, for messages."""
    return folder / "manifest.json"


def has_manifest(folder: Path) -> bool:
    """Whether the folder is a store; Refused if the system does not let this process see that."""
    return present(manifest_path(folder))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The checked manifest of a store. InputError if it is damaged, with the commands that can go on without it."""
    path = manifest_path(folder)
    if path.is_dir():
        raise InputError(f"{path} is a folder where a file should be (move it away)")
    try:
        manifest = read_json(path)
        plan, encoders = manifest["plan"], manifest["encoders"]
        # What other code indexes without a check. `items` may be missing, because only `embed` needs it.
        numbers = [plan["parts"], plan.get("items", 0), *(each["dimension"] for each in encoders.values())]
        sound = all(type(number) is int and number >= 0 for number in numbers)
        sound &= isinstance(manifest["settings"], dict) and isinstance(manifest["fingerprint"], str)
    except Refused:
        raise
    except (InputError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise InputError(
            f"{path} is damaged: `embed --overwrite` embeds everything again; `import` takes another --work"
        )
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write or replace the manifest, atomically."""
    write_json(manifest_path(folder), dict(manifest))


def is_imported(manifest: Mapping[str, Any]) -> bool:
    """Whether another tool computed the vectors, so that `embed` cannot add to them."""
    return any(encoder.get("spec") == IMPORTED for encoder in manifest["encoders"].values())


def is_moving(folder: Path) -> bool:
    """Whether an interrupted move left some parts with the old uris of the corpus; `finish_move` completes it."""
    return has_manifest(folder) and has_manifest(folder / MOVED)


def items_path(folder: Path) -> Path:
    """Where the list of items is, for messages."""
    return folder / "plan.parquet"


def write_items(folder: Path, items: Iterable[Item], part_rows: int, sha256: str = "") -> dict[str, Any]:
    """Write the list of items, `part_rows` a part. Returns what the manifest records: `items`, `parts`, `sha256`.

    ConfigError, and nothing written, if `sha256` is given and the file would have another one.
    """
    path, count = items_path(folder), 0
    with written_atomically(path) as aside, pq.ParquetWriter(aside, ITEMS, write_page_checksum=True) as writer:
        block: list[Item] = []  # one part, which becomes one row group: a run reads only the groups of its parts
        for item in items:
            block.append(item)
            count += 1
            if len(block) == part_rows:
                writer.write_table(_table(block), row_group_size=part_rows)
                block = []
        if block:
            writer.write_table(_table(block), row_group_size=part_rows)
        writer.close()  # writes the footer, which the hash has to include
        written = sha256_file(aside)
        if sha256 and written != sha256:
            raise ConfigError(
                f"{path} is missing or damaged: --overwrite embeds everything again (the corpus has changed, and "
                "the list of its images cannot be rebuilt from it)"
            )
    return {"items": count, "parts": -(-count // part_rows), "sha256": written}


def _table(items: Sequence[Item]) -> pa.Table:
    names = [field.name for field in fields(Item)]
    return pa.table({name: [getattr(item, name) for item in items] for name in names}, schema=ITEMS)


def has_items(folder: Path, sha256: str) -> bool:
    """Whether the list of items exists and has this sha256."""
    return present(items_path(folder)) and sha256_file(items_path(folder)) == sha256


def count_items(folder: Path) -> tuple[int, int]:
    """How many items are listed, and in how many parts."""
    with explained(items_path(folder)):
        metadata = pq.read_metadata(items_path(folder))
        return metadata.num_rows, metadata.num_row_groups


def read_items(folder: Path, part: int) -> list[Item]:
    """The items of one part, in order, with or without a row in it."""
    with explained(items_path(folder)), pq.ParquetFile(items_path(folder), page_checksum_verification=True) as file:
        return [Item(**row) for row in file.read_row_group(part).to_pylist()]


def prepare_store(folder: Path) -> None:
    """Make the folders of a store, prove that they can be written, and remove unfinished files of dead runs."""
    prepare_folder(folder)
    prepare_folder(folder / FAILURES_FOLDER)


def remove_store(folder: Path) -> None:
    """Remove all files of a store. It may be killed at any point: what is left is then no store, and no part."""
    for place in (folder, folder / MOVED):
        remove(manifest_path(place))  # first: without it, the other files do not count
        for suffix in (".done.json", ".parquet"):  # markers before the tables that they vouch for
            for path in part_files(place):
                if path.name.endswith(suffix):
                    remove(path)
        for path in (*part_files(place / FAILURES_FOLDER), items_path(place)):
            if path.name.endswith(".parquet"):
                remove(path)


def part_files(folder: Path) -> list[Path]:
    """All files in a folder that are named as those of a part, finished or not."""
    return [path for path in listed(folder) if path.name.startswith("part-")]


def has_markers(folder: Path) -> bool:
    """Whether some part has a done marker, valid or not."""
    return any(path.name.endswith(".done.json") for path in part_files(folder))
