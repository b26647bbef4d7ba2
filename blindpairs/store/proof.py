"""What is read of a store is proven first: that it is what the marker of its part vouches for.

Promises: damage is an InputError that names the file and what is wrong with it in a line, and a refusal of the system
is Refused; no byte of a table is handed to Parquet's footer reader, which has no checksum, by those who check first.
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
    """A marker; InputError where it is none of ours."""
    marker = read_json(path)
    groups = [marker.get(name) for name in ("columns", "failures_by_code", "flags", "sha256", "bytes")]
    if all(isinstance(group, dict) for group in groups):
        counts = [*marker["failures_by_code"].values(), *marker["flags"].values()]
        numbers = [marker.get("rows"), marker.get("failed"), *counts, *marker["bytes"].values()]
        files = [marker[name].keys() == {"data", "failures"} for name in ("sha256", "bytes")]
        if all(files) and all(type(number) is int and number >= 0 for number in numbers):
            return marker
    raise InputError(f"{path} is damaged (it does not say what a marker says)")


def check_sizes(files: Mapping[str, Path], marker: Mapping[str, Any]) -> None:
    """InputError where a file of a part, by its kind, is not as long as its marker says."""
    for kind, path in files.items():
        with reading(path):
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "")
        if status.st_size != marker["bytes"][kind]:
            raise InputError(f"{path} is damaged (it has {status.st_size:,} bytes, not {marker['bytes'][kind]:,})")


def check_hashes(files: Mapping[str, Path], marker: Mapping[str, Any]) -> None:
    """InputError where a file of a part, by its kind, is not the one that its marker vouches for."""
    for kind, path in files.items():
        if sha256_file(path) != marker["sha256"][kind]:
            raise InputError(f"{path} is damaged (it is not the file that was committed)")


def column_names(path: Path) -> list[str]:
    """The columns of a table."""
    with _explained(path):
        return list(pq.read_schema(path).names)


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of one of our tables, every page checked; InputError where it is damaged."""
    with _explained(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        lacking = [name for name in columns if name not in file.schema_arrow.names]
        if lacking:
            raise InputError(f"{path} is damaged (it has no column {lacking[0]})")
        return file.read(list(columns))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What Arrow says of a file, as a sentence: the system's refusals are told apart from damage."""
    try:
        with reading(path):
            try:
                yield
            except OSError as error:
                if error.errno is not None:
                    raise
                raise pa.ArrowInvalid(str(error)) from error  # Arrow's own, of bytes that make no sense
    except pa.ArrowException as error:
        said = (str(error).splitlines() or ["no reason given"])[0][:120]
        raise InputError(f"{path} is damaged ({said})") from error


def read_rows(path: Path, columns: Sequence[str], rows: int) -> pa.Table:
    """Columns of a table that has so many rows; InputError where it has not."""
    table = read_columns(path, columns)
    if len(table) != rows:
        raise InputError(f"{path} is damaged (it has {len(table):,} rows, not {rows:,})")
    return table
