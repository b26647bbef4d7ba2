"""Which decision counts for each pair, from the revisions of the authoring database.

Of each person the last decision counts. A pair is accepted where at least one person accepts it, nobody rejects it, and
all who accept it agree on the answers; it is disputed where people disagree. Answers are compared as texts of each
image, never as positions of options: two people may have the same options in another order. The text that counts is
that of the latest acceptance. A draft that no person accepted never enters.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import MinedPair, same_words
from blindpairs.author.revisions import Revision
from blindpairs.benchmark import BenchmarkPair, Question

State = Literal["undecided", "accepted", "rejected", "disputed"]


@dataclass(frozen=True)
class Standing:
    """Where a pair stands, and the last decision of each person, the latest last."""

    pair: MinedPair
    state: State
    decisions: tuple[Revision, ...]
    drafted: bool
    why: str = ""  # of a disputed pair: who disagrees; of a rejected one: who gave which reason

    @property
    def benchmark_pair(self) -> BenchmarkPair | None:
        """The pair as it enters a benchmark; None where it is not accepted."""
        if self.state != "accepted":
            return None
        pair, counts = self.pair, self.decisions[-1]
        return BenchmarkPair(
            pair_id=pair.pair_id,
            image_id_a=pair.image_id_a,
            image_id_b=pair.image_id_b,
            uri_a=pair.uri_a,
            uri_b=pair.uri_b,
            question=counts.draft.question,
            second=counts.draft.second,
            patterns=counts.draft.patterns,
            statement_a=counts.draft.statement_a,
            statement_b=counts.draft.statement_b,
            clip_sim=pair.clip_sim,
            dino_sim=pair.dino_sim,
            annotators=tuple(one.author for one in self.decisions),
            source=counts.source,
            control_of=pair.control_of,
        )


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


def standing_of(pair: MinedPair, history: Sequence[Revision]) -> Standing:
    """Where a pair with these revisions stands."""
    last: dict[str, Revision] = {}
    for revision in history:
        if revision.kind != "draft":
            last[revision.author] = revision
    decisions = tuple(sorted(last.values(), key=lambda one: one.id))
    accepted = [one for one in decisions if one.kind == "accepted"]
    rejected = [one for one in decisions if one.kind == "rejected"]
    drafted = any(one.kind == "draft" for one in history)
    if accepted and rejected:
        people = f"accepted by {_names(accepted)}, rejected by {_names(rejected)}"
        return Standing(pair, "disputed", decisions, drafted, people)
    if rejected:
        reasons = "; ".join(f"{one.author}: {one.reason}" if one.reason else one.author for one in rejected)
        return Standing(pair, "rejected", decisions, drafted, reasons)
    for one, other in combinations(accepted, 2):
        if why := _disagreement(one, other):
            return Standing(pair, "disputed", decisions, drafted, why)
    return Standing(pair, "accepted" if accepted else "undecided", decisions, drafted)


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


def _disagreement(one: Revision, other: Revision) -> str:
    asked = (("", one.draft.question, other.draft.question), ("second ", one.draft.second, other.draft.second))
    for name, first, second in asked:
        for side in (0, 1):
            if first and second and not same_words(*(answers := (_answer(first, side), _answer(second, side)))):
                return (
                    f"the answer of image {'ab'[side]} to the {name}question is {answers[0]!r} for {one.author} and "
                    f"{answers[1]!r} for {other.author}"
                )
    return ""


def _answer(question: Question, side: int) -> str:
    return question.options[question.answers[side]]


def _names(decisions: Sequence[Revision]) -> str:
    return ", ".join(one.author for one in decisions)
