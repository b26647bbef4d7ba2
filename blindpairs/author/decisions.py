"""Which decision counts for each pair of the authoring database, and how many pairs stand where.

The rules are in `standing.py`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.standing import Standing, standing_of
from blindpairs.benchmark import BenchmarkPair


@dataclass
class Counts:
    """How many pairs stand where."""

    pairs: int = 0
    drafted: int = 0
    states: Counter[str] = field(default_factory=Counter)
    patterns: Counter[str] = field(default_factory=Counter)  # of the accepted pairs


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


def counts(database: AuthoringDatabase) -> tuple[Counts, Counts]:
    """Counts of the blind pairs, and of the controls."""
    blind, controls = Counts(), Counts()
    for standing in standings(database):
        counted = blind if standing.pair.control_of is None else controls
        counted.pairs += 1
        counted.drafted += standing.drafted
        counted.states[standing.state] += 1
        if standing.state == "accepted":
            counted.patterns.update(standing.decisions[-1].draft.patterns)
    return blind, controls
