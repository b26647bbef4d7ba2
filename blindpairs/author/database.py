"""authoring.sqlite: every draft and every decision about a pair, as revisions that are only ever added.

A draft is what a drafter proposed; a decision is what a person said of a pair, accepted or rejected, with the text that
the person saw or wrote. What counts in the end follows from the revisions (`standing.py`). The tables are those of
`tables.py`; other modules beside this one keep theirs with `read` and `writing`.

Promises: a revision that was reported as saved survives a kill; the file itself refuses to change or delete one; the
same draft or decision handed in twice is kept once; no read stays open, so none holds up a writer.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from blindpairs.author.deciding import clean_name, decided, now, storable, undone
from blindpairs.author.drafts import Draft, MinedPair, draft_of
from blindpairs.author.listing import behind, list_new, list_pair
from blindpairs.author.revisions import Decision, Revision, Saved, latest_decision, latest_draft
from blindpairs.author.sqlite_file import BUSY_SECONDS, connect, explained, network_file_system, transaction
from blindpairs.author.tables import MIGRATIONS, TABLES, VERSION
from blindpairs.errors import InputError
from blindpairs.workspace import canonical_json, digest

LOT = 500  # pairs read or written at a time; older releases of SQLite bind 999 values at most
_PAIR = ", ".join(one.name for one in fields(MinedPair))
_REVISION = "id, pair_id, author, kind, body, reason, source, second, based_on, created_at, seconds, settles, undoes"


class AuthoringDatabase:
    """The pairs, drafts and decisions in one file; a context manager, for one thread.

    Opening and every method raise InputError where the file cannot be used, and Locked where another process keeps
    writing for longer than `busy_seconds`.
    """

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._connection = connect(path, VERSION, TABLES, busy_seconds, MIGRATIONS)
        try:
            self._list_again()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> "AuthoringDatabase":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing waits to be written."""
        self._connection.close()

    @property
    def notice(self) -> str:
        """What the user should know about the place of the file; "" for most places."""
        kind = network_file_system(self.path)
        if not kind:
            return ""
        return f"{self.path} is on a network file system ({kind}): only one machine may use it at a time"

    def add_pairs(self, pairs: Iterable[MinedPair]) -> int:
        """Keep mined pairs; returns how many are new.

        A pair that is kept already stays as it is, also where it was mined again with other figures: its drafts and
        decisions were made for it as it was shown. Only a cluster that it lacked is added, as after `--differences`.
        """
        values = _places(len(fields(MinedPair)))
        statement = f"INSERT INTO pairs ({_PAIR}) VALUES ({values}) ON CONFLICT DO NOTHING"
        every = iter(pairs)
        added = 0
        while lot := list(islice(every, LOT)):  # the caller's reading holds no lock
            with self.writing() as connection:
                before = connection.total_changes
                connection.executemany(statement, [astuple(pair) for pair in lot])
                new = connection.total_changes - before
                added += new
                if new:
                    list_new(connection, lot)
                clustered = [(pair.cluster, pair.pair_id) for pair in lot if pair.cluster is not None]
                for table in ("pairs", "listed"):
                    lacking = f"UPDATE {table} SET cluster = ? WHERE pair_id = ? AND cluster IS NULL"
                    connection.executemany(lacking, clustered)
        return added

    def add_draft(self, pair_id: str, drafter: str, draft: Draft, *, second: bool = False) -> Revision:
        """Keep a draft; where it repeats this drafter's latest for the pair, that one is returned and none is added.

        `second` says whether a second question was asked for. InputError for a pair that is not kept.
        """
        if drafter.startswith("person:"):  # how the source of a person's text is written
            raise InputError(f"a drafter cannot be called {drafter!r}")
        author = clean_name(drafter, "drafter")
        draft = storable(draft)
        with self.writing():
            history = self._known_history(pair_id)
            latest = latest_draft(history, author)
            if latest and (latest.draft, latest.second) == (draft, second):
                return latest
            key = digest(["draft", pair_id, author, draft.as_json(), second, latest.id if latest else None])
            made = Revision(0, pair_id, author, "draft", draft, "", author, second, None, now())
            return self._insert(made, key, history)

    def decide(self, decision: Decision) -> Revision:
        """Keep a decision; the same one handed in again is kept once.

        Raises Conflict where `based_on` is not the latest that this person should have seen: the same person decided
        the pair again, or the drafter of that revision drafted it again. Other people's decisions do not conflict:
        each person's own last word counts.
        """
        with self.writing():
            revision, _ = self._decide(decision, self._known_history(decision.pair_id), refuse_stale=True)
        return revision

    def decide_all(self, decisions: Iterable[Decision]) -> Saved:
        """Keep decisions that came in a file, all or none. A decision replaces an earlier one of the same person."""
        added, known, superseded = 0, 0, []
        with self.writing():
            for one in decisions:
                history = self._known_history(one.pair_id)
                revision, is_new = self._decide(one, history, refuse_stale=False)
                added, known = added + is_new, known + (not is_new)
                latest = latest_decision(history, revision.author)
                if not is_new and latest != revision:
                    superseded.append(one.pair_id)
        return Saved(added, known, tuple(superseded))

    def undo(self, annotator: str, number: int | None = None) -> Revision | None:
        """Take back a decision of this person, by a revision of its own that is returned; None where none is left.

        Without a number it is the last that was not taken back, so that undoing again goes further back. With one, it
        is that revision, and taking it back again returns what took it back. What the person said before stands again.
        Raises InputError for a revision of somebody else, and Conflict for one that is not this person's last of its
        pair.
        """
        person = clean_name(annotator, "annotator")
        with self.writing():
            if number is None:
                taken = "SELECT undoes FROM revisions WHERE author = ? AND undoes IS NOT NULL"
                where = f"author = ? AND kind != 'draft' AND undoes IS NULL AND id NOT IN ({taken})"
                rows = self.read(f"SELECT max(id) FROM revisions WHERE {where}", (person, person))
                number = rows[0][0]
            if number is None:
                return None
            revision = self.revision(number)
            if revision is None or revision.author != person or revision.kind == "draft":
                raise InputError(f"revision {number} is no decision of {person}")
            if rows := self.read(f"SELECT {_REVISION} FROM revisions WHERE undoes = ?", (number,)):
                return _revision(rows[0])
            history = self.history(revision.pair_id)
            return self._insert(*undone(revision, history), history)

    def pair(self, pair_id: str) -> MinedPair | None:
        """The pair with this id."""
        rows = self.read(f"SELECT {_PAIR} FROM pairs WHERE pair_id = ?", (pair_id,))
        return MinedPair(*rows[0]) if rows else None

    def history(self, pair_id: str) -> list[Revision]:
        """The revisions of a pair, the oldest first."""
        rows = self.read(f"SELECT {_REVISION} FROM revisions WHERE pair_id = ? ORDER BY id", (pair_id,))
        return [_revision(row) for row in rows]

    def revision(self, number: int) -> Revision | None:
        """The revision with this id."""
        rows = self.read(f"SELECT {_REVISION} FROM revisions WHERE id = ?", (number,))
        return _revision(rows[0]) if rows else None

    def pairs(self) -> Iterator[MinedPair]:
        """Every pair in rank order, read in lots: pairs and revisions may be added meanwhile, also by others."""
        last: tuple[int, str] = (-(2**63), "")
        where = "WHERE (rank, pair_id) > (?, ?) ORDER BY rank, pair_id LIMIT ?"
        while rows := self.read(f"SELECT {_PAIR} FROM pairs {where}", (*last, LOT)):
            lot = [MinedPair(*row) for row in rows]
            yield from lot
            last = (lot[-1].rank, lot[-1].pair_id)

    def histories(self) -> Iterator[tuple[MinedPair, list[Revision]]]:
        """Every pair in rank order with its revisions, the oldest first; read in lots."""
        every = self.pairs()
        while lot := list(islice(every, LOT)):
            yield from self._with_histories(lot)

    def histories_of(self, pair_ids: Iterable[str]) -> Iterator[tuple[MinedPair, list[Revision]]]:
        """The same of some pairs, in the order of their ids as given; those that are not kept are left out."""
        every = iter(pair_ids)
        while lot := list(islice(every, LOT)):
            rows = self.read(f"SELECT {_PAIR} FROM pairs WHERE pair_id IN ({_places(len(lot))})", lot)
            found = {row[0]: MinedPair(*row) for row in rows}
            yield from self._with_histories([found[name] for name in lot if name in found])

    def _with_histories(self, lot: Sequence[MinedPair]) -> Iterator[tuple[MinedPair, list[Revision]]]:
        found: dict[str, list[Revision]] = {pair.pair_id: [] for pair in lot}
        where = f"WHERE pair_id IN ({_places(len(lot))}) ORDER BY id"
        for row in self.read(f"SELECT {_REVISION} FROM revisions {where}", list(found)):
            found[row[1]].append(_revision(row))
        for pair in lot:
            yield pair, found[pair.pair_id]

    def drafted(self, drafter: str, *, second: bool) -> set[str]:
        """The ids of the pairs that need no draft of this drafter: where drafting goes on after an interruption.

        A draft that was made with a second question also serves where none is asked for.
        """
        where = "kind = 'draft' AND author = ? AND second >= ?"
        rows = self.read(f"SELECT DISTINCT pair_id FROM revisions WHERE {where}", (drafter.strip(), second))
        return {pair_id for (pair_id,) in rows}

    def read(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[Any]:
        """All rows at once: a cursor left open would pin the file as it was, and make the next write of ours fail."""
        with explained(self.path):
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One change that is made whole or not at all, and is on the disk when the block has ended."""
        with transaction(self._connection, self.path):
            yield self._connection

    def _decide(self, decision: Decision, history: list[Revision], *, refuse_stale: bool) -> tuple[Revision, bool]:
        """The revision of a decision, and whether it is new."""
        made, key = decided(decision, history, self._with_key, refuse_stale=refuse_stale)
        return (self._insert(made, key, history), True) if key else (made, False)

    def _with_key(self, key: str) -> Revision | None:
        rows = self.read(f"SELECT {_REVISION} FROM revisions WHERE key = ?", (key,))
        return _revision(rows[0]) if rows else None

    def _known_history(self, pair_id: str) -> list[Revision]:
        if self.pair(pair_id) is None:
            raise InputError(f"{self.path} has no pair {pair_id!r}: add the mined pairs that have it first")
        return self.history(pair_id)

    def _insert(self, made: Revision, key: str, history: Sequence[Revision]) -> Revision:
        body = canonical_json(made.draft.as_json())
        said = (made.pair_id, made.author, made.kind, body, made.reason, made.source, made.second, made.based_on)
        values = (*said, made.created_at, made.seconds, made.settles, made.undoes, key)
        columns = f"{_REVISION.removeprefix('id, ')}, key"
        cursor = self._connection.execute(f"INSERT INTO revisions ({columns}) VALUES ({_places(len(values))})", values)
        kept = replace(made, id=cursor.lastrowid or 0)
        pair = self.pair(made.pair_id)
        assert pair is not None  # whoever asks has looked
        list_pair(self._connection, pair, [*history, kept])
        return kept

    def _list_again(self) -> None:
        """Derive the rows of pairs that a program added to which knows nothing of them."""
        with explained(self.path):
            if not behind(self._connection):
                return
        with self.writing() as connection:
            late = behind(connection)
            for start in range(0, len(late), LOT):
                for pair, history in self.histories_of(late[start : start + LOT]):
                    list_pair(connection, pair, history)


def _places(count: int) -> str:
    return ", ".join("?" * count)


def _revision(row: Sequence[Any]) -> Revision:
    number, pair_id, author, kind, body, *rest, settles, undoes = row
    reason, source, second, based_on, created_at, seconds = rest
    shown = (draft_of(json.loads(body)), reason, source, bool(second), based_on, created_at)
    return Revision(number, pair_id, author, kind, *shown, seconds, bool(settles), undoes)
