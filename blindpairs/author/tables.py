"""The tables of authoring.sqlite, and how a file of an older version gets them.

`revisions`, `edits` and `cluster_names` are only ever added to, and the file itself refuses to change them. `listed`
and `last_decisions` are derived from the revisions, for questions that must be fast at 20,000 pairs: `listing.py` keeps
them in the transaction that adds a revision, and makes them again where they are behind. `leases` and `skips` say who
is looking at what, and lose nothing if they are lost.

Versions: 1 had pairs and revisions (drafts, accepted, rejected). 2 has all of the others, withdrawn decisions,
decisions that settle a dispute, and the seconds that a decision took.
"""

VERSION = 2

_PAIRS = """
CREATE TABLE pairs (
    pair_id TEXT PRIMARY KEY, image_id_a TEXT NOT NULL, image_id_b TEXT NOT NULL,
    uri_a TEXT NOT NULL, uri_b TEXT NOT NULL, clip_sim REAL, dino_sim REAL, cluster INTEGER, control_of TEXT,
    rank INTEGER NOT NULL
);;
CREATE INDEX pairs_by_rank ON pairs (rank, pair_id);;
"""
_REVISIONS = """
CREATE TABLE {name} (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pair_id TEXT NOT NULL REFERENCES pairs, author TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('draft', 'accepted', 'rejected', 'withdrawn')), body TEXT NOT NULL,
    reason TEXT NOT NULL, source TEXT NOT NULL, second INTEGER NOT NULL, based_on INTEGER REFERENCES revisions,
    created_at TEXT NOT NULL, key TEXT NOT NULL UNIQUE,
    seconds REAL, settles INTEGER NOT NULL DEFAULT 0, undoes INTEGER UNIQUE REFERENCES revisions
);;
"""
_GUARDS = """
CREATE INDEX revisions_by_pair ON revisions (pair_id, id);;
CREATE INDEX revisions_by_author ON revisions (author, id);;
CREATE TRIGGER never_replaced BEFORE INSERT ON revisions
WHEN EXISTS (SELECT 1 FROM revisions WHERE id = NEW.id OR key = NEW.key)
BEGIN SELECT RAISE(ABORT, 'revisions are never replaced'); END;;
CREATE TRIGGER never_changed BEFORE UPDATE ON revisions BEGIN SELECT RAISE(ABORT, 'revisions are never changed'); END;;
CREATE TRIGGER never_deleted BEFORE DELETE ON revisions BEGIN SELECT RAISE(ABORT, 'revisions are never deleted'); END;;
"""
_SINCE_2 = """
CREATE TABLE edits (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pair_id TEXT NOT NULL REFERENCES pairs, annotator TEXT NOT NULL,
    based_on INTEGER REFERENCES revisions, form TEXT NOT NULL, client TEXT NOT NULL, number INTEGER NOT NULL,
    saved_at TEXT NOT NULL, UNIQUE (pair_id, annotator, client, number)
);;
CREATE TRIGGER edits_never_changed BEFORE UPDATE ON edits BEGIN SELECT RAISE(ABORT, 'edits are never changed'); END;;
CREATE TRIGGER edits_never_deleted BEFORE DELETE ON edits BEGIN SELECT RAISE(ABORT, 'edits are never deleted'); END;;
CREATE TABLE cluster_names (
    id INTEGER PRIMARY KEY AUTOINCREMENT, cluster INTEGER NOT NULL, name TEXT NOT NULL, annotator TEXT NOT NULL,
    named_at TEXT NOT NULL
);;
CREATE TRIGGER names_never_changed BEFORE UPDATE ON cluster_names
BEGIN SELECT RAISE(ABORT, 'names are never changed'); END;;
CREATE TRIGGER names_never_deleted BEFORE DELETE ON cluster_names
BEGIN SELECT RAISE(ABORT, 'names are never deleted'); END;;
CREATE TABLE leases (
    pair_id TEXT NOT NULL REFERENCES pairs, annotator TEXT NOT NULL, taken INTEGER NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (pair_id, annotator)
) WITHOUT ROWID;;
CREATE TABLE skips (
    annotator TEXT NOT NULL, pair_id TEXT NOT NULL REFERENCES pairs, PRIMARY KEY (annotator, pair_id)
) WITHOUT ROWID;;
CREATE TABLE last_decisions (
    annotator TEXT NOT NULL, pair_id TEXT NOT NULL REFERENCES pairs, kind TEXT NOT NULL,
    PRIMARY KEY (annotator, pair_id)
) WITHOUT ROWID;;
CREATE TABLE listed (
    pair_id TEXT PRIMARY KEY REFERENCES pairs, rank INTEGER NOT NULL, control_of TEXT, cluster INTEGER,
    place TEXT NOT NULL, clip_sim REAL, dino_sim REAL, state TEXT NOT NULL, deciders INTEGER NOT NULL,
    drafted INTEGER NOT NULL, pattern TEXT NOT NULL, patterns TEXT NOT NULL, question TEXT NOT NULL,
    why TEXT NOT NULL, words TEXT NOT NULL, revision INTEGER NOT NULL
);;
CREATE INDEX listed_by_rank ON listed (rank, pair_id);;
CREATE INDEX listed_by_state ON listed (state, rank, pair_id);;
CREATE INDEX listed_for_queue ON listed (deciders, pattern, cluster, place, rank, pair_id, control_of, state);;
CREATE INDEX listed_by_control ON listed (control_of, state)
"""
TABLES = _PAIRS + _REVISIONS.format(name="revisions") + _GUARDS + _SINCE_2
_KEPT = "id, pair_id, author, kind, body, reason, source, second, based_on, created_at, key"
# A CHECK cannot be altered: the table is made again under another name, which SQLite's own page on ALTER TABLE
# recommends (sqlite.org/lang_altertable.html, section 7). Its guards go with the old one.
_FROM_1 = (
    _REVISIONS.format(name="revisions_of_2")
    + f"INSERT INTO revisions_of_2 ({_KEPT}) SELECT {_KEPT} FROM revisions ORDER BY id;;"
    + "DROP TABLE revisions;;"
    + "ALTER TABLE revisions_of_2 RENAME TO revisions;;"
    + _GUARDS
    + _SINCE_2
)
MIGRATIONS = {1: _FROM_1}  # version -> the statements that make it the next
