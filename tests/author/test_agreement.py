"""Agreement is of answers, never of keys: one answer at two places agrees, two answers at one place do not."""

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from authored import DOOR, DRAFT, authoring

from blindpairs.author.agreement import (
    Agreement,
    Said,
    agreement,
    agreement_of,
    answer_labels,
    disputes,
    said_as,
)
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import Draft
from blindpairs.author.revisions import Decision, Revision, last_decisions
from blindpairs.benchmark import Question

TURNED = Draft(Question("Is the door open?", ("closed", "Open "), (1, 0)))  # the answers of DRAFT, in another order
SAME_KEYS = Draft(Question("Is the door open?", ("Closed", "Open"), (0, 1)))  # the keys of DRAFT, with other answers
OTHERWISE = replace(DRAFT, question=replace(DOOR, answers=(1, 0)))
COLOUR = Draft(Question("What colour is the door?", ("Red", "Blue"), (0, 1)))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AuthoringDatabase]:
    with authoring(tmp_path, 6) as made:
        yield made


def say(database: AuthoringDatabase, pair: int, name: str, draft: Draft | None) -> None:
    """Accept a pair with this text; without one, reject it."""
    database.decide(Decision(f"p{pair}", name, draft is not None, draft or DRAFT, based_on=pair + 1))


def independent(history: list[Revision]) -> dict[str, Revision]:
    """The last decision of each person that settles no dispute and was not taken back, by name."""
    return last_decisions(one for one in history if not one.settles)


def said_of(revision: Revision) -> Said:
    """What a decision says, as it is compared."""
    question = revision.draft.question
    return said_as(revision.kind, *question.options, question.answers[0]) if question else Said(revision.kind)


def of_answers(found: Agreement) -> tuple[int, int, float]:
    return found.answers.items, found.answers.agreed, round(found.answers.kappa, 6)


def test_the_same_answer_at_another_place_agrees(database: AuthoringDatabase) -> None:
    for pair, both in enumerate([(DRAFT, TURNED), (TURNED, DRAFT), (OTHERWISE, SAME_KEYS)]):
        say(database, pair, "Ann", both[0])
        say(database, pair, "Ben", both[1])
    assert of_answers(agreement(database)) == (3, 3, 1.0)
    assert disputes(database) == []


def test_the_same_key_with_another_answer_disagrees(database: AuthoringDatabase) -> None:
    for pair, both in enumerate([(DRAFT, SAME_KEYS), (OTHERWISE, TURNED)]):  # every position is the same
        say(database, pair, "Ann", both[0])
        say(database, pair, "Ben", both[1])
    assert of_answers(agreement(database)) == (2, 0, -1.0)
    assert [one.pair.pair_id for one in disputes(database)] == ["p0", "p1"]


def test_people_who_answer_by_lot_agree_by_chance() -> None:
    draw = random.Random(0)
    texts = (DRAFT, TURNED, OTHERWISE, SAME_KEYS)

    def accepted(name: str) -> Said:
        return said_of(Revision(0, "p", name, "accepted", draw.choice(texts), "", "", False, None, ""))

    found = agreement_of([{name: accepted(name) for name in ("Ann", "Ben", "Cleo")} for _ in range(300)])
    assert found.answers.items == 300
    assert abs(found.answers.kappa) < 0.1
    assert [abs(two.answers.kappa) < 0.2 for two in found.people] == [True] * 3
    assert math.isnan(found.kept.kappa)  # everybody accepted everything: chance explains all of it


def test_answers_to_another_question_are_counted_and_not_compared(database: AuthoringDatabase) -> None:
    for pair, both in enumerate([(DRAFT, COLOUR), (DRAFT, TURNED), (Draft(None, None, (), "a", "b"), DRAFT)]):
        say(database, pair, "Ann", both[0])
        say(database, pair, "Ben", both[1])
    (two,) = agreement(database).people
    assert (two.answers.items, two.answers.agreed, two.other_options) == (1, 1, 1)
    assert two.kept.items == 3


def test_rejections_are_part_of_what_people_keep(database: AuthoringDatabase) -> None:
    for pair, (ann, ben) in enumerate([(1, 1), (1, 0), (0, 0), (0, 1), (1, 1), (0, 0)]):
        say(database, pair, "Ann", DRAFT if ann else None)
        say(database, pair, "Ben", DRAFT if ben else None)
    found = agreement(database)
    (two,) = found.people
    assert (two.one, two.other) == ("Ann", "Ben")
    assert two.kept.items == 6
    assert two.kept.agreed == 4
    assert two.kept.kappa == pytest.approx((4 / 6 - 1 / 2) / (1 / 2))  # both kept half
    assert two.answers.items == 2
    assert found.kept.kappa == pytest.approx(two.kept.kappa)  # Fleiss of two people who keep as much as each other


def test_only_what_people_said_independently_counts(database: AuthoringDatabase) -> None:
    say(database, 0, "Ann", DRAFT)
    say(database, 0, "Ben", OTHERWISE)
    last = database.history("p0")[-1].id
    database.decide(Decision("p0", "Cleo", True, DRAFT, based_on=last, settles=True))
    database.decide(Decision("p0", "Ben", True, DRAFT, based_on=database.history("p0")[-1].id, settles=True))
    assert sorted(independent(database.history("p0"))) == ["Ann", "Ben"]
    assert of_answers(agreement(database)) == (1, 0, -1.0)


def test_what_was_taken_back_is_no_agreement(database: AuthoringDatabase) -> None:
    say(database, 0, "Ann", DRAFT)
    say(database, 0, "Ben", DRAFT)
    database.undo("Ben")
    assert agreement(database).pairs == 0


def test_people_who_decided_nothing_together_are_not_compared(database: AuthoringDatabase) -> None:
    say(database, 0, "Ann", DRAFT)
    say(database, 0, "Ben", DRAFT)
    say(database, 1, "Ben", DRAFT)
    say(database, 1, "Cleo", DRAFT)
    assert [(two.one, two.other) for two in agreement(database).people] == [("Ann", "Ben"), ("Ben", "Cleo")]


def test_the_label_does_not_depend_on_who_wrote_the_options_how(database: AuthoringDatabase) -> None:
    for name, draft in (("Ann", DRAFT), ("Ben", TURNED), ("Cleo", SAME_KEYS)):
        say(database, 0, name, draft)
    answers = {name: said_of(one) for name, one in independent(database.history("p0")).items()}
    assert answer_labels(answers) == {"Ann": 1, "Ben": 1, "Cleo": 0}  # of closed and open


def test_a_dispute_has_what_everybody_said_and_is_settled_by_that(database: AuthoringDatabase) -> None:
    say(database, 2, "Ann", DRAFT)
    say(database, 2, "Ben", OTHERWISE)
    (dispute,) = disputes(database)
    assert dispute.why == "the answer of image a to the question is 'Open' for Ann and 'Closed' for Ben"
    assert [one.author for one in dispute.decisions] == ["Ann", "Ben"]
    database.decide(Decision("p2", "Cleo", True, OTHERWISE, based_on=dispute.revision, settles=True))
    assert disputes(database) == []


def test_the_fast_way_says_what_reading_every_revision_says(tmp_path: Path) -> None:
    draw = random.Random(1)
    texts = (DRAFT, TURNED, SAME_KEYS, OTHERWISE, COLOUR, Draft(None, None, (), "a", "b"), None)
    with authoring(tmp_path, 40) as database:
        for pair in range(40):
            for name in draw.sample(("Ann", "Ben", "Cleo"), draw.randrange(4)):
                say(database, pair, name, draw.choice(texts))
            history = database.history(f"p{pair}")
            if len(history) > 2 and draw.random() < 0.3:
                settled = Decision(f"p{pair}", "Ann", draw.random() < 0.5, DRAFT, based_on=history[-1].id, settles=True)
                database.decide(settled)
            elif len(history) > 1 and draw.random() < 0.3:
                database.undo(history[-1].author)
        slow = [
            {name: said_of(one) for name, one in independent(history).items()} for _, history in database.histories()
        ]
        fast = agreement(database)
    assert fast == agreement_of(slow)
    assert fast.pairs > 10
    assert fast.answers.items > 5
