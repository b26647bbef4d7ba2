"""Where each artefact is, how files are written, and locks.

Promises: a file under its final name is complete (written under a temporary name in the same folder, flushed to disk,
renamed); a killed run leaves hidden `.tmp` files at most, which the next run removes; two runs never write the same
part.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blindpairs import __version__
from blindpairs.access import reading, remove, unwritable
from blindpairs.errors import AssetMissing, InputError, Locked

SCHEMA_VERSION = 1
# Names in the folder of the pairs. They are here because mine/ needs both (it writes the pairs, and removes the page of
# older ones), and the command line, which writes the page, names both in its messages.
PAIRS = "pairs.parquet"
GALLERY = "gallery.html"
PLANNING = 1 << 40  # the byte of the lock file that means "is planning": beyond any part number


@dataclass(frozen=True)
class Workspace:
    """The work folder and the place of each artefact in it."""

    root: Path

    @property
    def embeddings(self) -> Path:
        """The embedding store."""
        return self.root / "embeddings"

    @property
    def failures(self) -> Path:
        """The images without embeddings, and why; part of the embedding store."""
        return self.embeddings / "failures"

    @property
    def index(self) -> Path:
        """The folder of the FAISS indexes."""
        return self.root / "index"

    @property
    def pairs(self) -> Path:
        """The folder of the mined pairs."""
        return self.root / "pairs"

    @property
    def pairs_table(self) -> Path:
        """The mined pairs."""
        return self.pairs / PAIRS

    @property
    def runs(self) -> Path:
        """The folder of the training runs."""
        return self.root / "runs"

    @property
    def prepared(self) -> Path:
        """What training prepares for all runs: indexes of instructions, features of frozen towers. A cache."""
        return self.root / "prepared"

    @property
    def gallery(self) -> Path:
        """The page of the mined pairs."""
        return self.pairs / GALLERY

    @property
    def authoring(self) -> Path:
        """The database of drafts and decisions."""
        return self.root / "authoring.sqlite"

    @property
    def page_secret(self) -> Path:
        """The secret from which the tokens of the pages are made."""
        return self.root / ".page-secret"

    @property
    def replies(self) -> Path:
        """What models replied, by what they were asked: a cache."""
        return self.root / "replies.sqlite"

    @property
    def patterns(self) -> Path:
        """The patterns that a model proposed."""
        return self.root / "patterns.json"

    @property
    def benchmark(self) -> Path:
        """The folder of the benchmark."""
        return self.root / "benchmark"

    @property
    def exports(self) -> Path:
        """The benchmark in foreign formats, a folder each."""
        return self.benchmark / "exports"

    @property
    def results(self) -> Path:
        """The answers of models and their scores, a folder for each benchmark."""
        return self.root / "results"


def demo_folder() -> Path:
    """The demo's corpus and encoders; AssetMissing where they are not installed."""
    return _shipped("demo/scenes.parquet", "the demo's data").parent


def published_file() -> Path:
    """The numbers that others published; AssetMissing where the file is not installed."""
    return _shipped("published.json", "the table of published numbers")


def _shipped(name: str, what: str) -> Path:
    """A file that ships: beside the package in a source checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "data", package / "_data"):
        if (folder / name).is_file():
            return folder / name
    raise AssetMissing(f"{what} is not installed: reinstall blindpairs, or work from a source checkout")


def stamp() -> dict[str, Any]:
    """The versions that every artefact records."""
    return {"schema_version": SCHEMA_VERSION, "blindpairs": __version__}


def canonical_json(value: object) -> str:
    """JSON that does not depend on the order of keys, for hashing and comparing."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def digest(value: object) -> str:
    """The sha256 of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """The sha256 of a file, read in blocks; Refused where it may not be read."""
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file that blindpairs wrote. InputError if it is damaged, Refused if it cannot be read."""
    with reading(path):
        content = path.read_bytes()
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({str(error)[:80]}): run the command that wrote it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} was not written by blindpairs: it holds a JSON {type(value).__name__}, not an object")
    return value


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that replaces it when the block ends well, and disappears when it does not.

    The name carries host and process, so that a later run can tell whether the writer is still alive.
    Raises InputError where the system refuses, and leaves an older file at `path` as it was.
    """
    aside = path.with_name(aside_name(path.name))  # in the same folder: a rename across file systems is a copy
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        # Content before name: after a power cut some file systems have the rename and not the bytes.
        flush(aside)
        rename_durably(aside, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):  # it was renamed, or never made
            aside.unlink()


def rename_durably(aside: Path, path: Path) -> None:
    """Rename a complete file to its final name, durably."""
    aside.replace(path)
    flush(path.parent)  # the rename itself must survive a power cut


def host_name() -> str:
    """This machine's name, fit for a file name: Linux accepts slashes and bytes that are not UTF-8 in a host name."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())


def aside_name(name: str) -> str:
    """A hidden name for an unfinished file, from which `sweep` can tell whether its owner is alive."""
    return f".{name}.{host_name()}.{os.getpid()}.{secrets.token_hex(4)}.tmp"


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with written_atomically(path) as aside:
        aside.write_text(
            text, encoding="utf-8", errors="backslashreplace"
        )  # a JSON reader turns the escape back into the character


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically, for people to read: indented, in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def flush(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prepare_folder(folder: Path) -> None:
    """Make an output folder, check before hours of work that it can be written, and remove files of dead runs."""
    # A real write: permission bits say nothing about full disks, quotas and read-only mounts.
    with written_atomically(folder / ".writable") as aside:
        aside.write_bytes(bytes(1 << 14))  # not empty, because an empty file fits on a full disk
    remove(folder / ".writable")
    sweep(folder)


def sweep(folder: Path) -> None:
    """Remove the temporary files of dead runs below a folder, where that is allowed."""
    for place, _, names in os.walk(folder):  # skips folders that cannot be read
        for name in names:
            if owner_is_dead(name):
                with suppress(OSError):
                    Path(place, name).unlink()


def owner_is_dead(aside: str) -> bool:
    """Whether the writer of a temporary file is gone; False for one on another machine, which may be alive."""
    # The number has at most nine digits because os.kill() raises OverflowError for a larger one.
    match = re.fullmatch(rf"\..*\.{re.escape(host_name())}\.([1-9][0-9]{{0,8}})\.[0-9a-f]+\.tmp", aside, re.DOTALL)
    if not match:
        return False
    process = int(match[1])
    try:
        os.kill(process, 0)  # signal 0 sends nothing: it only asks whether the process exists
    except ProcessLookupError:
        return True
    except PermissionError:  # it exists, and is another user's
        return False
    # Sweeping comes before this process writes a file, so a file with its number is from a dead one: numbers recur.
    return process == os.getpid()


class RunLock:
    """Exclusive locks on numbered parts of a folder, one byte of its lock file each.

    The kernel releases a lock when its process ends, in whatever way: there are no stale locks, clocks or heartbeats.
    Record locks also work between machines where the file system supports them (NFS does).
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        try:
            self._file = self._path.open("a+", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise unwritable(self._path, error) from error

    def claim_all(self) -> None:
        """Lock all part numbers, or raise Locked."""
        self._claim([(0, PLANNING)])

    def claim(self, parts: Iterable[int]) -> None:
        """Lock some parts, or raise Locked at the first that another run holds."""
        self._claim((part, 1) for part in parts)

    def _claim(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Lock ranges of bytes, each (start, length), without waiting. A range may lie beyond the end of the file."""
        try:
            for start, length in ranges:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        except (BlockingIOError, PermissionError) as error:  # POSIX allows either
            raise Locked(
                f"{self._path.parent} is being written by another run ({self._holder()}); "
                "wait for it, or give this one another --work"
            ) from error
        except OSError as error:  # ENOLCK, ENOSYS, EOPNOTSUPP: some network file systems
            raise self._no_locks(error) from error
        with suppress(OSError):  # the text is only for another run's message: a full disk must not end this run
            self._file.seek(0)
            self._file.truncate()
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._file.flush()

    @contextmanager
    def planning(self) -> Iterator[None]:
        """Wait for the planning lock, then hold it: of several shards, one makes the plan and the others read it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, PLANNING)
        except OSError as error:
            raise self._no_locks(error) from error
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, PLANNING)

    def release(self) -> None:
        """Release all locks."""
        with suppress(OSError):  # closing retries a write that a full disk refused
            self._file.close()

    def _no_locks(self, error: OSError) -> InputError:
        return InputError(
            f"{self._path.parent} is on a file system without file locks ({error.strerror}): choose another --work"
        )

    def _holder(self) -> str:
        self._file.seek(0)
        return self._file.read().strip() or "unknown process"
