"""What a person or a model proposes for a pair, and who can propose it.

A draft becomes part of a benchmark only when a person has accepted it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from blindpairs.benchmark import Question
from blindpairs.errors import InputError


@dataclass(frozen=True)
class Draft:
    """What is asked about a pair and what is said of its images, apart from who proposed it."""

    question: Question | None = None
    second: Question | None = None  # with exchanged answers
    patterns: tuple[str, ...] = ()
    statement_a: str = ""  # true of image a and false of image b
    statement_b: str = ""

    def as_json(self) -> dict[str, Any]:
        """The draft as JSON values; `draft_of` turns them back."""
        return {
            "question": _as_json(self.question),
            "second": _as_json(self.second),
            "patterns": list(self.patterns),
            "statement_a": self.statement_a,
            "statement_b": self.statement_b,
        }


@dataclass(frozen=True)
class MinedPair:
    """A pair as it was mined, kept with its drafts, so that mining again loses no work."""

    pair_id: str
    image_id_a: str
    image_id_b: str
    uri_a: str
    uri_b: str
    clip_sim: float | None = None
    dino_sim: float | None = None
    cluster: int | None = None
    control_of: str | None = None
    rank: int = 0  # 0 is the best


@dataclass(frozen=True)
class NotDrafted:
    """Why a drafter has no draft for a pair: a stable word, and a sentence for people."""

    code: str
    message: str


class Drafter(Protocol):
    """Proposes drafts: a vision-language model, or the ground truth of the demo."""

    name: str  # for people, and recorded as the source of each draft

    def draft(self, pairs: Iterable[MinedPair], *, second: bool) -> Iterator[tuple[str, Draft | NotDrafted]]:
        """(pair id, draft or why there is none) of each pair, as they are made; `second` also asks for that question.

        A control (`control_of` is not None) is drafted like any other pair.
        """


def draft_of(value: Mapping[str, Any]) -> Draft:
    """The draft in JSON values of `as_json`; InputError where they have another shape."""
    try:
        patterns = tuple(str(one) for one in value["patterns"])
        statements = (str(value["statement_a"]), str(value["statement_b"]))
        return Draft(_question(value["question"]), _question(value["second"]), patterns, *statements)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"a draft has another shape than blindpairs writes ({error!r})") from error


def _as_json(question: Question | None) -> dict[str, Any] | None:
    if question is None:
        return None
    return {"text": question.text, "options": list(question.options), "answers": list(question.answers)}


def _question(value: Mapping[str, Any] | None) -> Question | None:
    if value is None:
        return None
    (first, other), (a, b) = value["options"], value["answers"]
    return Question(str(value["text"]), (str(first), str(other)), (int(a), int(b)))
