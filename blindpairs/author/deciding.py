"""What a decision, or taking one back, adds to the revisions of a pair: pure functions, which no database knows.

Promises: a decision that says nothing new adds nothing; one that was made without seeing what it would override is a
Conflict; a person can come back to an earlier decision, and an old copy of it does not count as coming back.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from blindpairs.author.drafts import Draft, draft_of, fault_of
from blindpairs.author.revisions import Conflict, Decision, Kind, Revision, last_words, latest_draft, source_of
from blindpairs.errors import InputError
from blindpairs.workspace import digest

LONGEST_NAME = 200
Found = Callable[[str], Revision | None]  # the revision with a key


def decided(
    decision: Decision, history: Sequence[Revision], found: Found, *, refuse_stale: bool
) -> tuple[Revision, str]:
    """The revision of a decision, with its key; with "" where it is kept already.

    Raises InputError for a decision without meaning, and Conflict, if `refuse_stale`, as `AuthoringDatabase.decide`.
    """
    annotator = clean_name(decision.annotator, "annotator")
    decision = replace(decision, draft=storable(decision.draft), reason=text_of(decision.reason))
    based = _checked(decision, history)
    kind: Kind = "accepted" if decision.accepted else "rejected"
    latest = last_words(history).get(annotator)
    decision = replace(decision, settles=decision.settles or _still_settles(latest, history))
    if latest and _says(latest, kind, decision):
        return latest, ""
    if refuse_stale and (newer := _unseen(decision, based, latest, history)):
        raise Conflict(newer)
    start = decision.based_on if based else latest.id if latest else None
    content = [decision.pair_id, annotator, kind, decision.draft.as_json(), decision.reason, start]
    key = digest([*content, "settles"] if decision.settles else content)
    if there := found(key):
        return there, ""
    own = based if based and based.author == annotator else None
    if own and _says(own, kind, decision):
        return own, ""  # a row of an exported file that nobody changed says nothing new
    source = source_of(decision.draft, annotator, based, history, decisions=decision.settles)
    text, shown = (decision.draft, decision.reason, source), decision.based_on
    made = Revision(0, decision.pair_id, annotator, kind, *text, False, shown, now())
    return replace(made, seconds=decision.seconds, settles=decision.settles), key


def undone(revision: Revision, history: Sequence[Revision]) -> tuple[Revision, str]:
    """The revision, with its key, that takes a decision back: what the person said before stands again.

    Raises Conflict where the person said something later of the pair, which would have to be taken back first.
    """
    own = [one for one in history if one.author == revision.author and one.kind != "draft"]
    taken = {one.undoes for one in own}
    *earlier, last = [one for one in own if one.undoes is None and one.id not in taken]
    if last != revision:
        raise Conflict(last)
    before = earlier[-1] if earlier else None
    # Where nothing stood before, the text of what is taken back is kept, so that its author can go on with it.
    restored = before or replace(revision, kind="withdrawn", reason="", settles=False)
    made = replace(restored, id=0, based_on=revision.id, created_at=now(), seconds=None, undoes=revision.id)
    return made, digest(["undo", revision.id])


def clean_name(name: str, role: str) -> str:
    """The name without spaces around it; InputError where people could not tell it from another one."""
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise InputError(f"{name[:LONGEST_NAME]!r} cannot be the name of the {role}: give one of visible characters")
    return name.strip()


def storable(draft: Draft) -> Draft:
    """The draft with texts that can be stored."""
    return draft_of(json.loads(text_of(json.dumps(draft.as_json(), ensure_ascii=False))))


def text_of(text: str) -> str:
    """The text with a question mark for each lone surrogate, which JSON may hold and no file of text can."""
    return text.encode(errors="replace").decode()


def now() -> str:
    """The time as it is stored: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _checked(decision: Decision, history: Sequence[Revision]) -> Revision | None:
    """The revision that a decision is based on; InputError for a decision without meaning."""
    if decision.accepted and (fault := fault_of(decision.draft)):
        raise InputError(f"pair {decision.pair_id} cannot be accepted: {fault}")
    if decision.seconds is not None and not (math.isfinite(decision.seconds) and decision.seconds >= 0):
        raise InputError(f"pair {decision.pair_id}: {decision.seconds} is no number of seconds")
    based = next((one for one in history if one.id == decision.based_on), None)
    if decision.based_on is not None and based is None:
        raise InputError(f"pair {decision.pair_id} has no revision {decision.based_on}: export it again")
    if decision.settles and based is None:
        raise InputError(f"pair {decision.pair_id} has no decisions that could be settled: decide it as anybody does")
    return based


def _still_settles(latest: Revision | None, history: Sequence[Revision]) -> bool:
    """Whether the last word on a pair is that of the same person, who settled it: who corrects it settles it still."""
    return bool(latest and latest.settles and latest.id == max(one.id for one in last_words(history).values()))


def _unseen(
    decision: Decision, based: Revision | None, latest: Revision | None, history: Sequence[Revision]
) -> Revision | None:
    """The latest revision that the person should have seen and did not."""
    if based is None:
        return None
    seen_later = [latest, latest_draft(history, based.author)]
    if decision.settles:
        seen_later += last_words(history).values()
    newer = [one for one in seen_later if one and one.id > based.id]
    return max(newer, key=lambda one: one.id, default=None)


def _says(revision: Revision, kind: Kind, decision: Decision) -> bool:
    """Whether a revision says all that a decision does."""
    same = (revision.kind, revision.draft, revision.reason) == (kind, decision.draft, decision.reason)
    return same and revision.settles >= decision.settles
