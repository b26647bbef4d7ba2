"""Embeddings on disk: parts of Parquet, each with a done marker and a table of failures.

    embeddings/manifest.json          what was asked: corpus, limits, encoders with preprocessing and weight hashes
    embeddings/plan.parquet           every image of the corpus, in order; row group k is part k
    embeddings/part-00000.parquet     one row an image, one column of float16 unit vectors an encoder
    embeddings/part-00000.done.json   written last: sizes, hashes, counts. A part without it does not exist
    embeddings/failures/part-00000.parquet   the images that could not be used, and why

This module alone reads and writes them. Promises: a part with a valid marker is complete and unchanged since it was
written; what is read is proven to be what the marker vouches for, or the file and the command that remakes it are
named; rows + failed rows = planned rows in every part; rows stand in the plan's order, and the same input gives the
same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.access import listed, present, removed
from blindpairs.errors import ConfigError, InputError, Refused
from blindpairs.images import Item
from blindpairs.store.proof import check_hashes, check_sizes, column_names, read_columns, read_marker
from blindpairs.workspace import sha256_file, stamp, write_json, written_atomically

IMPORTED = "clip-retrieval"  # the spec of encoders whose vectors were taken over: nobody here can add to them
METADATA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("uri_bytes", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("phash", pa.uint64()),
        ("flags", pa.list_(pa.string())),
    ]
)
MOVED = "moved"  # within a store: what is on its way to new places, the manifest of it first and last
PLACE = ("uri", "uri_bytes")  # what a row says of where its image lies
# What a store consists of, in the order in which it is removed.
FAILURES = pa.schema(
    [
        ("row", pa.int32()),  # within the part's slice of the plan
        ("uri", pa.string()),
        ("uri_bytes", pa.binary()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("image_id", pa.string()),  # null where the bytes could not be read
    ]
)
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


@dataclass(frozen=True)
class Failure:
    """One planned image that has no row in the store. `row` counts within the part's slice of the plan."""

    row: int
    uri: str
    uri_bytes: bytes | None
    code: str
    message: str
    image_id: str | None = None


@dataclass(frozen=True)
class Part:
    """The paths of one part."""

    folder: Path
    number: int

    @property
    def name(self) -> str:
        """The part's file name without a suffix."""
        return f"part-{self.number:05d}"

    @property
    def data(self) -> Path:
        """The rows."""
        return self.folder / f"{self.name}.parquet"

    @property
    def marker(self) -> Path:
        """Its existence means that rows and failures are complete."""
        return self.folder / f"{self.name}.done.json"

    @property
    def failures(self) -> Path:
        """The images without a row."""
        return self.folder / "failures" / f"{self.name}.parquet"

    @property
    def files(self) -> dict[str, Path]:
        """Both by the words that the marker has for them."""
        return {"data": self.data, "failures": self.failures}


def refuse_column_name(name: str) -> None:
    """Raise ConfigError for what no column of vectors can be called: a table finds its columns by name."""
    if not name.isidentifier():
        raise ConfigError(f"a column of vectors cannot be called {name!r}: use letters, digits and _, such as clip")
    if name in METADATA.names:
        raise ConfigError(f"a column of vectors cannot be called {name!r}, which every store has: choose another name")


def vectors_to_arrow(vectors: np.ndarray[Any, Any]) -> pa.FixedSizeListArray:
    """(N, D) float16 as one Arrow column."""
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def arrow_to_vectors(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """One Arrow column as (N, D) float16, without a copy where it has one chunk."""
    dimension = column.type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, dimension) for chunk in column.chunks]
    whole: np.ndarray[Any, Any] = np.empty((0, dimension), np.float16)
    if chunks:
        whole = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return whole


def write_plan(path: Path, items: Iterator[Item], part_rows: int, sha256: str = "") -> int:
    """Write every item of the corpus, one row group a part, holding one part at a time. Returns how many.

    ConfigError, and nothing written, where the file does not have the `sha256` that is asked for.
    """
    names = [field.name for field in fields(Item)]
    count = 0
    with written_atomically(path) as aside, pq.ParquetWriter(aside, PLAN, write_page_checksum=True) as writer:
        block: list[Item] = []
        for item in items:
            block.append(item)
            count += 1
            if len(block) == part_rows:
                writer.write_table(_item_table(block, names), row_group_size=part_rows)
                block = []
        if block:
            writer.write_table(_item_table(block, names), row_group_size=part_rows)
        writer.close()
        if sha256 and sha256_file(aside) != sha256:
            raise ConfigError(
                f"{path} is missing or damaged: --overwrite embeds everything again, and the corpus as it is now does "
                "not give that plan"
            )
    return count


def _item_table(items: Sequence[Item], names: Sequence[str]) -> pa.Table:
    return pa.table({name: [getattr(item, name) for item in items] for name in names}, schema=PLAN)


def read_plan(path: Path, part: int) -> list[Item]:
    """The items of one part."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return [Item(**row) for row in file.read_row_group(part).to_pylist()]


def plan_size(path: Path) -> tuple[int, int]:
    """How many items a plan holds, and for how many parts."""
    metadata = pq.read_metadata(path)
    return metadata.num_rows, metadata.num_row_groups


def part_table(rows: Mapping[str, Sequence[Any]], vectors: Mapping[str, np.ndarray[Any, Any]]) -> pa.Table:
    """The rows of a part as it is written: the METADATA columns, then one column of vectors an encoder."""
    table = pa.table(dict(rows), schema=METADATA)
    for name, matrix in vectors.items():
        table = table.append_column(name, vectors_to_arrow(matrix))
    return table


def read_ids(part: Part, marker: Mapping[str, Any]) -> dict[int, str]:
    """Row within the part's slice of the plan -> image_id, of a finished part's images whose bytes could be read."""
    failures = read_failures(part)
    failed = {failure.row for failure in failures}
    rows = (row for row in range(marker["rows"] + marker["failed"]) if row not in failed)
    ids = dict(zip(rows, read_columns(part.data, ["image_id"])["image_id"].to_pylist(), strict=True))
    return ids | {failure.row: failure.image_id for failure in failures if failure.image_id}


def read_failures(part: Part) -> list[Failure]:
    """The images without a row, and why."""
    return [Failure(**row) for row in read_columns(part.failures, FAILURES.names).to_pylist()]


def write_part(
    part: Part,
    rows: Mapping[str, Sequence[Any]],
    vectors: Mapping[str, np.ndarray[Any, Any]],
    failures: Sequence[Failure],
    columns: Mapping[str, str],
) -> dict[str, Any]:
    """Commit one part: failures, then rows, each read back before its rename, then the marker.

    `rows` holds the METADATA columns, `vectors` one (rows, D) unit matrix an encoder, `columns` the digest of each
    encoder's description. Returns the marker's content.
    """
    write_verified(part.failures, failure_table(failures), ())
    write_verified(part.data, part_table(rows, vectors), tuple(vectors))
    marker = stamp() | {
        **_counts(rows["flags"], failures),
        "columns": dict(columns),
        **fingerprints(part),
    }
    write_json(part.marker, marker)
    return marker


def failure_table(failures: Sequence[Failure]) -> pa.Table:
    """The failures of a part as they are written."""
    return pa.table({name: [getattr(row, name) for row in failures] for name in FAILURES.names}, schema=FAILURES)


def fingerprints(part: Part) -> dict[str, dict[str, Any]]:
    """What a marker says of both files of a part, by which they are known again."""
    return {
        "sha256": {"data": sha256_file(part.data), "failures": sha256_file(part.failures)},
        "bytes": {"data": part.data.stat().st_size, "failures": part.failures.stat().st_size},
    }


def _counts(flags: Sequence[Sequence[str]], failures: Sequence[Failure]) -> dict[str, Any]:
    """What a marker counts of a part: the flags of every row, and its failures."""
    codes = sorted({failure.code for failure in failures})
    names = sorted({flag for image in flags for flag in image})
    return {
        "rows": len(flags),
        "failed": len(failures),
        "failures_by_code": {code: sum(failure.code == code for failure in failures) for code in codes},
        "flags": {name: sum(name in image for image in flags) for name in names},
    }


def write_verified(path: Path, table: pa.Table, vectors: tuple[str, ...]) -> None:
    """Write a table and read it back before it gets its name: a writer that wrote bad bytes must not commit them."""
    plain = [name for name in table.column_names if name not in vectors]
    with written_atomically(path) as aside:
        # Vectors are noise to a compressor and to a dictionary: both only cost time on them.
        pq.write_table(
            table,
            aside,
            use_dictionary=[name for name in plain if name in ("code", "message")],
            compression={**dict.fromkeys(plain, "zstd"), **{f"{name}.list.element": "none" for name in vectors}},
            write_page_checksum=True,
            row_group_size=max(1, len(table)),
        )
        back = pq.read_table(aside, page_checksum_verification=True)
        if back.num_rows != table.num_rows or back.schema != table.schema:
            raise InputError(f"{path} could not be read back as it was written: check the disk, then run again")
        for name in vectors:
            _check_unit(path, name, arrow_to_vectors(back[name]))


def _check_unit(path: Path, name: str, vectors: np.ndarray[Any, Any]) -> None:
    sample = vectors[:: max(1, len(vectors) // 64)].astype(np.float32)
    norms = np.linalg.norm(sample, axis=1)
    if not np.all(np.abs(norms - 1) < 0.01):  # also catches NaN
        raise InputError(f"the {name} vectors written to {path} are not unit vectors: check the disk, then run again")


def remove_store(folder: Path) -> None:
    """Remove what this package wrote. The manifest goes first: without it nothing else counts, wherever this stops."""
    for place in (folder, folder / MOVED):
        removed(place / "manifest.json")
        for suffix in (".done.json", ".parquet"):
            for path in listed(place):
                if path.name.startswith("part-") and path.name.endswith(suffix):
                    removed(path)
        for path in (*listed(place / "failures"), place / "plan.parquet"):
            if path.match("part-*.parquet") or path.name == "plan.parquet":
                removed(path)


def finished(part: Part) -> dict[str, Any] | None:
    """The marker of a part that is complete and unchanged; None where it has to be (re)done.

    Raises Refused where that cannot be told: a file that may not be read is no reason to make it again.
    """
    if not present(part.marker):
        return None
    try:
        marker = read_marker(part.marker)
        check_sizes(part.files, marker)
        check_hashes(part.files, marker)
        counted = _counts(read_columns(part.data, ["flags"])["flags"].to_pylist(), read_failures(part))
        columns = set(column_names(part.data)) - set(METADATA.names)
    except Refused:
        raise
    except InputError:
        return None
    return marker if marker == marker | counted and columns == marker["columns"].keys() else None
