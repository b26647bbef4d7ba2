"""Checks of a store's files before they are read: marker, size, hash, and the checksum of every Parquet page.

Promises: damage is an InputError that names the file and the fault in one line; a file that the system refuses to open
is Refused, never called damaged. Parquet footers have no checksum, so callers check the hash before reading a table.
"""

import errno
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.access import reading
from blindpairs.errors import InputError
from blindpairs.workspace import read_json, sha256_file


def read_marker(path: Path) -> dict[str, Any]:
    """The done marker of a part; InputError where its content is not that of a marker."""
    marker = read_json(path)
    groups = [marker.get(name) for name in ("columns", "failures_by_code", "flags", "sha256", "bytes")]
    if all(isinstance(group, dict) for group in groups):
        counts = [*marker["failures_by_code"].values(), *marker["flags"].values()]
        numbers = [marker.get("rows"), marker.get("failed"), *counts, *marker["bytes"].values()]
        files = [marker[name].keys() == {"data", "failures"} for name in ("sha256", "bytes")]
        if all(files) and all(type(number) is int and number >= 0 for number in numbers):
            return marker
    raise InputError(f"{path} is damaged (a marker has other fields)")


def check_sizes(files: Mapping[str, Path], marker: Mapping[str, Any]) -> None:
    """InputError where a file of a part has another size than its marker says; `files` maps kind to path."""
    for kind, path in files.items():
        with reading(path):
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "")
        if status.st_size != marker["bytes"][kind]:
            raise InputError(f"{path} is damaged (it has {status.st_size:,} bytes, not {marker['bytes'][kind]:,})")


def check_hashes(files: Mapping[str, Path], marker: Mapping[str, Any]) -> None:
    """InputError where a file of a part has another hash than its marker says; `files` maps kind to path."""
    for kind, path in files.items():
        if sha256_file(path) != marker["sha256"][kind]:
            raise InputError(f"{path} is damaged (it is not the file that was committed)")


def column_names(path: Path) -> list[str]:
    """The column names of a table."""
    with explained(path):
        return list(pq.read_schema(path).names)


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of one of our tables, the checksum of every page verified; InputError where it is damaged."""
    with explained(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        lacking = [name for name in columns if name not in file.schema_arrow.names]
        if lacking:
            raise InputError(f"{path} is damaged (it has no column {lacking[0]})")
        return file.read(list(columns))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn Arrow's errors about a file into InputError for damage, or Refused where the system refuses to read it."""
    try:
        with reading(path):
            try:
                yield
            except OSError as error:
                if error.errno is not None:
                    raise
                raise pa.ArrowInvalid(str(error)) from error  # raised by Arrow itself, for invalid bytes
    except pa.ArrowException as error:
        said = (str(error).splitlines() or ["no reason given"])[0][:120]
        raise InputError(f"{path} is damaged ({said})") from error


def read_rows(path: Path, columns: Sequence[str], rows: int) -> pa.Table:
    """Columns of a table; InputError where it does not have `rows` rows."""
    table = read_columns(path, columns)
    if len(table) != rows:
        raise InputError(f"{path} is damaged (it has {len(table):,} rows, not {rows:,})")
    return table
