"""Opening an SQLite file so that nothing reported as saved is lost, and saying in a sentence why it cannot be used.

Promises: a transaction that has ended is on the disk (write-ahead log, `synchronous=FULL`); writers wait for each other
and end with Locked, never with half a change; a file of a newer version, of another program, or damaged is refused
before anything in it changes; an older version is copied beside the file before it gets new tables. It is a file of
one machine: SQLite's write-ahead log shares memory between processes, which a network file system
cannot give (sqlite.org/wal.html, section 1).
"""

import errno
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from blindpairs.access import present, reading, sqlite_code, unwritable
from blindpairs.errors import BlindpairsError, InputError, Locked
from blindpairs.workspace import written_atomically

BUSY_SECONDS = 5.0  # how long a writer waits for another
APPLICATION_ID = 0x626C6E64  # in the header of the file: "blnd"
NO_MIGRATIONS: Mapping[int, str] = {}
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "beegfs", "gpfs", "ncpfs"}
_NETWORK_FUSE = ("fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.juicefs", "fuse.rclone")


def connect(
    path: Path,
    version: int,
    tables: str,
    busy_seconds: float = BUSY_SECONDS,
    migrations: Mapping[int, str] = NO_MIGRATIONS,
) -> sqlite3.Connection:
    """A connection to the file, which is made with these tables where there is none.

    `migrations` has the statements that turn a version into the next; an older file is copied to `NAME.version-N`
    first. Statements are separated by `;;`. Raises InputError for a file that is damaged, of another program or of a
    newer version, and where the system refuses; Locked where another process keeps writing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    if present(path):
        # Says which folder or file denies access; SQLite does not. The file itself is never opened here: closing it
        # would drop the locks that this process holds on it for SQLite (sqlite.org/howtocorrupt.html, section 2.2).
        with reading(path):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder")
            if not os.access(path, os.R_OK):
                raise PermissionError(errno.EACCES, "not readable")
    with explained(path):
        connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)
        try:
            # Read before anything is written: a change of the journal already writes to the header of the file.
            connection.execute("BEGIN")  # three reads of one state: another process may be making the file
            found = _found_version(connection, path, version, migrations)
            connection.execute("ROLLBACK")
            _journal(connection, busy_seconds)
            if found is None:
                _make(connection, path, version, tables)
            elif found < version:
                _migrate(connection, path, version, migrations)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """One change that is made whole or not at all, and is on the disk when the block has ended."""
    with explained(path):
        # IMMEDIATE takes the lock at once: a transaction that starts by reading fails when another wrote in between.
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite itself rolls back where the disk is full
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors of the block into sentences; what only a bug of ours can cause stays as it is."""
    try:
        yield
    except sqlite3.Error as error:
        raise _sentence(path, error) or error from error
    except (UnicodeEncodeError, OverflowError) as error:  # of a value that was asked for, which no row can hold
        raise InputError(f"{path} holds no such text or number ({error})") from error


def network_file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The type of the network file system that holds `path`, such as "nfs4"; "" on a local one and where unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return ""
    whole = path.resolve()
    kind, longest = "", -1
    for line in lines:
        _, place, found, *_ = [*line.split(" "), "", "", ""]
        place = place.replace("\\040", " ")
        # Later lines hide earlier ones at the same place.
        if whole.is_relative_to(place or "?") and len(place) >= longest:
            kind, longest = found, len(place)
    return kind if kind in _NETWORK or kind.startswith(_NETWORK_FUSE) else ""


def _found_version(
    connection: sqlite3.Connection, path: Path, version: int, migrations: Mapping[int, str]
) -> int | None:
    """The version of the file, None where it has no content yet; InputError where it is not ours to write."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    (program,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not found and not program:
        return None
    if program != APPLICATION_ID:
        raise InputError(f"{path} is the database of another program: give another path")
    if found > version:
        raise InputError(
            f"{path} was written by a newer blindpairs (its tables have version {found}, this one knows {version}): "
            "update blindpairs"
        )
    if found < version and not all(step in migrations for step in range(found, version)):
        raise InputError(f"{path} has version {found}, which no blindpairs ever wrote: restore a copy of it")
    return int(found)


def _make(connection: sqlite3.Connection, path: Path, version: int, tables: str) -> None:
    with transaction(connection, path):
        if _found_version(connection, path, version, {}) is not None:  # another process made it while this one waited
            return
        _execute_all(connection, tables)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")


def _migrate(connection: sqlite3.Connection, path: Path, version: int, migrations: Mapping[int, str]) -> None:
    """Give the file the newest tables: in one transaction, so that a kill leaves the old ones."""
    with transaction(connection, path):
        found = _found_version(connection, path, version, migrations)
        if found is None or found == version:  # another process migrated it while this one waited
            return
        _keep_copy(path, found)
        for step in range(found, version):
            _execute_all(connection, migrations[step])
        connection.execute(f"PRAGMA user_version = {version}")


def _keep_copy(path: Path, version: int) -> None:
    """Copy the file as it is, while the caller keeps others from writing, to `NAME.version-N`; an older copy stays."""
    name = f"{path.name}.version-{version}"
    places = (path.with_name(name if number == 1 else f"{name}.{number}") for number in count(1))
    place = next(place for place in places if not place.exists())
    # A connection of its own: SQLite copies nothing for one that is in the middle of a transaction.
    reader = sqlite3.connect(path)
    try:
        with written_atomically(place) as aside:
            reader.execute("VACUUM INTO ?", (str(aside),))
    finally:
        reader.close()


def _execute_all(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";;"):
        connection.execute(statement)


def _journal(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Turn the write-ahead log on. SQLite does not wait here while another process does the same, so this does."""
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if sqlite_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _sentence(path: Path, error: sqlite3.Error) -> BlindpairsError | None:
    # Read in a terminal and on the pages, which leave out what stands after a semicolon: their steps are others.
    code = sqlite_code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Locked(f"{path} is being written by another process: nothing was changed; try again")
    if code == sqlite3.SQLITE_FULL:
        return InputError(f"no room to write {path}: what was reported as saved is safe; free space and try again")
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return InputError(
            f"{path} is damaged or no database ({error}): restore a copy, or rescue its content with "
            f"`sqlite3 {path.name} .recover`"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
        return InputError(
            f"cannot write {path} ({error}): it, and its folder, must be writable, on a disk of this machine"
        )
    return None
