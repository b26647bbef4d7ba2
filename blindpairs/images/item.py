"""One planned image, and what became of it: where its bytes are, and an Image or a failure.

Planned means listed, before any image is read. An Item is small, picklable, and enough to read the image in another
process. A container that cannot be read to its end is an item too, so that planned = read + failed still holds.
"""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from blindpairs.errors import Undecodable

# Anything larger is no photograph; it is refused before any of it is read.
MAX_IMAGE_BYTES = 256 * 1024 * 1024
BROKEN = -1  # the offset of an item that stands for the failure of a container


@dataclass(frozen=True, slots=True)
class Item:
    """One planned image of a corpus. Size and time are those of the listing: a change since then is a failure."""

    uri: str  # absolute path, or CONTAINER#member, or CONTAINER#row; \xNN for bytes that are not UTF-8
    uri_bytes: bytes | None  # the uri's exact bytes, only where it is not UTF-8
    container: str  # the tar or Parquet file, written as the uri is; "" for a plain file. See container_path
    size: int  # bytes of the image; -1 where it is known only after reading (Parquet)
    mtime_ns: int  # of the file or the container
    offset: int  # tar: where the member's data starts (after decompression); Parquet: row; plain file: 0
    column: str  # Parquet: name of the image column


@dataclass(frozen=True)
class Image:
    """One usable image. `pixels` holds (3, S, S) uint8 for each preprocess, valid until the next image is asked for."""

    image_id: str
    width: int
    height: int
    phash: int
    flags: tuple[str, ...]
    pixels: tuple[np.ndarray[Any, Any], ...] = ()
    kind: str = ""  # what its first bytes say it is, see `header.sniff`; "" where it was not decoded


@dataclass(frozen=True)
class Failed:
    """One image that cannot be used. `image_id` is None where not even its bytes could be read."""

    code: str
    message: str
    image_id: str | None = None


Outcome = Image | Failed


@dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is read. `column` names the image column of Parquet files; "" lets it be found.

    Folders in `exclude` are not entered: the work folder may lie inside the corpus. `allow_paths` also reads images
    that a Parquet file names by path, below that file's own folder; addresses are never fetched.
    """

    column: str = ""
    follow_symlinks: bool = False
    allow_paths: bool = False
    exclude: tuple[str, ...] = ()


def printable_uri(name: str) -> tuple[str, bytes | None]:
    """(uri, uri_bytes) of a path as os.fsdecode gives it: \\xNN for bytes that are not UTF-8, and then the exact bytes.

    The result depends on the bytes of the path alone, so that a run in another locale can read what is stored.
    """
    exact = os.fsencode(name)
    try:
        return exact.decode(), None
    except UnicodeDecodeError:
        return exact.decode(errors="backslashreplace"), exact


def system_name(uri: str, uri_bytes: bytes | None) -> str:
    """The path of which `printable_uri` made the two, as os functions of this process take it."""
    return os.fsdecode(uri.encode() if uri_bytes is None else uri_bytes)


def of_utf8(text: str) -> str:
    """Text from inside a file (UTF-8, with surrogates for other bytes), decoded as paths are in this process."""
    return os.fsdecode(text.encode(errors="surrogateescape"))


def container_path(item: Item) -> str:
    """The path of the container in the file system. An item does not store it: its columns are UTF-8 text."""
    if item.uri_bytes is None:
        return system_name(item.container, None)
    parts = os.fsdecode(item.uri_bytes).split("#")
    return "#".join(parts[: item.container.count("#") + 1])  # escapes hold no #


def changed_at(status: os.stat_result) -> int:
    """The modification time in nanoseconds, clipped to the 64 bits of the plan (the year 2262)."""
    return max(-(2**63), min(status.st_mtime_ns, 2**63 - 1))


def check_bytes(size: int) -> None:
    """Raise Undecodable for more bytes than one image may have."""
    if size > MAX_IMAGE_BYTES:
        raise Undecodable("too_large", f"{size:,} bytes; an image may have {MAX_IMAGE_BYTES:,}")


def broken_container(path: str, column: str = "") -> Item:
    """The item that stands for the failure of a container; `column` is the one that was asked for."""
    uri, uri_bytes = printable_uri(path)
    return Item(uri, uri_bytes, uri, 0, 0, BROKEN, column)
