"""Where a pair stands, from its revisions: pure functions, which no database knows.

Of each person the last decision counts, unless it was withdrawn. A pair is accepted where at least one person accepts
it, nobody rejects it, and all who accept it agree on the answers; it is disputed where people disagree. Answers are
compared as texts of each image, never as positions of options: two people may have the same options in another order.
The text that counts is that of the latest acceptance. A draft that no person accepted never enters.

A decision that settles a dispute was made with those of all others in view: earlier ones that contradict it count no
longer. A later one that contradicts it opens the dispute again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from blindpairs.author.drafts import MinedPair, same_words
from blindpairs.author.revisions import Revision, last_decisions
from blindpairs.benchmark import BenchmarkPair, Question

State = Literal["undecided", "accepted", "rejected", "disputed"]


@dataclass(frozen=True)
class Standing:
    """Where a pair stands, and the decisions that count, one a person, the latest last."""

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


def standing_of(pair: MinedPair, history: Sequence[Revision]) -> Standing:
    """Where a pair with these revisions stands."""
    decisions = counting(history)
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
        if why := disagreement(one, other):
            return Standing(pair, "disputed", decisions, drafted, why)
    return Standing(pair, "accepted" if accepted else "undecided", decisions, drafted)


def counting(history: Sequence[Revision]) -> tuple[Revision, ...]:
    """The decisions that count, one a person, the latest last."""
    decisions = sorted(last_decisions(history).values(), key=lambda one: one.id)
    settled = next((one for one in reversed(decisions) if one.settles), None)
    if settled is None:
        return tuple(decisions)
    return tuple(one for one in decisions if one.id >= settled.id or not contradiction(one, settled))


def contradiction(one: Revision, other: Revision) -> str:
    """Why two decisions cannot both stand; "" where they can."""
    if one.kind != other.kind:
        return f"{one.kind} by {one.author}, {other.kind} by {other.author}"
    return disagreement(one, other) if one.kind == "accepted" else ""


def disagreement(one: Revision, other: Revision) -> str:
    """Which answer differs between two acceptances, as text of an image; "" where none does."""
    asked = (("", one.draft.question, other.draft.question), ("second ", one.draft.second, other.draft.second))
    for name, first, second in asked:
        for side in (0, 1):
            if first and second and not same_words(*(answers := (answer_text(first, side), answer_text(second, side)))):
                return (
                    f"the answer of image {'ab'[side]} to the {name}question is {answers[0]!r} for {one.author} and "
                    f"{answers[1]!r} for {other.author}"
                )
    return ""


def answer_text(question: Question, side: int) -> str:
    """The right option of image a (0) or b (1)."""
    return question.options[question.answers[side]]


def _names(decisions: Sequence[Revision]) -> str:
    return ", ".join(one.author for one in decisions)
