"""The parts of a store, and how one is committed: a table of vectors, a table of failures, and a done marker.

    embeddings/manifest.json          what was asked for; see manifest.py
    embeddings/plan.parquet           every item of the corpus in order; see manifest.py
    embeddings/part-00000.parquet     one row an image: METADATA, then a column of float16 unit vectors an encoder
    embeddings/part-00000.done.json   written last: sizes, hashes, counts. A part without it does not exist
    embeddings/failures/part-00000.parquet   the images without a row, and why

Only store/ reads and writes these files; `verified` reads parts. Promises: a part with a valid marker is complete and
unchanged; rows + failures = items in every part; rows keep the order of the items; the same input gives the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.errors import ConfigError, InputError
from blindpairs.workspace import sha256_file, stamp, write_json, written_atomically

# The columns of every part, before its vectors.
METADATA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("uri_bytes", pa.binary()),  # null where the uri is UTF-8
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("phash", pa.uint64()),
        ("flags", pa.list_(pa.string())),
    ]
)
FAILURES_FOLDER = "failures"
FAILURES = pa.schema(
    [
        ("row", pa.int32()),  # index among the items of the part
        ("uri", pa.string()),
        ("uri_bytes", pa.binary()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("image_id", pa.string()),  # null where the bytes could not be read
    ]
)


@dataclass(frozen=True)
class Failure:
    """One item that has no row in the store. `row` is its index among the items of the part."""

    row: int
    uri: str
    uri_bytes: bytes | None
    code: str
    message: str
    image_id: str | None = None


@dataclass(frozen=True)
class Part:
    """One numbered part of a store, and the paths of its files."""

    folder: Path
    number: int

    @property
    def name(self) -> str:
        """The file name without a suffix."""
        return f"part-{self.number:05d}"

    @property
    def data(self) -> Path:
        """The table of rows."""
        return self.folder / f"{self.name}.parquet"

    @property
    def marker(self) -> Path:
        """The done marker: its existence means that rows and failures are complete."""
        return self.folder / f"{self.name}.done.json"

    @property
    def failures(self) -> Path:
        """The table of the images without a row."""
        return self.folder / FAILURES_FOLDER / f"{self.name}.parquet"

    @property
    def files(self) -> dict[str, Path]:
        """Both tables, by the names that the marker uses for them."""
        return {"data": self.data, "failures": self.failures}


def refuse_column_name(name: str) -> None:
    """ConfigError if a column of vectors cannot have this name, because it stands beside the METADATA columns."""
    if not name.isidentifier():
        raise ConfigError(f"a column of vectors cannot be called {name!r}: use letters, digits and _, such as clip")
    if name in METADATA.names:
        raise ConfigError(f"a column of vectors cannot be called {name!r}, which every store has: choose another name")


def vectors_to_arrow(vectors: np.ndarray[Any, Any]) -> pa.FixedSizeListArray:
    """(N, D) float16 as one Arrow column of lists of length D."""
    # Row-major and contiguous, so that Arrow's flat values are the matrix: reading back needs no copy.
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def arrow_to_vectors(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """One Arrow column as (N, D) float16, without a copy where it has one chunk."""
    dimension = column.type.list_size
    # `flatten`, not `values`: a chunk may be a slice, and only `flatten` respects its offset.
    chunks = [chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, dimension) for chunk in column.chunks]
    whole: np.ndarray[Any, Any] = np.empty((0, dimension), np.float16)
    if chunks:
        whole = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return whole


def part_table(rows: Mapping[str, Sequence[Any]], vectors: Mapping[str, np.ndarray[Any, Any]]) -> pa.Table:
    """The table of a part: the METADATA columns, then one column of vectors an encoder."""
    table = pa.table(dict(rows), schema=METADATA)
    for name, matrix in vectors.items():
        table = table.append_column(name, vectors_to_arrow(matrix))
    return table


def write_part(
    part: Part,
    rows: Mapping[str, Sequence[Any]],
    vectors: Mapping[str, np.ndarray[Any, Any]],
    failures: Sequence[Failure],
    columns: Mapping[str, str],
) -> dict[str, Any]:
    """Commit one part: failures, then rows, each read back before its rename, then the marker. Returns the marker.

    `rows` holds the METADATA columns, `vectors` one (rows, D) unit matrix an encoder, `columns` the digest of each
    encoder's description.
    """
    # The order is the commit protocol: a run that is killed before the marker leaves tables that do not count.
    write_verified(part.failures, failure_table(failures), ())
    write_verified(part.data, part_table(rows, vectors), tuple(vectors))
    marker = stamp() | {
        **part_counts(rows["flags"], failures),
        "columns": dict(columns),
        **fingerprints(part),
    }
    write_json(part.marker, marker)
    return marker


def failure_table(failures: Sequence[Failure]) -> pa.Table:
    """The table of failures of a part."""
    return pa.table({name: [getattr(row, name) for row in failures] for name in FAILURES.names}, schema=FAILURES)


def fingerprints(part: Part) -> dict[str, dict[str, Any]]:
    """The hashes and sizes of both tables of a part, as the marker records them."""
    return {
        "sha256": {"data": sha256_file(part.data), "failures": sha256_file(part.failures)},
        "bytes": {"data": part.data.stat().st_size, "failures": part.failures.stat().st_size},
    }


def part_counts(flags: Sequence[Sequence[str]], failures: Sequence[Failure]) -> dict[str, Any]:
    """The counts that a marker records: rows, failures by code, rows by flag. `flags` has those of each row."""
    codes = sorted({failure.code for failure in failures})
    names = sorted({flag for image in flags for flag in image})
    return {
        "rows": len(flags),
        "failed": len(failures),
        "failures_by_code": {code: sum(failure.code == code for failure in failures) for code in codes},
        "flags": {name: sum(name in image for image in flags) for name in names},
    }


def write_verified(path: Path, table: pa.Table, vectors: tuple[str, ...]) -> None:
    """Write a table, and read it back before it gets its final name: badly written bytes must not be committed.

    `vectors` names the columns of unit vectors.
    """
    plain = [name for name in table.column_names if name not in vectors]
    with written_atomically(path) as aside:
        # Vectors do not compress and do not repeat: compression and dictionaries would only cost time.
        pq.write_table(
            table,
            aside,
            use_dictionary=[name for name in plain if name in ("code", "message")],
            compression={**dict.fromkeys(plain, "zstd"), **{f"{name}.list.element": "none" for name in vectors}},
            write_page_checksum=True,
            row_group_size=max(1, len(table)),  # one group: its vectors come back as one chunk, without a copy
        )
        back = pq.read_table(aside, page_checksum_verification=True)
        if back.num_rows != table.num_rows or back.schema != table.schema:
            raise InputError(f"{path} could not be read back as it was written: check the disk, then run again")
        for name in vectors:
            _check_unit(path, name, arrow_to_vectors(back[name]))


def _check_unit(path: Path, name: str, vectors: np.ndarray[Any, Any]) -> None:
    # Some 64 rows, spread over the part: float32, because squares of float16 would lose the digits that are compared.
    sample = vectors[:: max(1, len(vectors) // 64)].astype(np.float32)
    norms = np.linalg.norm(sample, axis=1)
    if not np.all(np.abs(norms - 1) < 0.01):  # also catches NaN
        raise InputError(f"the {name} vectors written to {path} are not unit vectors: check the disk, then run again")
