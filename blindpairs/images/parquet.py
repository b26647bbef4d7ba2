"""Images inside Parquet files, as the Hugging Face hub stores them, read batch by batch.

Promises: only one small batch of one column of a file is in memory at a time; any cell gives either image bytes or a
named failure; an address is never fetched, and a path is read only on request and only below the file's own folder.
"""

import bisect
import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from blindpairs.errors import InputError, Undecodable
from blindpairs.images.columns import image_column, kind_of_column, obvious_column, steps
from blindpairs.images.item import CorpusOptions, Item, changed_at, check_bytes, container_path, of_utf8, printable_uri

BATCH_ROWS = 32  # rows are whole image files: a batch is some megabytes
BUFFER = 1 << 20  # pages are read through a buffer, not a whole column chunk at once


def plan_parquet(path: str, options: CorpusOptions, notes: Counter[str]) -> Iterator[Item]:
    """One item per row. Raises InputError if the file is not Parquet, NoImageColumn if it has no image column."""
    mtime_ns = changed_at(os.stat(path))
    container = printable_uri(path)[0]
    column = check_parquet(path, options)
    with open_parquet(path) as file:
        # The uri names the column only if the file alone does not tell which column it is.
        suffix = "" if column == obvious_column(file.schema_arrow, False) else f":{column}"
        cells = _cells(file, column) if options.allow_paths else None  # else planning reads the footer alone
        for row in range(file.metadata.num_rows):
            named = _local_path(path, next(cells, None)) if cells else None
            if named:  # a plain file from here on, which is read and checked as one
                status = os.stat(named)
                yield Item(*printable_uri(named), "", status.st_size, changed_at(status), 0, "")
            else:
                uri, uri_bytes = printable_uri(f"{path}#{row}{of_utf8(suffix)}")
                yield Item(uri, uri_bytes, container, -1, mtime_ns, row, column)
        if not file.metadata.num_rows:
            notes["Parquet files without rows"] += 1


def check_parquet(path: str, options: CorpusOptions) -> str:
    """The name of the image column; InputError or NoImageColumn for a file that cannot be planned."""
    with open_parquet(path) as file:
        groups = range(file.metadata.num_row_groups)
        if file.metadata.num_rows != sum(file.metadata.row_group(group).num_rows for group in groups):
            raise InputError(f"{path} cannot be read as Parquet: its footer gives two numbers of rows")
        _refuse_joined(path, file.metadata)
        return image_column(path, file.schema_arrow, options)


def _refuse_joined(path: str, metadata: Any) -> None:
    """Raise InputError for files joined with `cat`: by the offsets of the last footer, rows of the first are read."""
    groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
    chunks = (group.column(column) for group in groups for column in range(metadata.num_columns))
    ends = ((chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size for chunk in chunks)
    with open(path, "rb") as file:
        # Between the last page and the footer are only indexes. Files that were joined in front lengthen this gap, and
        # where two files meet, the end magic of one is followed by the start magic of the next.
        footer = file.seek(-8, os.SEEK_END) - int.from_bytes(file.read(4), "little")
        gap = footer - max(ends, default=4)
        file.seek(0)
        ahead = b""
        while gap > 0 and (part := file.read(min(BUFFER, gap + 8))):
            if b"PAR1PAR1" in ahead[-7:] + part:
                raise InputError(f"{path} cannot be read as Parquet: it is several files joined; name each by itself")
            ahead, gap = part, gap - len(part)


def open_parquet(path: str) -> Any:
    """A pyarrow.parquet.ParquetFile that reads through a small buffer. Raises InputError if the file is not Parquet."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.OSFile(os.fsencode(path))  # a name as text would have to be UTF-8
        return pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER, page_checksum_verification=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())[:200]}") from error


def _cells(file: Any, column: str) -> Iterator[Any]:
    """The cells of all rows, as Python values. They end at the first damage: reading reports it, row by row."""
    import pyarrow

    try:
        for batch in file.iter_batches(BATCH_ROWS, columns=[column]):
            yield from (_python(value) for value in _values(batch, column))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError):
        return


def _values(batch: Any, column: str) -> Any:
    """The Arrow values of a column, or of a field inside of one.

    The column is looked up by name, because Arrow takes a dot in a name as a path and may read other columns as well.
    """
    from pyarrow import compute

    first, *inside = steps(batch.schema, column)
    values = batch.column(batch.schema.get_field_index(first))
    for name in inside:
        values = compute.struct_field(values, name)  # null where the struct is
    return values


def _python(value: Any) -> Any:
    """A cell as a Python value. The path beside an image's bytes is left out: it may be no valid text."""
    if value.is_valid and hasattr(value, "keys") and "bytes" in value and value["bytes"].is_valid:
        return {"bytes": value["bytes"].as_py()}
    return value.as_py()


def _local_path(parquet: str, cell: Any) -> str | None:
    """The path that a cell without bytes names, if it is a file below the Parquet file's own folder; else None."""
    if isinstance(cell, dict):
        cell = None if cell.get("bytes") is not None else cell.get("path")
    if not isinstance(cell, str) or "\0" in cell:
        return None
    # Links are resolved first: neither `..` nor a link in the folder may lead out of it.
    root = os.path.realpath(os.path.dirname(parquet))
    path = os.path.realpath(os.path.join(root, of_utf8(cell)))
    return path if os.path.commonpath((root, path)) == root and os.path.isfile(path) else None


class _Rows:
    """One column of an open file, and the last batch that was read: reading rows in order takes one pass."""

    def __init__(self, path: str, column: str) -> None:
        self.file = open_parquet(path)
        self.column = column
        self.lock = threading.Lock()
        groups = self.file.metadata.num_row_groups
        # The first row of each row group, and the number of all rows.
        self.starts = [0, *itertools.accumulate(self.file.metadata.row_group(g).num_rows for g in range(groups))]
        self.batches: Iterator[Any] = iter(())
        self.first = self.next = 0  # the rows of `batch`: first <= row < next
        self.batch: Any = None

    def cell(self, row: int) -> Any:
        """What a row holds, as a Python value."""
        with self.lock:
            group = bisect.bisect_right(self.starts, row) - 1
            # Start again if the row is behind the batch, or in a later group, so that nothing is read in between.
            if row < self.first or self.starts[group] >= self.next:
                self._restart(group)
            while row >= self.next:
                self.batch = _values(next(self.batches), self.column)
                self.first, self.next = self.next, self.next + len(self.batch)
            return _python(self.batch[row - self.first])

    def _restart(self, group: int) -> None:
        groups = range(group, len(self.starts) - 1)
        self.batches = self.file.iter_batches(BATCH_ROWS, row_groups=groups, columns=[self.column])
        self.first = self.next = self.starts[group]


@lru_cache(maxsize=2)
def _rows(path: str, column: str, mtime_ns: int, process: int) -> _Rows:  # keys as in tar._archive
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
    """The items of uris `PATH#ROW` or `PATH#ROW:COLUMN`, by column and row; uris that fit no row are left out."""
    mtime_ns = changed_at(os.stat(path))
    with open_parquet(path) as file:
        schema, count = file.schema_arrow, file.metadata.num_rows
        usual = obvious_column(schema, False) or ""
        asked: list[tuple[int, str, str]] = []  # (row, column, uri)
        for name in names:
            digits, _, column = os.fsencode(name[len(path) + 1 :]).decode(errors="replace").partition(":")
            column = column or usual
            if digits.isdecimal() and int(digits) < count and kind_of_column(schema, column) is not None:
                asked.append((int(digits), column, name))
    for row, column, name in sorted(asked, key=lambda found: (found[1], found[0])):
        yield Item(*printable_uri(name), printable_uri(path)[0], -1, mtime_ns, row, column)
