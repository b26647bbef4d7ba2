"""The questions that stand at present, by pair, and patterns that a person takes over for them."""

from collections.abc import Mapping
from dataclasses import replace

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.revisions import Decision, latest_decision
from blindpairs.benchmark import Question


def current_questions(database: AuthoringDatabase) -> dict[str, Question]:
    """The question of each pair's last revision that is no rejection, in rank order; pairs without one are left out."""
    current: dict[str, Question] = {}
    for pair, history in database.histories():
        standing = [one for one in history if one.kind not in ("rejected", "withdrawn")]
        if standing and standing[-1].draft.question:
            current[pair.pair_id] = standing[-1].draft.question
    return current


def accept_patterns(database: AuthoringDatabase, assignment: Mapping[str, str], annotator: str) -> int:
    """Record patterns by pair id as a person's decision, where that person has accepted the pair; returns how many."""
    decisions = []
    for pair, history in database.histories():
        latest = latest_decision(history, annotator)
        if latest and latest.kind == "accepted" and pair.pair_id in assignment:
            draft = replace(latest.draft, patterns=(assignment[pair.pair_id],))
            decisions.append(Decision(pair.pair_id, annotator, True, draft, latest.reason, latest.id))
    return database.decide_all(decisions).added
