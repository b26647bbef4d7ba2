"""The images and containers in a tree of files, in a fixed order, without holding the tree in memory.

Promises: one listing per folder, of which only the names are held; files of a folder come before its subfolders, both
in name order; hidden names, links, sockets, pipes and devices are counted and left alone; loops end. A file with an
image's extension is always planned, so that a broken one is reported; any other is planned if its first bytes are an
image's.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from blindpairs.images.header import HEAD_BYTES, sniff
from blindpairs.images.item import CorpusOptions, changed_at
from blindpairs.images.sources import CONTAINER_NAMES, kind_of_file, unread_kind

IMAGE_NAMES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .avif .heic .heif .jxl .jp2 .j2k .jpf .ppm .pgm"
    " .pbm .pnm .svg .eps .psd".split()
)
DOCUMENTS = {"pdf", "eps", "svg"}  # planned only where the file name says image


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the tree; or a folder that could not be listed, with size and time 0."""

    path: str
    container: bool
    size: int
    mtime_ns: int


def has_image_name(name: str) -> bool:
    """Whether a file's or member's name claims an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_NAMES


def holds_image(head: bytes) -> bool:
    """Whether a file whose name claims nothing is an image by its first bytes."""
    kind = sniff(head)
    return kind is not None and kind not in DOCUMENTS


def walk(root: str, options: CorpusOptions, notes: Counter[str]) -> Iterator[Entry]:
    """Every image and container below `root`. A folder that cannot be listed comes as an entry, to fail on reading."""
    excluded = set(filter(None, map(_identity, options.exclude)))
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                notes["links to a folder already visited"] += 1
                continue
            if (status.st_dev, status.st_ino) in excluded and folder != root:
                continue
            seen.add((status.st_dev, status.st_ino))
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
    """What a folder is, by whichever of its names; None where it does not exist."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _listing(folder: str, options: CorpusOptions, notes: Counter[str]) -> tuple[list[str], list[str]]:
    """(files, folders) of one folder, by name. Only names are kept: a folder may hold a million files."""
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
    """The file as it is planned, or None and a note."""
    name = path.rpartition("/")[2].lower()
    claims = has_image_name(name)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            notes["pipes, sockets and devices"] += 1
            return None
        if name.endswith(CONTAINER_NAMES):
            return Entry(path, True, status.st_size, changed_at(status))
        if claims or holds_image(_head(path)):
            return Entry(path, False, status.st_size, changed_at(status))
    except OSError:  # removed meanwhile, a link to nothing, or permission denied
        if claims:
            return Entry(path, False, 0, 0)
    unread = unread_kind(name)
    notes[f"{unread}s not read" if unread else "files that are no images"] += 1
    return None


def named_entry(path: str) -> Entry:
    """A file that was named, as it is planned whatever it is: what is no image fails when it is read."""
    name = path.lower()
    try:
        status = os.stat(path)
        kind = kind_of_file(path) if stat.S_ISREG(status.st_mode) else "none"
        by_name = not kind and (name.endswith(CONTAINER_NAMES) or unread_kind(name, _head(path)))
        container = kind in ("tar", "parquet") or bool(by_name)
        return Entry(path, container, status.st_size, changed_at(status))
    except OSError:
        return Entry(path, name.endswith(CONTAINER_NAMES), 0, 0)


def _head(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(HEAD_BYTES)
