"""One row a pair with where it stands, for lists and queues that must be fast: derived from the revisions, never typed.

Promise: a row is written in the transaction that adds a revision, so it is never behind. Where a program that knows
nothing of these rows added revisions, or there are no rows yet, they are made again when the file is opened (`behind`).
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from blindpairs.author.drafts import MinedPair, search_words
from blindpairs.author.revisions import Revision, last_decisions, last_words, latest_draft
from blindpairs.author.standing import standing_of

BETWEEN = "\x1f"  # around each pattern of a row, so that one can be looked for; no keyboard types it
_COLUMNS = (
    "pair_id, rank, control_of, cluster, place, clip_sim, dino_sim, state, deciders, drafted, pattern, patterns, "
    "question, why, words, revision"
)


def list_pair(connection: sqlite3.Connection, pair: MinedPair, history: Sequence[Revision]) -> None:
    """Write the derived rows of a pair. The caller's transaction holds this and what it is derived from."""
    row = _row(pair, history)
    connection.execute(f"INSERT OR REPLACE INTO listed ({_COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)
    for annotator, last in last_words(history).items():
        if last.kind == "withdrawn":
            connection.execute(
                "DELETE FROM last_decisions WHERE annotator = ? AND pair_id = ?", (annotator, pair.pair_id)
            )
        else:
            connection.execute(
                "INSERT OR REPLACE INTO last_decisions (annotator, pair_id, kind) VALUES (?, ?, ?)",
                (annotator, pair.pair_id, last.kind),
            )


def list_new(connection: sqlite3.Connection, pairs: Iterable[MinedPair]) -> None:
    """Write the rows of pairs that were just added; those that are listed already stay."""
    rows = [_row(pair, ()) for pair in pairs]
    places = ", ".join("?" * len(_COLUMNS.split(",")))
    connection.executemany(f"INSERT INTO listed ({_COLUMNS}) VALUES ({places}) ON CONFLICT DO NOTHING", rows)


def behind(connection: sqlite3.Connection) -> list[str]:
    """The ids of pairs whose rows are not there, or older than their revisions."""
    missing = "SELECT pair_id FROM pairs WHERE pair_id NOT IN (SELECT pair_id FROM listed)"
    newest = "SELECT pair_id, max(id) AS newest FROM revisions GROUP BY pair_id"
    older = f"SELECT pair_id FROM ({newest}) JOIN listed USING (pair_id) WHERE revision < newest"
    return [pair_id for (pair_id,) in connection.execute(f"{missing} UNION {older}").fetchall()]


def place_of(uri: str) -> str:
    """Where in its corpus an image is: its folder, or the file that holds it with the folder inside."""
    container, hash_mark, member = uri.rpartition("#")
    if hash_mark:
        return container + hash_mark + member.rpartition("/")[0]
    return uri.rpartition("/")[0]


def _row(pair: MinedPair, history: Sequence[Revision]) -> tuple[object, ...]:
    standing = standing_of(pair, history)
    said = last_decisions(history)  # also those that a settled dispute made count no longer
    shown = max(said.values(), key=lambda one: one.id, default=None) or latest_draft(history)
    draft = shown.draft if shown else None
    patterns = draft.patterns if draft else ()
    question = draft.question.text if draft and draft.question else ""
    return (
        *(pair.pair_id, pair.rank, pair.control_of, pair.cluster, place_of(pair.uri_a), pair.clip_sim, pair.dino_sim),
        *(standing.state, len(said), standing.drafted, patterns[0] if patterns else ""),
        *(BETWEEN + BETWEEN.join(patterns) + BETWEEN if patterns else "", question, standing.why),
        search_words("\n".join(_texts(pair, shown, standing.why))),
        history[-1].id if history else 0,
    )


def _texts(pair: MinedPair, shown: Revision | None, why: str) -> Iterator[str]:
    yield from (pair.pair_id, pair.uri_a, pair.uri_b, why)
    if shown:
        draft = shown.draft
        yield from (draft.statement_a, draft.statement_b, *draft.patterns, shown.reason, shown.author)
        for question in (draft.question, draft.second):
            if question:
                yield from (question.text, *question.options)
