"""How far people agree: on what they keep, and on the answers, which are compared as answers and never as keys.

Two people may write the same question with its options in another order, so the position of an option says nothing.
Here an answer is the text that is right for image a, and its category is which of the two options it is in the order of
the alphabet: chance is then one half, as for any question with two options. Answers to questions with other options
cannot be compared; they are counted, and are no agreement.

Only what people said independently counts: a decision that settles a dispute was made with the others in view.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import MinedPair
from blindpairs.author.listing import search_words
from blindpairs.author.revisions import Revision
from blindpairs.author.standing import Standing, answer_text, standing_of
from blindpairs.benchmark import Question
from blindpairs.statistics import cohen_kappa, fleiss_kappa


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance on `items` pairs; nan where chance explains everything, or nothing was compared."""

    kappa: float
    items: int
    agreed: int  # items on which everybody says the same


@dataclass(frozen=True)
class TwoPeople:
    """The agreement of two people on the pairs that both decided."""

    one: str
    other: str
    kept: Kappa  # accepted or rejected (Cohen)
    answers: Kappa  # of the pairs that both accepted, with the same options (Cohen)
    other_options: int  # pairs that both accepted with options that cannot be compared


@dataclass(frozen=True)
class Agreement:
    """The agreement of everybody. `pairs` are those that two people or more decided."""

    pairs: int
    kept: Kappa  # Fleiss
    answers: Kappa  # Fleiss
    people: tuple[TwoPeople, ...]


@dataclass(frozen=True)
class Dispute:
    """A pair that people disagree about, with what each of them said."""

    pair: MinedPair
    why: str
    decisions: tuple[Revision, ...]  # one a person, the latest last
    revision: int  # the latest of the pair: what a settling decision is based on


def agreement(database: AuthoringDatabase) -> Agreement:
    """The agreement of everybody and of every two people."""
    return agreement_of(history for _, history in _decided_by_several(database))


def agreement_of(histories: Iterable[Sequence[Revision]]) -> Agreement:
    """The same of pairs with these revisions."""
    several = [said for history in histories if len(said := independent(history)) > 1]
    kept = [[one.kind for one in said.values()] for said in several]
    labelled = [labels for said in several if len(labels := answer_labels(said)) > 1]
    names = sorted({name for said in several for name in said})
    people = [_two(one, other, several) for one, other in combinations(names, 2)]
    return Agreement(
        pairs=len(several),
        kept=_fleiss(kept),
        answers=_fleiss([list(labels.values()) for labels in labelled]),
        people=tuple(two for two in people if two.kept.items),
    )


def disputes(database: AuthoringDatabase) -> list[Dispute]:
    """The pairs that wait for somebody to settle them, in rank order."""
    rows = database.read("SELECT pair_id FROM listed WHERE state = 'disputed' ORDER BY rank, pair_id")
    found = database.histories_of(pair_id for (pair_id,) in rows)
    return [_dispute(standing_of(pair, history), history) for pair, history in found]


def independent(history: Iterable[Revision]) -> dict[str, Revision]:
    """The last decision of each person that settles no dispute and was not taken back, by name."""
    last: dict[str, Revision] = {}
    for one in history:
        if one.kind != "draft" and not one.settles:
            last[one.author] = one
    return {name: one for name, one in last.items() if one.kind != "withdrawn"}


def answer_labels(said: dict[str, Revision]) -> dict[str, int]:
    """Of those who accept with the options that most of them have, which option is right for image a, by name.

    0 is the option that comes first in the alphabet, in whatever order a person wrote the two.
    """
    asked = {name: one.draft.question for name, one in said.items() if one.kind == "accepted" and one.draft.question}
    kinds = Counter(_options(question) for question in asked.values())
    if not kinds:
        return {}
    common = max(kinds, key=lambda kind: kinds[kind])  # of equally many, those of the first person
    labels = {name: question for name, question in asked.items() if _options(question) == common}
    return {name: common.index(search_words(answer_text(question, 0))) for name, question in labels.items()}


def _two(one: str, other: str, several: Sequence[dict[str, Revision]]) -> TwoPeople:
    both = [(said[one], said[other]) for said in several if one in said and other in said]
    accepted = [(a, b) for a, b in both if a.kind == b.kind == "accepted" and a.draft.question and b.draft.question]
    labels = [answer_labels({one: a, other: b}) for a, b in accepted]
    compared = [(found[one], found[other]) for found in labels if len(found) == 2]
    return TwoPeople(
        one, other, _cohen([(a.kind, b.kind) for a, b in both]), _cohen(compared), len(accepted) - len(compared)
    )


def _cohen(labels: Sequence[tuple[object, object]]) -> Kappa:
    kappa = cohen_kappa([a for a, _ in labels], [b for _, b in labels])
    return Kappa(kappa, len(labels), sum(a == b for a, b in labels))


def _fleiss(items: Sequence[Sequence[object]]) -> Kappa:
    kappa = fleiss_kappa([Counter(item) for item in items])
    return Kappa(kappa, len(items), sum(len(set(item)) == 1 for item in items))


def _options(question: Question) -> tuple[str, ...]:
    """Both options in the order of the alphabet, as `same_words` compares them."""
    return tuple(sorted(search_words(option) for option in question.options))


def _decided_by_several(database: AuthoringDatabase) -> Iterable[tuple[MinedPair, list[Revision]]]:
    rows = database.read("SELECT pair_id FROM listed WHERE deciders > 1 ORDER BY rank, pair_id")
    return database.histories_of(pair_id for (pair_id,) in rows)


def _dispute(standing: Standing, history: Sequence[Revision]) -> Dispute:
    return Dispute(standing.pair, standing.why, standing.decisions, history[-1].id)
