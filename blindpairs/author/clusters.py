"""Clusters of differences, and the names that people give them: candidate visual patterns.

`mine --differences` groups pairs by what differs between their images, and knows no word for it. A person looks at the
best ranked pairs of a cluster and names it; every name is kept, the last one counts. The name of a cluster stands for
the pattern of its pairs until these have a text with patterns of their own.
"""

from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.deciding import clean_name, now
from blindpairs.errors import InputError
from blindpairs.pages.safety import visible_text

TYPICAL = 12  # pairs that are shown of a cluster
Names = dict[int, tuple[str, str]]  # number of a cluster -> its name, and who gave it


@dataclass(frozen=True)
class Cluster:
    """One cluster, of its blind pairs."""

    number: int
    name: str  # "" where nobody named it
    named_by: str
    pairs: int
    states: Counter[str]
    patterns: Counter[str]  # of those of its pairs that have a text: what people and drafts call them
    typical: tuple[str, ...]  # the ids of its best ranked pairs


def cluster_number(given: str) -> int | None:
    """The cluster that an address names, None for an empty text; InputError for what is no number that a file holds."""
    with suppress(ValueError):  # also for one of thousands of digits
        number = int(given) if given else None
        if number is None or abs(number) < 1 << 62:
            return number
    raise InputError(f"{visible_text(given[:20])} is no number of a cluster")


def clusters(database: AuthoringDatabase, typical: int = TYPICAL) -> list[Cluster]:
    """Every cluster by its number; none where nothing was mined with differences."""
    where = "control_of IS NULL AND cluster IS NOT NULL"
    counted = database.read(f"SELECT cluster, state, pattern, count(*) FROM listed WHERE {where} GROUP BY 1, 2, 3")
    best = database.read(
        "SELECT cluster, pair_id FROM (SELECT cluster, pair_id, row_number() OVER "
        f"(PARTITION BY cluster ORDER BY rank, pair_id) AS place FROM listed WHERE {where}) "
        "WHERE place <= ? ORDER BY cluster, place",
        (typical,),
    )
    states: defaultdict[int, Counter[str]] = defaultdict(Counter)
    patterns: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for number, state, pattern, count in counted:
        states[number][state] += count
        if pattern:  # a pair without a text has none
            patterns[number][pattern] += count
    shown: defaultdict[int, list[str]] = defaultdict(list)
    for number, pair_id in best:
        shown[number].append(pair_id)
    names = cluster_names(database)
    return [
        Cluster(
            number,
            *names.get(number, ("", "")),
            states[number].total(),
            states[number],
            patterns[number],
            tuple(shown[number]),
        )
        for number in sorted(states)
    ]


def cluster_names(database: AuthoringDatabase) -> Names:
    """The name of each named cluster, and who gave it."""
    rows = database.read("SELECT cluster, name, annotator FROM cluster_names ORDER BY id")
    last = {cluster: (name, annotator) for cluster, name, annotator in rows}
    return {cluster: named for cluster, named in last.items() if named[0]}


def name_cluster(database: AuthoringDatabase, number: int, name: str, annotator: str) -> None:
    """Name a cluster; an empty name takes the last one away. InputError for a cluster that is not there."""
    person = clean_name(annotator, "annotator")
    name = clean_name(name, "cluster") if name.strip() else ""
    with database.writing() as connection:
        if not database.read("SELECT 1 FROM listed WHERE cluster = ? LIMIT 1", (number,)):
            raise InputError(f"there is no cluster {number}: `blindpairs mine --differences` finds them")
        last = database.read("SELECT name FROM cluster_names WHERE cluster = ? ORDER BY id DESC LIMIT 1", (number,))
        if (last[0][0] if last else "") != name:
            connection.execute(
                "INSERT INTO cluster_names (cluster, name, annotator, named_at) VALUES (?, ?, ?, ?)",
                (number, name, person, now()),
            )
