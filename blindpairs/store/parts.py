"""The parts of a store: tables of vectors, each with a done marker and a table of failures.

    embeddings/manifest.json          what was asked for; see manifest.py
    embeddings/plan.parquet           every item of the corpus in order; see plan.py
    embeddings/part-00000.parquet     one row an image: METADATA, then a column of float16 unit vectors an encoder
    embeddings/part-00000.done.json   written last: sizes, hashes, counts. A part without it does not exist
    embeddings/failures/part-00000.parquet   the images without a row, and why

Only store/ reads and writes these files. Promises: a part with a valid marker is complete and unchanged; what is read
has been checked against the marker, or the error names the file and the command that repairs it; rows + failed rows =
planned items in every part; rows keep the order of the plan; the same input gives the same bytes.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.access import listed, present, removed
from blindpairs.errors import ConfigError, InputError, Refused
from blindpairs.store.manifest import MOVED, manifest_path
from blindpairs.store.plan import plan_path
from blindpairs.store.proof import check_hashes, check_sizes, column_names, read_columns, read_marker
from blindpairs.workspace import prepare_folder, sha256_file, stamp, write_json, written_atomically

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
FAILURES_FOLDER = "failures"
LOCATION = ("uri", "uri_bytes")  # the columns that say where the image of a row is
FAILURES = pa.schema(
    [
        ("row", pa.int32()),  # index among the planned items of the part
        ("uri", pa.string()),
        ("uri_bytes", pa.binary()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("image_id", pa.string()),  # null where the bytes could not be read
    ]
)


@dataclass(frozen=True)
class Failure:
    """One planned item that has no row in the store. `row` is its index among the planned items of the part."""

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
    """ConfigError where a column of vectors cannot have this name, because it must be unique in the table."""
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


def part_table(rows: Mapping[str, Sequence[Any]], vectors: Mapping[str, np.ndarray[Any, Any]]) -> pa.Table:
    """The table of a part: the METADATA columns, then one column of vectors an encoder."""
    table = pa.table(dict(rows), schema=METADATA)
    for name, matrix in vectors.items():
        table = table.append_column(name, vectors_to_arrow(matrix))
    return table


def read_ids(part: Part) -> dict[int, str]:
    """Row -> image_id for the rows of a finished part; `row` as in Failure. Failed items are in `read_failures`."""
    ids = read_columns(part.data, ["image_id"])["image_id"].to_pylist()
    failed = {failure.row for failure in read_failures(part)}
    rows = (row for row in range(len(ids) + len(failed)) if row not in failed)
    return dict(zip(rows, ids, strict=True))


def read_vectors(part: Part, names: Collection[str]) -> dict[str, np.ndarray[Any, Any]]:
    """The vectors of a finished part by column name, each (rows, D) float16."""
    table = read_columns(part.data, list(names))
    return {name: arrow_to_vectors(table[name]) for name in names}


def read_failures(part: Part) -> list[Failure]:
    """The failures of a finished part, in order of row."""
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
    """The table of failures of a part."""
    return pa.table({name: [getattr(row, name) for row in failures] for name in FAILURES.names}, schema=FAILURES)


def fingerprints(part: Part) -> dict[str, dict[str, Any]]:
    """The hashes and sizes of both tables of a part, as the marker records them."""
    return {
        "sha256": {"data": sha256_file(part.data), "failures": sha256_file(part.failures)},
        "bytes": {"data": part.data.stat().st_size, "failures": part.failures.stat().st_size},
    }


def _counts(flags: Sequence[Sequence[str]], failures: Sequence[Failure]) -> dict[str, Any]:
    """The counts that a marker records: rows, failures by code, rows by flag."""
    codes = sorted({failure.code for failure in failures})
    names = sorted({flag for image in flags for flag in image})
    return {
        "rows": len(flags),
        "failed": len(failures),
        "failures_by_code": {code: sum(failure.code == code for failure in failures) for code in codes},
        "flags": {name: sum(name in image for image in flags) for name in names},
    }


def write_verified(path: Path, table: pa.Table, vectors: tuple[str, ...]) -> None:
    """Write a table, and read it back before it gets its final name: badly written bytes must not be committed."""
    plain = [name for name in table.column_names if name not in vectors]
    with written_atomically(path) as aside:
        # Vectors do not compress and do not repeat: compression and dictionaries would only cost time.
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


def prepare_store(folder: Path) -> None:
    """Make the folders of a store, prove that they can be written, and remove what dead runs left half written."""
    prepare_folder(folder)
    prepare_folder(folder / FAILURES_FOLDER)


def remove_store(folder: Path) -> None:
    """Remove all files of a store, the manifest first: without it the others do not count, wherever this stops."""
    for place in (folder, folder / MOVED):
        removed(manifest_path(place))
        for suffix in (".done.json", ".parquet"):
            for path in part_files(place):
                if path.name.endswith(suffix):
                    removed(path)
        for path in (*part_files(place / FAILURES_FOLDER), plan_path(place)):
            if path.name.endswith(".parquet"):
                removed(path)


def part_files(folder: Path) -> list[Path]:
    """All files in a folder that are named as those of a part, finished or not."""
    return [path for path in listed(folder) if path.name.startswith("part-")]


def has_marker(part: Part) -> bool:
    """Whether a part has a done marker, valid or not."""
    return present(part.marker)


def has_markers(folder: Path) -> bool:
    """Whether some part has a done marker, valid or not."""
    return any(path.name.endswith(".done.json") for path in part_files(folder))


def summary_of(parts: Iterable[Part]) -> dict[str, Any]:
    """`summarise` over the markers of finished parts."""
    return summarise([read_marker(part.marker) for part in parts])


def summarise(markers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the counts of some markers: `rows`, `failed`, `failures_by_code`, `flags`."""
    total: dict[str, Any] = {"rows": 0, "failed": 0, "failures_by_code": {}, "flags": {}}
    for marker in markers:
        total["rows"] += marker["rows"]
        total["failed"] += marker["failed"]
        for kind in ("failures_by_code", "flags"):
            for name, count in marker[kind].items():
                total[kind][name] = total[kind].get(name, 0) + count
    return total


def finished(part: Part) -> dict[str, Any] | None:
    """The marker of a part that is complete and unchanged; None where the part has to be (re)made.

    Refused where a file cannot be opened: that is no proof of damage, and no reason to make the part again.
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
