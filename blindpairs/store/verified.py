"""Reading parts back: nothing is returned before marker, size, hash and the checksum of every Parquet page agree.

Promises: damage is an InputError that names the file and the fault in one line; a file that the system refuses to open
is Refused, never called damaged. Parquet footers have no checksum, so callers check the hash before reading a table.
"""

import errno
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.access import present, reading
from blindpairs.errors import InputError, Refused
from blindpairs.store.parts import FAILURES, METADATA, Failure, Part, arrow_to_vectors, part_counts
from blindpairs.workspace import read_json, sha256_file


def has_marker(part: Part) -> bool:
    """Whether a part has a done marker, valid or not."""
    return present(part.marker)


def finished(part: Part) -> dict[str, Any] | None:
    """The marker of a part that is complete and unchanged; None if the part has to be made, or made again.

    Raises Refused if a file cannot be opened: that does not prove damage, so the part is not made again.
    """
    if not present(part.marker):
        return None
    try:
        marker = read_marker(part.marker)
        check_sizes(part.files, marker)
        check_hashes(part.files, marker)
        # The hashes prove the tables, but nothing proves the marker itself: its counts are compared with the tables.
        counted = part_counts(read_columns(part.data, ["flags"])["flags"].to_pylist(), read_failures(part))
        columns = set(column_names(part.data)) - set(METADATA.names)
    except Refused:
        raise
    except InputError:
        return None
    return marker if marker == marker | counted and columns == marker["columns"].keys() else None


def read_ids(part: Part) -> dict[int, str]:
    """Row -> image_id for the rows of a finished part; `row` as in Failure. Failed items are in `read_failures`."""
    ids = read_columns(part.data, ["image_id"])["image_id"].to_pylist()
    # The table has only the items that did not fail, in order: the n-th id belongs to the n-th item without a failure.
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


def read_marker(path: Path) -> dict[str, Any]:
    """The done marker of a part; InputError if its content is not that of a marker."""
    marker = read_json(path)
    # Every field that other code indexes is checked here, so that a damaged marker is never a KeyError.
    groups = [marker.get(name) for name in ("columns", "failures_by_code", "flags", "sha256", "bytes")]
    if all(isinstance(group, dict) for group in groups):  # the values of `columns` are compared, never indexed
        counts = [*marker["failures_by_code"].values(), *marker["flags"].values()]
        numbers = [marker.get("rows"), marker.get("failed"), *counts, *marker["bytes"].values()]
        files = [marker[name].keys() == {"data", "failures"} for name in ("sha256", "bytes")]
        if all(files) and all(type(number) is int and number >= 0 for number in numbers):
            return marker
    raise InputError(f"{path} is damaged (a marker has other fields)")


def check_sizes(files: Mapping[str, Path], marker: Mapping[str, Any]) -> None:
    """InputError if a file of a part has another size than its marker says; `files` is `Part.files`."""
    # Cheap, so that a store is checked when it is opened. Hashes wait until a part is read.
    for kind, path in files.items():
        with reading(path):
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "")  # `reading` makes the sentence of it
        if status.st_size != marker["bytes"][kind]:
            raise InputError(f"{path} is damaged (it has {status.st_size:,} bytes, not {marker['bytes'][kind]:,})")


def check_hashes(files: Mapping[str, Path], marker: Mapping[str, Any]) -> None:
    """InputError if a file of a part has another hash than its marker says; `files` is `Part.files`."""
    for kind, path in files.items():
        if sha256_file(path) != marker["sha256"][kind]:
            raise InputError(f"{path} is damaged (it is not the file that was committed)")


def column_names(path: Path) -> list[str]:
    """The column names of a table."""
    with explained(path):
        return list(pq.read_schema(path).names)


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of a table of the store, with the checksum of every page verified; InputError if it is damaged."""
    with explained(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        lacking = [name for name in columns if name not in file.schema_arrow.names]
        if lacking:
            raise InputError(f"{path} is damaged (it has no column {lacking[0]})")
        return file.read(list(columns))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn Arrow's errors about a file into InputError for damage, or Refused if this process may not read it."""
    try:
        with reading(path):
            try:
                yield
            except OSError as error:
                if error.errno is not None:
                    raise
                # Arrow also raises OSError for invalid bytes, but without a number: those come from the system only.
                raise pa.ArrowInvalid(str(error)) from error
    except pa.ArrowException as error:
        reason = (str(error).splitlines() or ["no reason given"])[0][:120]
        raise InputError(f"{path} is damaged ({reason})") from error


def read_rows(path: Path, columns: Sequence[str], rows: int) -> pa.Table:
    """Columns of a table; InputError if it does not have `rows` rows."""
    table = read_columns(path, columns)
    if len(table) != rows:
        raise InputError(f"{path} is damaged (it has {len(table):,} rows, not {rows:,})")
    return table
