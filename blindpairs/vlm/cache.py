"""Replies on disk, so that nothing is paid for twice. The only module that reads and writes this file.

Promises: a stored reply survives a killed process; a reply is found again only for the same model with the same
settings and the same ask, down to the bytes of its images; a file of a newer schema is refused and left alone. No
prompt, image or key is in the file: a hash stands for everything that was asked.
"""

import errno
import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blindpairs.access import obstacle, sqlite_code, unwritable
from blindpairs.errors import InputError
from blindpairs.vlm.asking import Answerer, Ask, Part, Reply
from blindpairs.workspace import digest

SCHEMA = 1  # of the table; part of every key, too, so that a changed meaning of keys never finds old replies
TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,        -- content_key
    model TEXT NOT NULL,         -- for people
    text TEXT NOT NULL,          -- as the model gave it
    seconds REAL NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    finish TEXT NOT NULL,
    written REAL NOT NULL        -- seconds since 1970
) WITHOUT ROWID
"""


def content_key(settings: Mapping[str, Any], ask: Ask) -> str:
    """The sha256 of everything that decides a reply; the caller's own key is not part of it."""
    content = {
        "version": SCHEMA,
        "settings": dict(settings),
        "system": ask.system,
        "parts": [_identity(part) for part in ask.parts],
        "schema": None if ask.schema is None else dict(ask.schema),
        "max_tokens": ask.max_tokens,
        "temperature": float(ask.temperature),
    }
    return digest(content)


def _identity(part: Part) -> dict[str, str]:
    if isinstance(part, str):
        return {"text": part}
    return {"image": hashlib.sha256(part.data).hexdigest(), "media_type": part.media_type}


class Cache:
    """Replies by content key. May be used from several threads, and by several processes at once."""

    def __init__(self, path: Path | None) -> None:
        """Open or make the file; None keeps the replies in memory. InputError for a file that cannot be used."""
        self._path = path
        self._lock = threading.Lock()
        with self._errors():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path or ":memory:", timeout=30, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def _prepare(self) -> None:
        (found,) = self._database.execute("PRAGMA user_version").fetchone()
        if found > SCHEMA:
            raise InputError(
                f"{self._path} was written by a newer blindpairs (schema {found}, this one reads {SCHEMA}): "
                "update blindpairs, or choose another --work"
            )
        # With the write-ahead log, readers never wait, and a killed writer leaves the last whole transaction.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")  # a reply costs more than a flush, also after a power cut
        with self._database:
            self._database.execute(TABLE)
            self._database.execute(f"PRAGMA user_version = {SCHEMA}")

    def get(self, key: str) -> Reply | None:
        """The stored reply, with the content key as its key."""
        query = "SELECT text, seconds, prompt_tokens, completion_tokens, finish FROM replies WHERE key = ?"
        with self._lock, self._errors():
            row = self._database.execute(query, (key,)).fetchone()
        if row is None:
            return None
        text, seconds, prompt_tokens, completion_tokens, finish = row
        return Reply(key, text, seconds, prompt_tokens, completion_tokens, finish, cached=True)

    def put(self, answerer: Answerer, reply: Reply) -> None:
        """Store a reply whose key is its content key. The first one stays."""
        row = (
            reply.key,
            answerer.name,
            reply.text,
            reply.seconds,
            reply.prompt_tokens,
            reply.completion_tokens,
            reply.finish,
            time.time(),
        )
        with self._lock, self._errors(), self._database:
            self._database.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what SQLite and the system say into InputError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            # SQLite does not say which folder denies access, nor to whom.
            refusals = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
            denied = isinstance(error, PermissionError) or sqlite_code(error) in refusals
            why = self._path and obstacle(self._path)
            if self._path and denied and not why:
                raise unwritable(self._path, PermissionError(errno.EACCES, str(error))) from error
            if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
                why = "it is not a file of replies: move it away"
            raise InputError(f"cannot use {self._path}: {error}" + (f" ({why})" if why else "")) from error


@contextmanager
def open_cache(path: Path | None) -> Iterator[Cache]:
    """The replies in a file, or in memory for None; closed at the end of the block."""
    cache = Cache(path)
    try:
        yield cache
    finally:
        cache.close()
