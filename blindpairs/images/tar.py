"""WebDataset tars: planned by their headers, read in place, never extracted.

Promises: the name of a member is only text, and no file is ever opened by it; only regular members are read; a file is
read to its end, so that archives joined with `cat` give the members of each; a cut or damaged archive, which the
standard library reads without an error, is recognised, and so is other data after the archive. Plain and compressed
archives give the same items. A compressed archive is read forwards: reading its items in order takes one pass.
"""

import lzma
import os
import tarfile
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import IO

from blindpairs.errors import InputError, Undecodable
from blindpairs.images.compressed import CHUNK, Readable, compression, decompressed
from blindpairs.images.compressed import HEAD_BYTES as MAGIC_BYTES
from blindpairs.images.header import HEAD_BYTES, has_image_name, holds_image
from blindpairs.images.item import (
    Item,
    broken_container,
    changed_at,
    check_bytes,
    container_path,
    of_utf8,
    printable_uri,
)
from blindpairs.images.sources import CONTAINER_NAMES, unread_kind

LOOK = 64 << 10  # bytes read to find what follows an archive
LONGEST_HEADER = 16 << 20  # a PAX or long-name header that claims more is a bomb
DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, RecursionError, zlib.error, lzma.LZMAError)
# GNU types: D is a folder of an incremental archive, V the name of a volume, M the rest of a file from another volume.
GNU_NO_FILES, GNU_CONTINUED = (b"D", b"V"), b"M"
CUT = "unexpected end of data"  # tarfile's own message, so that both are recognised in `_named_failure`


class ForwardFile:
    """A file that is only read forwards, so that tarfile reads plain and compressed archives in the same way."""

    def __init__(self, path: str) -> None:
        self.file: IO[bytes] = open(path, "rb")
        kind = compression(self.file.read(MAGIC_BYTES))
        self.file.seek(0)
        self.compressed = bool(kind)
        self.stream: Readable = decompressed(self.file, kind) if kind else self.file
        self.position = 0  # in the decompressed archive, of the next byte that `read` gives
        self.ahead = b""  # bytes that were looked at, and not yet read
        self.last = b""  # the result of the last `read`: at the end of a complete archive, a block of its end marker

    def tell(self) -> int:
        """The position of the next byte, after decompression."""
        return self.position

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        if size > max(LONGEST_HEADER, CHUNK):  # tarfile reads extended headers whole, whatever size they claim
            raise tarfile.ReadError("a header of implausible size")
        self.last = self._take(size)
        return self.last

    def _take(self, size: int) -> bytes:
        parts = []
        while size > 0 and (part := self.ahead[:size] or self.stream.read(min(size, CHUNK))):
            self.ahead = self.ahead[len(part) :]
            parts.append(part)
            size -= len(part)
            self.position += len(part)
        return b"".join(parts)

    def skip_zeros(self) -> bool:
        """Go on to the next archive after an end-of-archive marker; False if only zeros follow.

        The next archive starts with the first block that is not all zeros or, if the padding is not a whole number of
        blocks, with the first byte that is not zero. Raises tarfile.ReadError for anything else.
        """
        # A header may start with zero bytes (an empty name), so that both starts have to be tried.
        boundary = self.position  # of blocks: archives are padded to whole ones
        while chunk := self._take(LOOK):
            rest = chunk.lstrip(b"\0")
            if not rest:
                continue
            zeros = (self.position - len(rest) - boundary) % tarfile.BLOCKSIZE  # of the block in which they end
            rest += self._take(tarfile.BLOCKSIZE)
            archive = next((start for start in (bytes(zeros) + rest, rest) if _is_header(start)), None)
            if archive is None:
                offset = self.position - len(rest)
                raise tarfile.ReadError(f"what follows the archive's end, at byte {offset:,}, is no archive")
            self.ahead = archive + self.ahead
            self.position -= len(archive)
            return True
        return False

    def seek(self, position: int, alive: Callable[[], None] = lambda: None) -> None:
        """Go on to `position`. A position further back can only come from a header that would make reading loop."""
        if position < self.position:
            raise tarfile.ReadError("a header that points backwards")
        if not self.compressed:
            self.file.seek(position)
            self.position, self.ahead = position, b""
        while self.position < position and self._take(min(CHUNK, position - self.position)):
            alive()

    def member(self, offset: int, size: int, alive: Callable[[], None] = lambda: None) -> bytes:
        """The data of one member."""
        self.seek(offset, alive)
        return self._take(size)

    def close(self) -> None:
        """Close the file."""
        self.stream.close()
        self.file.close()


def _is_header(data: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(data[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def plan_tar(path: str, notes: Counter[str]) -> Iterator[Item]:
    """Every image member, in archive order; if the archive is damaged, an item for the damage comes last."""
    mtime_ns = changed_at(os.stat(path))
    container = printable_uri(path)[0]
    names: dict[str, int] = {}  # name -> how often it has occurred
    last: Item | None = None  # the archive's last member, if it was planned
    archive = member = None
    try:
        archive = ForwardFile(path)
        for member in _members(archive):
            last = None
            if not 0 <= member.size < 2**63:
                raise tarfile.ReadError("a damaged member header")
            if _is_image(member, archive, notes):
                uri, uri_bytes = printable_uri(f"{path}#{of_utf8(_unique(member.name, names, notes))}")
                last = Item(uri, uri_bytes, container, member.size, mtime_ns, member.offset_data, "")
                yield last
        if member is None:
            notes["archives without members"] += 1
    except DAMAGE:
        notes["damaged archives"] += 1
        # One damage is one failure: if it has cut the last image, that image fails, and no item stands for the archive.
        if last is None or not _is_cut(last):
            yield broken_container(path)
    finally:
        if archive:
            archive.close()


def members_of(path: str, texts: tuple[str, ...]) -> Iterator[tuple[str, Item | bytes]]:
    """Names of an archive's members in order, with an item for an image, and the content of names that end in `texts`.

    Raises Undecodable (tar_truncated, tar_corrupt, too_large) at damage, and InputError for a compressed archive, of
    which members cannot be read in any order.
    """
    archive = None
    try:
        mtime_ns = changed_at(os.stat(path))
        archive = ForwardFile(path)
        if archive.compressed:
            raise InputError(f"{path} is compressed: unpack it (gunzip), because its images are read in any order")
        for member in _members(archive):
            name = of_utf8(member.name)
            if member.isreg() and name.lower().endswith(texts):
                check_bytes(member.size)
                yield name, archive.member(member.offset_data, member.size)
            elif _is_image(member, archive, Counter()):
                uri, uri_bytes = printable_uri(f"{path}#{name}")
                container = printable_uri(path)[0]
                yield name, Item(uri, uri_bytes, container, member.size, mtime_ns, member.offset_data, "")
    except DAMAGE as error:
        raise _named_failure(error) from error
    finally:
        if archive:
            archive.close()


def _is_cut(item: Item) -> bool:
    """Whether the data of a planned member is incomplete or damaged."""
    try:
        read_member(item)
    except Undecodable as error:
        return error.code in ("tar_truncated", "tar_corrupt")
    return False


def _members(archive: ForwardFile) -> Iterator[tarfile.TarInfo]:
    """Every member of all archives in a file; raises one of DAMAGE at the end if the last archive is not complete."""
    more = True
    while more:
        with tarfile.open(fileobj=archive, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                tar.members.clear()  # tarfile would keep every header of the archive
                yield member
        # tarfile ends without an error at a cut and at a damaged header. Only a block of zeros is a real end.
        if len(archive.last) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError(CUT)
        if any(archive.last):
            raise tarfile.ReadError("a damaged member header")
        more = archive.skip_zeros()


def _is_image(member: tarfile.TarInfo, archive: ForwardFile, notes: Counter[str]) -> bool:
    """Whether a member is planned; what is left out, and may surprise its owner, is counted in `notes`."""
    path = member.name.split("/")
    if member.isdir() or member.type in GNU_NO_FILES:
        return False
    if member.type == GNU_CONTINUED:
        notes["files continued from another volume"] += 1
        return False
    if member.issparse():
        notes["sparse files in archives"] += 1
        return False
    if not member.isreg():
        notes["links and devices in archives"] += 1
        return False
    if "__MACOSX" in path or path[-1].startswith("."):
        notes["hidden files and folders"] += 1
        return False
    if has_image_name(path[-1]):
        return True
    if holds_image(archive.member(member.offset_data, min(member.size, HEAD_BYTES))):
        return True
    nested = path[-1].lower().endswith(CONTAINER_NAMES) or unread_kind(path[-1])
    notes["archives and tables in archives not read" if nested else "files that are no images"] += 1
    return False


def _unique(name: str, names: dict[str, int], notes: Counter[str]) -> str:
    """The name; if it has occurred before, `name#2`, `name#3`, ... in archive order."""
    unique = name
    while unique in names:
        names[name] += 1
        unique = f"{name}#{names[name]}"
    if unique != name:
        notes["repeated member names"] += 1
    names[unique] = 1
    return unique


class _Archive:
    """An archive kept open between reads; a compressed one remembers how far it has been read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.forward = ForwardFile(path)

    def member(self, offset: int, size: int, alive: Callable[[], None]) -> bytes:
        """The data of one member; shorter than `size` if the archive is cut."""
        if not self.forward.compressed:
            return os.pread(self.forward.file.fileno(), size, offset)  # moves no position, so needs no lock
        with self.lock:
            if offset < self.forward.position:
                self.forward.close()
                self.forward = ForwardFile(self.path)  # from the start: items in order never need this
            return self.forward.member(offset, size, alive)


@lru_cache(maxsize=4)
def _archive(path: str, mtime_ns: int, process: int) -> _Archive:
    # mtime_ns and process are keys of the cache: a changed file or a forked process opens the archive again.
    return _Archive(path)


def read_member(item: Item, alive: Callable[[], None] = lambda: None) -> bytes:
    """The bytes of a planned member, or Undecodable: too_large, tar_truncated, tar_corrupt."""
    check_bytes(item.size)
    try:
        data = _archive(container_path(item), item.mtime_ns, os.getpid()).member(item.offset, item.size, alive)
    except DAMAGE as error:
        raise _named_failure(error) from error
    if len(data) < item.size:
        raise Undecodable("tar_truncated", f"the archive ends after {len(data):,} of the image's {item.size:,} bytes")
    return data


def tar_defect(path: str) -> Undecodable:
    """Read the headers of a damaged archive again, and return what is wrong with it."""
    archive = None
    try:
        archive = ForwardFile(path)
        for _ in _members(archive):
            pass
    except DAMAGE as error:
        return _named_failure(error)
    finally:
        if archive:
            archive.close()
    return Undecodable("changed", "the archive was damaged when it was planned and is whole now")


def _named_failure(error: Exception) -> Undecodable:
    # The libraries have no error class for a cut file: only their messages tell it from other damage.
    message = " ".join(str(error).split())
    if isinstance(error, EOFError) or CUT in message or "ended before" in message or "truncated" in message.lower():
        return Undecodable("tar_truncated", f"the archive is cut off, and members may be missing: {message}")
    return Undecodable("tar_corrupt", f"the archive cannot be read further: {message}")
