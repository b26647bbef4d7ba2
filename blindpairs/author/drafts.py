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

    @property
    def name(self) -> str:
        """For people, and recorded as the source of each draft."""

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


def fault_of(draft: Draft) -> str:
    """Why nobody can accept a draft, as half a sentence; "" where somebody can.

    These are the faults that leave a pair without meaning. `benchmark.checks` says more when it is exported.
    """
    statements = (draft.statement_a.strip(), draft.statement_b.strip())
    if draft.question is None and not all(statements):
        return "it has neither a question nor two statements"
    if draft.question is None and draft.second is not None:
        return "it has a second question without a first one"
    faults = {"question": _fault(draft.question), "second question": _fault(draft.second)}
    return "; ".join(f"{name}: {fault}" for name, fault in faults.items() if fault)


def _fault(question: Question | None) -> str:
    if question is None:
        return ""
    if not question.text.strip():
        return "it is empty"
    if not all(option.strip() for option in question.options):
        return "an option is empty"
    if same_words(*question.options):
        return f"both options are {question.options[0]!r}"
    if sorted(question.answers) != [0, 1]:
        return "its answers must be both options, one for each image"
    return ""


def same_words(one: str, other: str) -> bool:
    """Whether two texts differ at most in case and in white space."""
    return search_words(one) == search_words(other)


def search_words(text: str) -> str:
    """A text as it is compared and searched: case and the kind of white space are nothing."""
    return " ".join(text.casefold().split())


def _as_json(question: Question | None) -> dict[str, Any] | None:
    if question is None:
        return None
    return {"text": question.text, "options": list(question.options), "answers": list(question.answers)}


def _question(value: Mapping[str, Any] | None) -> Question | None:
    if value is None:
        return None
    (first, other), (a, b) = value["options"], value["answers"]
    return Question(str(value["text"]), (str(first), str(other)), (int(a), int(b)))
