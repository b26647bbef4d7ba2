"""Drafts and decisions as they are kept: values, and what can be told from those of one pair.

A decision is what a person said of a pair, accepted or rejected, with the text that the person saw or wrote. What a
person takes back is withdrawn, by a revision of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from blindpairs.author.drafts import Draft
from blindpairs.errors import InputError

Kind = Literal["draft", "accepted", "rejected", "withdrawn"]


@dataclass(frozen=True)
class Revision:
    """One draft or decision, as it was kept."""

    id: int  # grows with every revision, whatever its pair
    pair_id: str
    author: str  # the drafter, or the person who decided
    kind: Kind
    draft: Draft  # of a rejection: what was rejected
    reason: str  # "" for most
    source: str  # who wrote the text: a drafter, or "person:NAME"
    second: bool  # of a draft: whether a second question was asked for
    based_on: int | None  # the revision that the person saw
    created_at: str  # UTC, ISO 8601
    seconds: float | None = None  # that the person looked and wrote; None where nobody measured it
    settles: bool = False  # made with the decisions of all others in view, to settle a dispute
    undoes: int | None = None  # the revision that this one takes back


@dataclass(frozen=True)
class Decision:
    """What a person says of a pair."""

    pair_id: str
    annotator: str
    accepted: bool
    draft: Draft  # as accepted, with the person's changes; of a rejection: what is rejected
    reason: str = ""
    based_on: int | None = None  # the revision that the person saw; None where that is not known
    seconds: float | None = None  # that the person looked and wrote
    settles: bool = False  # settles a dispute: `based_on` is then the latest revision of the pair that was in view


class Conflict(InputError):
    """The pair has a later revision than the one that a decision is based on: `revision`."""

    def __init__(self, revision: Revision) -> None:
        super().__init__(
            f"pair {revision.pair_id} has a later revision ({revision.kind} by {revision.author}, "
            f"{revision.created_at}): look at it, then decide again"
        )
        self.revision = revision


@dataclass(frozen=True)
class Saved:
    """What became of decisions that were handed in together."""

    added: int  # new revisions
    known: int  # kept before, as after the second import of one file
    superseded: tuple[str, ...]  # pair ids whose decision was kept before, and replaced by the same person since


def latest_draft(history: Iterable[Revision], drafter: str | None = None) -> Revision | None:
    """The last draft of one drafter, or of any."""
    drafts = [one for one in history if one.kind == "draft" and drafter in (None, one.author)]
    return drafts[-1] if drafts else None


def last_words(history: Iterable[Revision]) -> dict[str, Revision]:
    """The last that each person said of a pair, a withdrawal too, by name."""
    return {one.author: one for one in history if one.kind != "draft"}


def last_decisions(history: Iterable[Revision]) -> dict[str, Revision]:
    """The last decision of each person who did not take it back, by name."""
    return {name: one for name, one in last_words(history).items() if one.kind != "withdrawn"}


def latest_decision(history: Iterable[Revision], annotator: str) -> Revision | None:
    """The last decision of one person; None also where it was withdrawn."""
    return last_decisions(history).get(annotator)


def shown_to(history: Iterable[Revision], annotator: str) -> Revision | None:
    """What a person sees of a pair at first: the last that this person said, also if it was taken back, else the last
    draft. What others said is not shown, so that people decide independently.
    """
    history = list(history)
    return last_words(history).get(annotator) or latest_draft(history)


def latest_standing(history: Iterable[Revision]) -> Revision | None:
    """The latest revision of anyone that nobody replaced or took back: a draft, or a person's last decision."""
    history = list(history)
    said = last_decisions(history)
    stands = [one for one in history if one.kind == "draft" or one == said.get(one.author)]
    return stands[-1] if stands else None


def source_of(
    draft: Draft, annotator: str, based: Revision | None, history: Iterable[Revision], *, decisions: bool = False
) -> str:
    """Who wrote the text of a draft: the author of the revision that the person saw, or of a draft with this text.

    With `decisions` the person saw those of others, too.

    Patterns are no text: a person who only classifies a pair otherwise did not write its question.
    """
    seen = [based] if based else []
    known = [one for one in history if decisions or one.kind == "draft"]
    return next((one.source for one in [*seen, *known] if _text(one.draft) == _text(draft)), f"person:{annotator}")


def _text(draft: Draft) -> Draft:
    return replace(draft, patterns=())
