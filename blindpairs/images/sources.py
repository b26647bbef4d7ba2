"""From the sources that the user named to the files that a corpus consists of, in a fixed order.

Promises: nothing here opens an address or runs a command; every path that comes back exists; a path that contains
braces or stars literally is taken as it is. The kind of a file is decided by its content, and by its name only where
the content does not tell. A folder is listed once, and only its names are held, never the whole tree; its files come
before its subfolders, both in name order. Hidden names, links, sockets, pipes and devices are counted and left alone.
A file with an image's extension is always planned, so that a broken one is reported; any other file is planned if its
first bytes are an image's.
"""

import glob
import itertools
import os
import re
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blindpairs.errors import InputError
from blindpairs.images.compressed import compression
from blindpairs.images.header import HEAD_BYTES, has_image_name, holds_image, sniff
from blindpairs.images.item import CorpusOptions, changed_at

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|pipe:")  # WebDataset's own `pipe:` would run a command
MOST_SHARDS = 1_000_000  # paths that braces may stand for
TAR_NAMES = (
    ".tar",
    *(".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.zstd", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz"),
)
CONTAINER_NAMES = (*TAR_NAMES, ".parquet")
# Files that may hold images and are not read, so that messages can name them: kind, ends of names, first bytes.
UNREADABLE_KINDS = (
    ("zip archive", (".zip",), b"PK\x03\x04"),
    ("7z archive", (".7z",), b"7z\xbc\xaf\x27\x1c"),
    ("rar archive", (".rar",), b"Rar!\x1a\x07"),
    ("cpio archive", (".cpio", ".cpio.gz"), b"07070"),
    ("lz4 archive", (".tar.lz4",), b"\x04\x22\x4d\x18"),
    ("lzip archive", (".tar.lz", ".tlz"), b"LZIP"),
    ("lzma archive", (".tar.lzma",), b"\x5d\x00\x00\x80\x00"),
    ("compress archive", (".tar.z", ".taz"), b"\x1f\x9d"),
    ("brotli archive", (".tar.br",), None),
    ("HDF5 file", (".h5", ".hdf5"), b"\x89HDF\r\n\x1a\n"),
    ("Arrow file", (".arrow", ".feather"), b"ARROW1"),
    ("TFRecord file", (".tfrecord", ".tfrecords"), None),
    ("LMDB file", (".mdb", ".lmdb"), None),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file; or a folder that could not be listed, with size and time 0. Containers are tars and Parquet files."""

    path: str
    container: bool
    size: int
    mtime_ns: int


def resolve(sources: Sequence[str]) -> list[str]:
    """Absolute existing paths, braces and globs expanded, in the order given. Paths below another one are dropped."""
    if not sources:
        raise InputError("no corpus given: name a folder of images, WebDataset tars or Parquet files")
    found = [_absolute(path) for source in sources for path in _expand(source)]
    unique = list(dict.fromkeys(found))
    folders = {path for path in unique if os.path.isdir(path)}
    return [path for path in unique if not any(parent in folders for parent in _parents(path))]


def _absolute(path: str) -> str:
    """The absolute path. Links in it stay, unless `..` follows one: that is the folder above the link's target."""
    # abspath removes `..` by the text alone, so it is only right if it leads to the same file.
    short = os.path.abspath(path)
    if os.path.lexists(short) and os.path.samestat(os.lstat(short), os.lstat(path)):
        return short
    folder, name = os.path.split(path.rstrip("/"))
    return os.path.realpath(path) if name == ".." else os.path.join(os.path.realpath(folder), name)


def _expand(source: str) -> list[str]:
    if not source:
        raise InputError("a source is an empty name: is a variable unset?")
    if os.path.lexists(source):  # before braces and stars are looked at: a name may have them literally
        return [source]
    if ADDRESS.match(source):
        raise InputError(
            f"{source} is not a local path: blindpairs reads local files only, so download or mount it first"
        )
    try:
        paths = list(itertools.islice(expand_braces(source), MOST_SHARDS + 1))
    except (RecursionError, ValueError) as error:  # thousands of braces, a number of thousands of digits
        raise InputError(f"{source[:80]}... does not exist, and it has too many braces to expand") from error
    if len(paths) > MOST_SHARDS:
        raise InputError(f"{source} names more than {MOST_SHARDS:,} files")
    missing = []
    found = []
    for path in paths:  # every shard must exist: a gap in {000..012}.tar is a lost download, not a smaller corpus
        matches = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))
        found += matches
        if not matches:
            missing.append(path)
    if missing:
        more = f" (and {len(missing) - 1:,} more of {len(paths):,})" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]} does not exist{more}: check its name, and that its disk is mounted")
    return found


def expand_braces(pattern: str) -> Iterator[str]:
    """Expand braces as bash does: `a{0..2}{x,y}` -> a0x, a0y, a1x, ...

    Ranges keep leading zeros, may count down, and may have a step (`{0..8..2}`). Braces may be nested.
    """
    start = -1
    depth = 0
    for at, character in enumerate(pattern):
        if character == "{":
            start, depth = (at if depth == 0 else start), depth + 1
        elif character == "}" and depth:
            depth -= 1
            if depth == 0:
                body = pattern[start + 1 : at]
                # Braces without a comma or a range stay as they are, but braces inside of them may be expanded.
                options = _options(body) or (f"{{{inner}}}" for inner in expand_braces(body))
                tails = list(itertools.islice(expand_braces(pattern[at + 1 :]), MOST_SHARDS + 1))
                yield from (f"{pattern[:start]}{option}{tail}" for option in options for tail in tails)
                return
    yield pattern


def _options(body: str) -> Iterator[str] | None:
    """The texts that a pair of braces stands for, or None if it is neither a list nor a range."""
    span = re.fullmatch(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?", body)
    if span:
        return _counted(span[1], span[2], abs(int(span[3] or 1)) or 1)
    parts = [""]
    depth = 0
    for character in body:
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:  # a comma of these braces, not of nested ones
            parts.append("")
        else:
            parts[-1] += character
    if len(parts) == 1:
        return None
    return itertools.chain.from_iterable(expand_braces(part) for part in parts)


def _counted(first: str, last: str, step: int) -> Iterator[str]:
    """The numbers of a range. If one end has leading zeros, all numbers get the width of the longer end."""
    padded = any(len(end.lstrip("-")) > 1 and end.lstrip("-").startswith("0") for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    low, high = int(first), int(last)
    for number in range(low, high + 1, step) if low <= high else range(low, high - 1, -step):
        yield f"{number:0{width}d}"


def _parents(path: str) -> Iterator[str]:
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent


def walk(root: str, options: CorpusOptions, notes: Counter[str]) -> Iterator[Entry]:
    """Every image and container below `root`. A folder that cannot be listed is an entry too: it fails on reading."""
    # Folders are compared by device and inode: links give a folder several names, and can form loops.
    excluded = set(filter(None, map(_identity, options.exclude)))
    visited: set[tuple[int, int]] = set()
    waiting = [root]  # a stack: a folder's subfolders come right after its files
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                notes["links to a folder already visited"] += 1
                continue
            if (status.st_dev, status.st_ino) in excluded and folder != root:
                continue
            visited.add((status.st_dev, status.st_ino))
            files, folders = _listing(folder, options, notes)
        except OSError:
            notes["folders that cannot be listed"] += 1
            yield Entry(folder, False, 0, 0)
            continue
        if folder == root and not files and not folders:
            notes["folders with nothing to read"] += 1
        for name in files:
            entry = _entry(folder + name if folder.endswith("/") else f"{folder}/{name}", notes)
            if entry:
                yield entry
        waiting += [os.path.join(folder, name) for name in reversed(folders)]


def _identity(folder: str) -> tuple[int, int] | None:
    """(device, inode) of a folder, the same for all of its names; None if it does not exist."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _listing(folder: str, options: CorpusOptions, notes: Counter[str]) -> tuple[list[str], list[str]]:
    """(names of files, names of folders) of one folder, sorted. Names only: a folder may hold a million files."""
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                notes["hidden files and folders"] += 1
            elif entry.is_symlink() and not options.follow_symlinks:
                notes["links not followed"] += 1
            elif _is_folder(entry):
                folders.append(entry.name)
            else:
                files.append(entry.name)
    files.sort()
    folders.sort()
    return files, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _entry(path: str, notes: Counter[str]) -> Entry | None:
    """The entry of a file in a folder; None, and a note, if it is not planned."""
    name = path.rpartition("/")[2].lower()
    named_image = has_image_name(name)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            notes["pipes, sockets and devices"] += 1
            return None
        if name.endswith(CONTAINER_NAMES):
            return Entry(path, True, status.st_size, changed_at(status))
        # Files with an image's name are not opened here: a folder of millions is listed at the speed of its names.
        if named_image or holds_image(_head(path)[:HEAD_BYTES]):
            return Entry(path, False, status.st_size, changed_at(status))
    except OSError:  # removed since the listing, a link to nothing, or permission denied
        if named_image:
            return Entry(path, False, 0, 0)  # fails under its name when it is read
    unread = unread_kind(name)
    notes[f"{unread}s not read" if unread else "files that are no images"] += 1
    return None


def named_entry(path: str) -> Entry:
    """The entry of a file that the user named. It is always planned: if it is no image, it fails when it is read."""
    name = path.lower()
    try:
        status = os.stat(path)
        kind = kind_of_file(path) if stat.S_ISREG(status.st_mode) else "none"  # a pipe is not opened
        by_name = not kind and (name.endswith(CONTAINER_NAMES) or unread_kind(name, _head(path)))
        container = kind in ("tar", "parquet") or bool(by_name)
        return Entry(path, container, status.st_size, changed_at(status))
    except OSError:
        return Entry(path, name.endswith(CONTAINER_NAMES), 0, 0)


def kind_of_file(path: str) -> str:
    """`tar`, `parquet`, `image` or "" by the content of a regular file. Raises OSError where it cannot be read."""
    head = _head(path)
    if head.startswith(b"PAR1"):
        return "parquet"
    if compression(head):
        return "tar"
    if sniff(head[:HEAD_BYTES]):
        return "image"
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        # An empty tar is blocks of zeros. Only its name tells it from an image that a broken disk filled with zeros.
        return "tar" if len(head) == tarfile.BLOCKSIZE and not any(head) and path.lower().endswith(TAR_NAMES) else ""
    return "tar"


def unread_kind(name: str, head: bytes = b"") -> str:
    """The kind of a file in UNREADABLE_KINDS, such as `zip archive`, by its name or first bytes; "" for any other."""
    name = name.lower()
    kinds = (
        kind for kind, ends, magic in UNREADABLE_KINDS if name.endswith(ends) or (magic and head.startswith(magic))
    )
    return next(kinds, "")


def refuse_unread(path: str) -> None:
    """Raise InputError for a file of a kind in UNREADABLE_KINDS, with what to do instead."""
    kind = unread_kind(path, _head(path))
    if kind:
        instead = "unpack it into a folder, or make a tar of it" if "archive" in kind else "export it to tar or Parquet"
        raise InputError(f"{path} cannot be read ({kind}): {instead}")


def _head(path: str) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # O_NONBLOCK: a FIFO must not hang us
        return file.read(tarfile.BLOCKSIZE)
