"""Which decision counts for each pair of the authoring database, by the rules of `standing.py`.

How many pairs stand where is told by `Queue.progress`, which reads no revision.
"""

from collections.abc import Iterator

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.standing import Standing, standing_of
from blindpairs.benchmark import BenchmarkPair


def standings(database: AuthoringDatabase) -> Iterator[Standing]:
    """Where every pair stands, in rank order, controls among them."""
    for pair, history in database.histories():
        yield standing_of(pair, history)


def is_open(standing: Standing, annotator: str = "") -> bool:
    """Whether nobody has decided on a pair; with a name, whether this person has not."""
    decisions = standing.decisions
    return all(one.author != annotator for one in decisions) if annotator else standing.state == "undecided"


def accepted_pairs(database: AuthoringDatabase) -> list[BenchmarkPair]:
    """The accepted pairs in rank order, each control marked by `control_of`."""
    return [pair for standing in standings(database) if (pair := standing.benchmark_pair)]
