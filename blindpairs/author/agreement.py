"""How far people agree: on what they keep, and on the answers, which are compared as answers and never as keys.

Two people may write the same question with its options in another order, so the position of an option says nothing.
Here an answer is the text that is right for image a, and its category is which of the two options it is in the order of
the alphabet: chance is then one half, as for any question with two options. Answers to questions with other options
cannot be compared; they are counted, and are no agreement.

Only what people said independently counts: a decision that settles a dispute was made with the others in view.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import MinedPair, search_words
from blindpairs.author.revisions import Revision
from blindpairs.author.standing import Standing, standing_of
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


@dataclass(frozen=True)
class Said:
    """What one person said of a pair, as it is compared."""

    kind: str  # accepted or rejected
    options: tuple[str, ...] = ()  # of the first question, in the order of the alphabet; () without a question
    answer: str = ""  # of image a


def agreement(database: AuthoringDatabase) -> Agreement:
    """The agreement of everybody and of every two people."""
    # SQLite takes out of each text what is compared: for 20,000 pairs a fifth of the time of reading them all.
    question = "json_extract(body, '$.question.{}')".format
    columns = ", ".join(map(question, ("options[0]", "options[1]", "answers[0]")))
    several = "pair_id IN (SELECT pair_id FROM listed WHERE deciders > 1)"
    rows = database.read(
        f"SELECT pair_id, author, kind, {columns} FROM revisions "
        f"WHERE kind != 'draft' AND NOT settles AND {several} ORDER BY pair_id, id"
    )
    last: dict[str, dict[str, Said]] = {}
    for pair_id, author, kind, *asked in rows:
        last.setdefault(pair_id, {})[author] = said_as(kind, *asked)
    return agreement_of({name: one for name, one in said.items() if one.kind != "withdrawn"} for said in last.values())


def agreement_of(pairs: Iterable[Mapping[str, Said]]) -> Agreement:
    """The same of what people said independently of each pair, by name."""
    several = [said for said in pairs if len(said) > 1]
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


def answer_labels(said: Mapping[str, Said]) -> dict[str, int]:
    """Of those who accept with the options that most of them have, which option is right for image a, by name.

    0 is the option that comes first in the alphabet, in whatever order a person wrote the two.
    """
    asked = {name: one for name, one in said.items() if one.kind == "accepted" and one.options}
    kinds = Counter(one.options for one in asked.values())
    if not kinds:
        return {}
    common = max(kinds, key=lambda kind: kinds[kind])  # of equally many, those of the first person
    return {name: common.index(one.answer) for name, one in asked.items() if one.options == common}


def said_as(kind: str, first: str | None, other: str | None, answer: int | None) -> Said:
    """What a decision says, as it is compared, from its kind, options and right option of image a."""
    if first is None or other is None or answer not in (0, 1):
        return Said(kind)
    options = (_words(first), _words(other))
    return Said(kind, tuple(sorted(options)), options[answer])


_words = lru_cache(maxsize=1 << 12)(search_words)  # as `same_words` compares; most questions share their options


def _two(one: str, other: str, several: Sequence[Mapping[str, Said]]) -> TwoPeople:
    both = [(said[one], said[other]) for said in several if one in said and other in said]
    accepted = [(a, b) for a, b in both if a.kind == b.kind == "accepted" and a.options and b.options]
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


def _dispute(standing: Standing, history: Sequence[Revision]) -> Dispute:
    return Dispute(standing.pair, standing.why, standing.decisions, history[-1].id)
