"""Folders, WebDataset tars and Parquet files as one stream of images.

Promises: the order depends only on the names; planning reads no image; a planned image can be read in another process,
and either has the bytes that were planned or fails under its own name, so that read + failed = planned. One bad file
among several sources is such a failure; if no source can be used, that is an error before anything is planned. Nothing
is extracted, unpickled, executed or downloaded. Names are strings, not Paths: there may be millions, some not UTF-8.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from blindpairs.errors import InputError, Undecodable
from blindpairs.images import parquet, tar
from blindpairs.images.columns import NoImageColumn, NoImages
from blindpairs.images.item import (
    BROKEN,
    CorpusOptions,
    Item,
    broken_container,
    changed_at,
    check_bytes,
    container_path,
    printable_uri,
    system_name,
)
from blindpairs.images.sources import Entry, kind_of_file, named_entry, refuse_unread, resolve, walk

DEFAULTS = CorpusOptions()


def open_corpus(sources: Sequence[str], options: CorpusOptions = DEFAULTS) -> "Corpus":
    """The corpus that the user named: folders, tars (`{000..012}.tar`), Parquet files, globs, single images.

    Raises InputError for a source that does not exist, for an address, for a column that no Parquet file has, and if
    no source can be used. If only some of several sources cannot be used, they fail when they are read.
    """
    try:
        options.column.encode()
    except UnicodeEncodeError:  # bytes of the command line
        raise InputError(f"--column {options.column!a} is not UTF-8 text in this locale: no file has it") from None
    paths = resolve(sources)
    errors: list[InputError] = []
    tables: list[str] = []
    for path in paths:
        try:
            if _kind_of_source(path) == "parquet":
                tables.append(path)
        except InputError as error:
            errors.append(error)
    table_errors = _unless_one_fits(tables, options)
    errors += table_errors
    # A wrong --column is refused even if other sources can be used: it would find no image in any Parquet file.
    wrong_column = options.column and any(isinstance(error, NoImageColumn) for error in table_errors)
    if wrong_column or len(errors) == len(paths):
        more = len(errors) - 1
        raise InputError(f"{errors[0]}" + (f" ({more:,} more of {len(paths):,} cannot be used either)" if more else ""))
    return Corpus(paths, options)


def _unless_one_fits(tables: Sequence[str], options: CorpusOptions) -> list[InputError]:
    """Why none of these Parquet files can be used; empty as soon as one can, so that usually one footer is read."""
    errors: list[InputError] = []
    for path in tables:
        try:
            parquet.check_parquet(path, options)
        except InputError as error:
            errors.append(error)
        else:
            return []
    return errors


def _kind_of_source(path: str) -> str:
    """`folder`, `tar`, `parquet` or `image`; InputError says why a source is none of them."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                if next(entries, None) is None:
                    raise InputError(f"{path} is an empty folder: no images to read")
            return "folder"
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is a pipe, a socket or a device: name a file or a folder")
        kind = kind_of_file(path)
        if not kind:
            refuse_unread(path)
            what = "is neither a folder, nor a tar, nor a Parquet file, nor an image"
            raise InputError(f"{path} {what if status.st_size else 'is an empty file'}")
        return kind
    except OSError as error:
        reason = "a link that leads nowhere" if os.path.islink(path) else error.strerror
        raise InputError(f"{path} cannot be read: {reason}") from error


class Corpus:
    """The images of one or more sources. `notes` counts what was left out, once `items` has run."""

    def __init__(self, paths: Sequence[str], options: CorpusOptions) -> None:
        self.paths = tuple(paths)
        self.options = options
        self.notes: Counter[str] = Counter()

    def describe(self) -> str:
        """The first source, and how many more there are."""
        more = len(self.paths) - 1
        return printable_uri(self.paths[0])[0] + (f" and {more:,} more" if more else "")

    def fingerprint(self) -> str:
        """64 hexadecimal digits that change when a planned file or container is added, removed or changed.

        A change is one of size or modification time. No container is opened; the only files that are read are those
        whose name does not say whether they are images.
        """
        digest = hashlib.sha256(repr((self.options.column, self.options.allow_paths)).encode())
        for root, entry in self._entries(Counter()):
            # Without the source's own folder, so that a corpus that moves keeps its fingerprint.
            name = os.fsencode(entry.path.removeprefix(root) or os.path.basename(root))
            digest.update(b"%b\0%d %d\n" % (name, entry.size, entry.mtime_ns))
        return digest.hexdigest()

    def items(self) -> Iterator[Item]:
        """Every image, in a fixed order. Raises InputError at the end if there was none."""
        self.notes.clear()  # a run may list the corpus more than once
        empty = True
        for root, entry in self._entries(self.notes):
            for item in self._planned(entry, named=entry.path == root):
                empty = False
                yield item
        if empty:
            seen = ", ".join(f"{count:,} {what}" for what, count in sorted(self.notes.items()))
            raise InputError(f"{self.describe()} holds no images" + (f" ({seen})" if seen else ""))

    def _entries(self, notes: Counter[str]) -> Iterator[tuple[str, Entry]]:
        for root in self.paths:
            if os.path.isdir(root):
                for entry in walk(root, self.options, notes):
                    yield root, entry
            else:
                yield root, named_entry(root)

    def _planned(self, entry: Entry, named: bool) -> Iterator[Item]:
        if not entry.container:
            uri, uri_bytes = printable_uri(entry.path)
            yield Item(uri, uri_bytes, "", entry.size, entry.mtime_ns, 0, "")
            return
        try:
            yield from plan_container(entry.path, self.options, self.notes)
        except (InputError, OSError) as error:  # the failure of one shard does not end the run
            if isinstance(error, NoImages) and not named:  # metadata beside the images, not a failure
                self.notes["Parquet files without images"] += 1
                return
            self.notes["unreadable containers"] += 1
            yield broken_container(entry.path, self.options.column)


def plan_container(path: str, options: CorpusOptions, notes: Counter[str]) -> Iterator[Item]:
    """The images of one tar or Parquet file."""
    if is_parquet(path):
        return parquet.plan_parquet(path, options, notes)
    return tar.plan_tar(path, notes)


def is_parquet(path: str) -> bool:
    """Whether a container is Parquet; else it is a tar. Raises InputError for a kind of file that is not read."""
    kind = kind_of_file(path)
    if not kind:
        refuse_unread(path)
    # A damaged file has no kind. Its name decides which reader says what is wrong with it.
    return kind == "parquet" or (not kind and path.lower().endswith(".parquet"))


def read_item(item: Item, alive: Callable[[], None] = lambda: None) -> bytes:
    """The bytes of one planned image, in any process; `alive` is called while a compressed archive is read up to it.

    Raises Undecodable: missing, changed, io, too_large, not_image, tar_truncated, tar_corrupt, parquet_corrupt,
    no_image_column, no_image, path_not_read.
    """
    if not item.container:
        return _read_file(item)
    path = container_path(item)
    try:
        mtime_ns = changed_at(os.stat(path))  # a changed container has other offsets: nothing is read from it
        if item.offset == BROKEN:
            raise _defect(path, item.column)
        if mtime_ns != item.mtime_ns:
            raise Undecodable("changed", "its container has been changed since it was planned")
        return parquet.read_row(item) if item.column else tar.read_member(item, alive)
    except OSError as error:
        raise _unreadable(error) from error


def _defect(path: str, column: str) -> Undecodable:
    """Why a container could not be read to its end when it was planned."""
    try:
        if not is_parquet(path):
            return tar.tar_defect(path)
        for allow_paths in (False, True):  # the item does not say which it was planned with
            parquet.check_parquet(path, CorpusOptions(column, allow_paths=allow_paths))
    except NoImageColumn as error:
        return Undecodable("no_image_column", str(error))
    except InputError as error:
        return Undecodable("parquet_corrupt" if path.lower().endswith(".parquet") else "not_image", str(error))
    return Undecodable("changed", "the file could not be read when it was planned, and can be now")


def _read_file(item: Item) -> bytes:
    path = system_name(item.uri, item.uri_bytes)
    try:
        # O_NONBLOCK: a FIFO that has replaced the file must not hang the worker.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
            _check_unchanged(os.fstat(file.fileno()), item)  # of the open file: the name may change at any time
            data = file.read()
    except OSError as error:
        if os.path.islink(path):
            raise Undecodable("io", "a link that leads nowhere") from error
        raise _unreadable(error) from error
    if len(data) != item.size:  # written to between the check and the read
        raise Undecodable("changed", "the file was changed while it was read")
    return data


def _check_unchanged(status: os.stat_result, item: Item) -> None:
    if stat.S_ISDIR(status.st_mode):  # a folder is only planned if it could not be listed
        raise Undecodable("io", "a folder that cannot be listed")
    if not stat.S_ISREG(status.st_mode) and changed_at(status) == item.mtime_ns:
        raise Undecodable("io", "a pipe, a socket or a device, not a file")
    if not stat.S_ISREG(status.st_mode) or (status.st_size, changed_at(status)) != (item.size, item.mtime_ns):
        raise Undecodable("changed", "the file has been changed since it was planned")
    check_bytes(item.size)


def _unreadable(error: OSError) -> Undecodable:
    code = "missing" if isinstance(error, FileNotFoundError) else "io"
    return Undecodable(code, f"cannot be read: {error.strerror or error}")
