"""A file of an older version: its content is kept, a copy of it stands beside it, and nothing is lost on the way."""

import sqlite3
import threading
from pathlib import Path

import pytest
from authored import DRAFT, mined

from blindpairs.author import sqlite_file, tables
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import MinedPair
from blindpairs.author.pair_list import page
from blindpairs.author.revisions import Decision, Revision
from blindpairs.workspace import canonical_json

# The tables as the first version made them, word for word.
VERSION_1 = """
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
BODY = canonical_json(DRAFT.as_json())
ROWS = [
    (1, "p0", "model", "draft", BODY, "", "model", 0, None, "2026-01-01T00:00:00.000+00:00", "k1"),
    (2, "p1", "model", "draft", BODY, "", "model", 1, None, "2026-01-01T00:00:01.000+00:00", "k2"),
    (7, "p0", "Ann", "accepted", BODY, "", "model", 0, 1, "2026-01-01T00:00:02.000+00:00", "k3"),
    (8, "p1", "Ann", "rejected", BODY, "blurred", "model", 0, 2, "2026-01-01T00:00:03.000+00:00", "k4"),
]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that the first version wrote."""
    path = tmp_path / "authoring.sqlite"
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        for statement in VERSION_1.split(";;"):
            raw.execute(statement)
        raw.execute(f"PRAGMA application_id = {sqlite_file.APPLICATION_ID}")
        raw.execute("PRAGMA user_version = 1")
        pairs = [tuple(vars(mined(number)).values()) for number in range(3)]
        raw.executemany(f"INSERT INTO pairs VALUES ({', '.join('?' * 10)})", pairs)
        raw.executemany(f"INSERT INTO revisions VALUES ({', '.join('?' * 11)})", ROWS)
    raw.close()
    return path


def content(database: AuthoringDatabase) -> list[tuple[MinedPair, list[Revision]]]:
    return list(database.histories())


def rows_of(path: Path) -> list[tuple[object, ...]]:
    raw = sqlite3.connect(path)
    found = raw.execute("SELECT * FROM revisions ORDER BY id").fetchall()
    raw.close()
    return found


def test_every_revision_of_an_old_file_is_kept_and_listed(old: Path) -> None:
    with AuthoringDatabase(old) as database:
        histories = {pair.pair_id: history for pair, history in content(database)}
        assert [(one.id, one.author, one.kind, one.based_on) for one in histories["p0"]] == [
            (1, "model", "draft", None),
            (7, "Ann", "accepted", 1),
        ]
        assert [one.draft for history in histories.values() for one in history] == [DRAFT] * 4
        assert [one.second for one in histories["p1"]] == [True, False]
        assert [one.state for one in page(database).pairs] == ["accepted", "rejected", "undecided"]
        new = database.decide(Decision("p2", "Ann", True, DRAFT))
        assert new.id == 9  # numbers go on: a revision that was taken is never given again


def test_the_guards_of_a_migrated_file_hold(old: Path) -> None:
    AuthoringDatabase(old).close()
    raw = sqlite3.connect(old)
    for statement in (
        "UPDATE revisions SET body = '{}'",
        "DELETE FROM revisions",
        "REPLACE INTO revisions SELECT * FROM revisions",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="revisions are never"):
            raw.execute(statement)
    assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()


def test_a_migrated_file_has_the_tables_of_a_new_one(old: Path, tmp_path: Path) -> None:
    def schema(path: Path) -> set[tuple[str, str, str]]:
        AuthoringDatabase(path).close()
        raw = sqlite3.connect(path)
        found = raw.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
        raw.close()
        return {(kind, name, " ".join((sql or "").replace('"', "").split())) for kind, name, sql in found}

    assert schema(old) == schema(tmp_path / "new.sqlite")


def test_a_copy_of_the_old_file_stands_beside_the_new_one(old: Path) -> None:
    AuthoringDatabase(old).close()
    copy = old.with_name("authoring.sqlite.version-1")
    assert rows_of(copy) == ROWS
    raw = sqlite3.connect(copy)
    assert raw.execute("PRAGMA user_version").fetchone() == (1,)
    raw.close()
    assert sorted(path.name for path in old.parent.iterdir()) == ["authoring.sqlite", "authoring.sqlite.version-1"]


def test_an_older_copy_is_not_replaced(old: Path) -> None:
    old.with_name("authoring.sqlite.version-1").write_text("another")
    AuthoringDatabase(old).close()
    assert old.with_name("authoring.sqlite.version-1").read_text() == "another"
    assert rows_of(old.with_name("authoring.sqlite.version-1.2")) == ROWS


def test_a_migration_that_fails_leaves_the_old_file(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tables.MIGRATIONS[1] + ";;CREATE TABLE pairs (pair_id TEXT)"  # the last statement fails
    monkeypatch.setitem(tables.MIGRATIONS, 1, broken)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        AuthoringDatabase(old)
    assert rows_of(old) == ROWS
    monkeypatch.undo()
    with AuthoringDatabase(old) as database:
        assert len(database.history("p0")) == 2


def test_two_that_open_an_old_file_at_once_migrate_it_once(old: Path) -> None:
    found: list[int] = []

    def open_it() -> None:
        with AuthoringDatabase(old, busy_seconds=60) as database:
            found.append(len(database.history("p0")))

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2] * 4
    assert len(list(old.parent.glob("*.version-1*"))) == 1


def test_revisions_of_a_program_that_lists_nothing_are_listed_when_the_file_is_opened(old: Path) -> None:
    AuthoringDatabase(old).close()
    raw = sqlite3.connect(old)
    columns = "pair_id, author, kind, body, reason, source, second, based_on, created_at, key"
    values = ("p2", "Ben", "accepted", BODY, "", "person:Ben", 0, None, "2026-01-02T00:00:00.000+00:00", "k5")
    raw.execute(f"INSERT INTO revisions ({columns}) VALUES ({', '.join('?' * 10)})", values)
    raw.commit()
    raw.close()
    with AuthoringDatabase(old) as database:
        assert page(database).pairs[2].state == "accepted"
