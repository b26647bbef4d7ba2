"""authoring.sqlite: every draft and every decision about a pair, as revisions that are only ever added.

A draft is what a drafter proposed; a decision is what a person said of a pair, accepted or rejected, with the text that
the person saw or wrote. What counts in the end follows from the revisions (`decisions.py`) and is stored nowhere.

Promises: a revision that was reported as saved survives a kill; the file itself refuses to change or delete one; the
same draft or decision handed in twice is kept once; no read stays open, so none holds up a writer.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, fields, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from blindpairs.author.drafts import Draft, MinedPair, draft_of, fault_of
from blindpairs.author.revisions import (
    Conflict,
    Decision,
    Kind,
    Revision,
    Saved,
    latest_decision,
    latest_draft,
    source_of,
)
from blindpairs.author.sqlite_file import BUSY_SECONDS, connect, explained, network_file_system, transaction
from blindpairs.errors import InputError
from blindpairs.workspace import canonical_json, digest

VERSION = 1  # of the tables
LOT = 500  # pairs read or written at a time; older releases of SQLite bind 999 values at most
LONGEST_NAME = 200

_TABLES = """
CREATE TABLE pairs (
    pair_id TEXT PRIMARY KEY, image_id_a TEXT NOT NULL, image_id_b TEXT NOT NULL,
    uri_a TEXT NOT NULL, uri_b TEXT NOT NULL, clip_sim REAL, dino_sim REAL, cluster INTEGER, control_of TEXT,
    rank INTEGER NOT NULL
);;
CREATE INDEX pairs_by_rank ON pairs (rank, pair_id);;
CREATE TABLE revisions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pair_id TEXT NOT NULL REFERENCES pairs, author TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('draft', 'accepted', 'rejected')), body TEXT NOT NULL, reason TEXT NOT NULL,
    source TEXT NOT NULL, second INTEGER NOT NULL, based_on INTEGER REFERENCES revisions, created_at TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE
);;
CREATE INDEX revisions_by_pair ON revisions (pair_id, id);;
CREATE TRIGGER never_replaced BEFORE INSERT ON revisions
WHEN EXISTS (SELECT 1 FROM revisions WHERE id = NEW.id OR key = NEW.key)
BEGIN SELECT RAISE(ABORT, 'revisions are never replaced'); END;;
CREATE TRIGGER never_changed BEFORE UPDATE ON revisions BEGIN SELECT RAISE(ABORT, 'revisions are never changed'); END;;
CREATE TRIGGER never_deleted BEFORE DELETE ON revisions BEGIN SELECT RAISE(ABORT, 'revisions are never deleted'); END
"""
_PAIR = ", ".join(one.name for one in fields(MinedPair))
_REVISION = "id, pair_id, author, kind, body, reason, source, second, based_on, created_at"


class AuthoringDatabase:
    """The pairs, drafts and decisions in one file; a context manager, for one thread.

    Opening and every method raise InputError where the file cannot be used, and Locked where another process keeps
    writing for longer than `busy_seconds`.
    """

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._connection = connect(path, VERSION, _TABLES, busy_seconds)

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
        decisions were made for it as it was shown.
        """
        values = _places(len(fields(MinedPair)))
        statement = f"INSERT INTO pairs ({_PAIR}) VALUES ({values}) ON CONFLICT DO NOTHING"
        before = self._connection.total_changes
        every = iter(pairs)
        while lot := [astuple(pair) for pair in islice(every, LOT)]:  # the caller's reading holds no lock
            with transaction(self._connection, self.path):
                self._connection.executemany(statement, lot)
        return self._connection.total_changes - before

    def add_draft(self, pair_id: str, drafter: str, draft: Draft, *, second: bool = False) -> Revision:
        """Keep a draft; where it repeats this drafter's latest for the pair, that one is returned and none is added.

        `second` says whether a second question was asked for. InputError for a pair that is not kept.
        """
        if drafter.startswith("person:"):  # how the source of a person's text is written
            raise InputError(f"a drafter cannot be called {drafter!r}")
        author = _name(drafter, "drafter")
        draft = _storable(draft)
        with transaction(self._connection, self.path):
            history = self._known_history(pair_id)
            latest = latest_draft(history, author)
            if latest and (latest.draft, latest.second) == (draft, second):
                return latest
            key = digest(["draft", pair_id, author, draft.as_json(), second, latest.id if latest else None])
            made = Revision(0, pair_id, author, "draft", draft, "", author, second, None, _now())
            return self._insert(made, key)

    def decide(self, decision: Decision) -> Revision:
        """Keep a decision; the same one handed in again is kept once.

        Raises Conflict where `based_on` is not the latest that this person should have seen: the same person decided
        the pair again, or the drafter of that revision drafted it again. Other people's decisions do not conflict:
        each person's own last word counts.
        """
        with transaction(self._connection, self.path):
            revision, _ = self._decide(decision, self._known_history(decision.pair_id), refuse_stale=True)
        return revision

    def decide_all(self, decisions: Iterable[Decision]) -> Saved:
        """Keep decisions that came in a file, all or none. A decision replaces an earlier one of the same person."""
        added, known, superseded = 0, 0, []
        with transaction(self._connection, self.path):
            for one in decisions:
                history = self._known_history(one.pair_id)
                revision, is_new = self._decide(one, history, refuse_stale=False)
                added, known = added + is_new, known + (not is_new)
                latest = latest_decision(history, revision.author)
                if not is_new and latest != revision:
                    superseded.append(one.pair_id)
        return Saved(added, known, tuple(superseded))

    def pair(self, pair_id: str) -> MinedPair | None:
        """The pair with this id."""
        rows = self._read(f"SELECT {_PAIR} FROM pairs WHERE pair_id = ?", (pair_id,))
        return MinedPair(*rows[0]) if rows else None

    def history(self, pair_id: str) -> list[Revision]:
        """The revisions of a pair, the oldest first."""
        rows = self._read(f"SELECT {_REVISION} FROM revisions WHERE pair_id = ? ORDER BY id", (pair_id,))
        return [_revision(row) for row in rows]

    def revision(self, number: int) -> Revision | None:
        """The revision with this id."""
        rows = self._read(f"SELECT {_REVISION} FROM revisions WHERE id = ?", (number,))
        return _revision(rows[0]) if rows else None

    def pairs(self) -> Iterator[MinedPair]:
        """Every pair in rank order, read in lots: pairs and revisions may be added meanwhile, also by others."""
        last: tuple[int, str] = (-(2**63), "")
        where = "WHERE (rank, pair_id) > (?, ?) ORDER BY rank, pair_id LIMIT ?"
        while rows := self._read(f"SELECT {_PAIR} FROM pairs {where}", (*last, LOT)):
            lot = [MinedPair(*row) for row in rows]
            yield from lot
            last = (lot[-1].rank, lot[-1].pair_id)

    def histories(self) -> Iterator[tuple[MinedPair, list[Revision]]]:
        """Every pair in rank order with its revisions, the oldest first; read in lots."""
        every = self.pairs()
        while lot := list(islice(every, LOT)):
            found: dict[str, list[Revision]] = {pair.pair_id: [] for pair in lot}
            where = f"WHERE pair_id IN ({_places(len(lot))}) ORDER BY id"
            for row in self._read(f"SELECT {_REVISION} FROM revisions {where}", list(found)):
                found[row[1]].append(_revision(row))
            for pair in lot:
                yield pair, found[pair.pair_id]

    def drafted(self, drafter: str, *, second: bool) -> set[str]:
        """The ids of the pairs that need no draft of this drafter: where drafting goes on after an interruption.

        A draft that was made with a second question also serves where none is asked for.
        """
        where = "kind = 'draft' AND author = ? AND second >= ?"
        rows = self._read(f"SELECT DISTINCT pair_id FROM revisions WHERE {where}", (drafter.strip(), second))
        return {pair_id for (pair_id,) in rows}

    def _decide(self, decision: Decision, history: list[Revision], *, refuse_stale: bool) -> tuple[Revision, bool]:
        """The revision of a decision, and whether it is new."""
        annotator = _name(decision.annotator, "annotator")
        decision = replace(decision, draft=_storable(decision.draft), reason=_text_of(decision.reason))
        if decision.accepted and (fault := fault_of(decision.draft)):
            raise InputError(f"pair {decision.pair_id} cannot be accepted: {fault}")
        based = next((one for one in history if one.id == decision.based_on), None)
        if decision.based_on is not None and based is None:
            raise InputError(f"pair {decision.pair_id} has no revision {decision.based_on}: export it again")
        kind: Kind = "accepted" if decision.accepted else "rejected"
        latest = latest_decision(history, annotator)
        if latest and (latest.kind, latest.draft, latest.reason) == (kind, decision.draft, decision.reason):
            return latest, False
        if based and refuse_stale:
            seen_later = (latest, latest_draft(history, based.author))
            if newer := [one for one in seen_later if one and one.id > based.id]:
                raise Conflict(max(newer, key=lambda one: one.id))
        start = decision.based_on if based else latest.id if latest else None
        content = [decision.pair_id, annotator, kind, decision.draft.as_json(), decision.reason, start]
        key = digest(content)
        if rows := self._read(f"SELECT {_REVISION} FROM revisions WHERE key = ?", (key,)):
            return _revision(rows[0]), False
        own = based if based and based.author == annotator else None
        if own and (own.kind, own.draft, own.reason) == (kind, decision.draft, decision.reason):
            return own, False  # a row of an exported file that nobody changed says nothing new
        source = source_of(decision.draft, annotator, based, history)
        text, shown = (decision.draft, decision.reason, source), decision.based_on
        made = Revision(0, decision.pair_id, annotator, kind, *text, False, shown, _now())
        return self._insert(made, key), True

    def _known_history(self, pair_id: str) -> list[Revision]:
        if self.pair(pair_id) is None:
            raise InputError(f"{self.path} has no pair {pair_id!r}: add the mined pairs that have it first")
        return self.history(pair_id)

    def _insert(self, made: Revision, key: str) -> Revision:
        body = canonical_json(made.draft.as_json())
        values = (made.pair_id, made.author, made.kind, body, made.reason, made.source, made.second, made.based_on)
        columns = f"{_REVISION.removeprefix('id, ')}, key"
        cursor = self._connection.execute(
            f"INSERT INTO revisions ({columns}) VALUES ({_places(len(values) + 2)})", (*values, made.created_at, key)
        )
        return replace(made, id=cursor.lastrowid or 0)

    def _read(self, statement: str, values: Sequence[object]) -> list[Any]:
        """All rows at once: a cursor left open would pin the file as it was, and make the next write of ours fail."""
        with explained(self.path):
            return self._connection.execute(statement, values).fetchall()


def _name(name: str, role: str) -> str:
    """The name without spaces around it; InputError where people could not tell it from another one."""
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise InputError(f"{name[:LONGEST_NAME]!r} cannot be the name of the {role}: give one of visible characters")
    return name.strip()


def _storable(draft: Draft) -> Draft:
    return draft_of(json.loads(_text_of(json.dumps(draft.as_json(), ensure_ascii=False))))


def _text_of(text: str) -> str:
    """The text with a question mark for each lone surrogate, which JSON may hold and no file of text can."""
    return text.encode(errors="replace").decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _places(count: int) -> str:
    return ", ".join("?" * count)


def _revision(row: Sequence[Any]) -> Revision:
    number, pair_id, author, kind, body, reason, source, second, based_on, created_at = row
    draft = draft_of(json.loads(body))
    return Revision(number, pair_id, author, kind, draft, reason, source, bool(second), based_on, created_at)
