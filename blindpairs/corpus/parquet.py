"""Images inside Parquet files, as the Hugging Face hub stores them, read batch by batch.

Promises: of a file only one small batch of one column is held at a time; whatever a cell holds is either image bytes or
a named failure; an address is never fetched, and a path is read only on request and only below the file's own folder.
"""

import bisect
import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from blindpairs.corpus.item import CorpusOptions, Item, changed_at, check_bytes, container_path, printable_uri
from blindpairs.errors import InputError, Undecodable

BATCH_ROWS = 32
BUFFER = 1 << 20  # pages are read through a buffer, not a whole column chunk at once


class NoImageColumn(InputError):
    """A readable Parquet file that holds no images: beside a tar it is its metadata, alone it is a mistake."""


def plan_parquet(path: str, options: CorpusOptions, notes: Counter[str]) -> Iterator[Item]:
    """One item per row. Raises InputError where the file is not Parquet, NoImageColumn where it holds no images."""
    mtime_ns = changed_at(os.stat(path))
    container = printable_uri(path)[0]
    with open_parquet(path) as file:
        column = image_column(path, file.schema_arrow, options)
        # Named in the uri only where it could not be found again without being told.
        suffix = "" if column == _obvious_column(file.schema_arrow, False) else f":{column}"
        cells = _cells(file, column) if options.allow_paths else None
        for row in range(file.metadata.num_rows):
            named = _local_path(path, next(cells)) if cells else None
            if named:
                status = os.stat(named)
                yield Item(*printable_uri(named), "", status.st_size, changed_at(status), 0, "")
            else:
                uri, uri_bytes = printable_uri(f"{path}#{row}{suffix}")
                yield Item(uri, uri_bytes, container, -1, mtime_ns, row, column)
        if not file.metadata.num_rows:
            notes["Parquet files without rows"] += 1


def open_parquet(path: str) -> Any:
    """A pyarrow.parquet.ParquetFile that reads through a small buffer. Raises InputError for what is no Parquet."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER, page_checksum_verification=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())[:200]}") from error


def image_column(path: str, schema: Any, options: CorpusOptions) -> str:
    """The column to read: the one asked for, else `image`, else the only one that can hold images."""
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"
    if options.column:
        if options.column not in schema.names:
            raise InputError(f"{path} has no column {options.column}; columns: {columns}")
        if not _can_hold_images(schema.field(options.column).type, options.allow_paths):
            raise InputError(f"{path}: the column {options.column} cannot hold image bytes; columns: {columns}")
        return options.column
    found = _obvious_column(schema, options.allow_paths)
    if found is None or {"uri", "uri_bytes"} <= set(schema.names):  # the latter: a work folder's own tables
        raise NoImageColumn(
            f"{path}: no column that is plainly the images: name one that holds their bytes with --column (paths and"
            f" addresses are not followed); columns: {columns}"
        )
    return found


def _obvious_column(schema: Any, allow_paths: bool) -> str | None:
    fitting = [field.name for field in schema if _can_hold_images(field.type, allow_paths)]
    if "image" in schema.names:
        return "image" if "image" in fitting else None
    return fitting[0] if len(fitting) == 1 else None


def _can_hold_images(kind: Any, allow_paths: bool) -> bool:
    """Whether an Arrow type holds bytes, directly or as the hub's struct of bytes and path."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and (types.is_null(kind.field(at).type) or _can_hold_images(kind.field(at).type, False))
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return allow_paths
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _cells(file: Any, column: str) -> Iterator[Any]:
    for batch in file.iter_batches(BATCH_ROWS, columns=[column]):
        yield from batch.column(0).to_pylist()


def _local_path(parquet: str, cell: Any) -> str | None:
    """The existing file below the Parquet file's folder that a cell without bytes names, or None."""
    if isinstance(cell, dict):
        cell = None if cell.get("bytes") is not None else cell.get("path")
    if not isinstance(cell, str) or "\0" in cell:
        return None
    root = os.path.realpath(os.path.dirname(parquet))
    path = os.path.realpath(os.path.join(root, cell))
    return path if os.path.commonpath((root, path)) == root and os.path.isfile(path) else None


class _Rows:
    """One column of an open file and the batch last read from it: rows in order cost one pass."""

    def __init__(self, path: str, column: str) -> None:
        self.file = open_parquet(path)
        self.column = column
        self.lock = threading.Lock()
        groups = self.file.metadata.num_row_groups
        self.starts = [0, *itertools.accumulate(self.file.metadata.row_group(g).num_rows for g in range(groups))]
        self.batches: Iterator[Any] = iter(())
        self.first = self.next = 0  # the rows of `batch`: first <= row < next
        self.batch: Any = None

    def cell(self, row: int) -> Any:
        """What a row holds, as a Python value."""
        with self.lock:
            group = bisect.bisect_right(self.starts, row) - 1
            if row < self.first or self.starts[group] >= self.next:  # behind, or groups ahead: nothing to read through
                self._restart(group)
            while row >= self.next:
                self.batch = next(self.batches).column(0)
                self.first, self.next = self.next, self.next + len(self.batch)
            value = self.batch[row - self.first]
            if value.is_valid and hasattr(value, "keys") and "bytes" in value and value["bytes"].is_valid:
                return {"bytes": value["bytes"].as_py()}  # the path beside it is not needed and may be no text
            return value.as_py()

    def _restart(self, group: int) -> None:
        groups = range(group, len(self.starts) - 1)
        self.batches = self.file.iter_batches(BATCH_ROWS, row_groups=groups, columns=[self.column])
        self.first = self.next = self.starts[group]


@lru_cache(maxsize=2)
def _rows(path: str, column: str, mtime_ns: int, process: int) -> _Rows:  # as tar._archive
    return _Rows(path, column)


def read_row(item: Item) -> bytes:
    """The bytes of a planned row, or Undecodable: no_image, path_not_read, too_large, parquet_corrupt."""
    import pyarrow

    try:
        cell: Any = _rows(container_path(item), item.column, item.mtime_ns, os.getpid()).cell(item.offset)
    except InputError as error:
        raise Undecodable("parquet_corrupt", str(error)) from error
    except (pyarrow.ArrowException, OSError, StopIteration, UnicodeDecodeError) as error:
        raise Undecodable("parquet_corrupt", f"the row cannot be read: {' '.join(str(error).split())[:200]}") from error
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, cell)
    if isinstance(data, bytes):
        check_bytes(len(data))
        return data
    if path:
        raise Undecodable("path_not_read", f"the row names {path!r} instead of holding the image's bytes")
    raise Undecodable("no_image", "the row holds no image")


def rows_named(path: str, names: Iterable[str]) -> Iterator[Item]:
    """The items of uris `PATH#ROW` or `PATH#ROW:COLUMN`, in row order; names that fit no row are left out."""
    mtime_ns = changed_at(os.stat(path))
    with open_parquet(path) as file:
        schema, count = file.schema_arrow, file.metadata.num_rows
        asked: list[tuple[int, str, str]] = []
        for name in names:
            digits, _, column = name[len(path) + 1 :].partition(":")
            column = column or _obvious_column(schema, False) or ""
            if digits.isdecimal() and int(digits) < count and column in schema.names:
                asked.append((int(digits), column, name))
    for row, column, name in sorted(asked, key=lambda found: (found[1], found[0])):
        yield Item(*printable_uri(name), printable_uri(path)[0], -1, mtime_ns, row, column)
