"""Which decision counts."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from authored import DOOR, DRAFT, EXCHANGED, authoring, mined

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.decisions import accepted_pairs, standings
from blindpairs.author.drafts import Draft
from blindpairs.author.queue import Queue
from blindpairs.author.revisions import Decision
from blindpairs.benchmark import BenchmarkPair, Question

TURNED = replace(DRAFT, question=Question("Is the door open?", ("closed", "open"), (1, 0)))
OTHER_ANSWERS = replace(DRAFT, question=replace(DOOR, answers=(1, 0)))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AuthoringDatabase]:
    with authoring(tmp_path) as made:
        yield made


def states(database: AuthoringDatabase) -> list[tuple[str, str]]:
    return [(standing.state, standing.why) for standing in standings(database)]


def test_a_draft_that_no_person_accepted_never_enters(database: AuthoringDatabase) -> None:
    assert states(database) == [("undecided", "")] * 3
    assert accepted_pairs(database) == []


def test_an_accepted_pair_carries_everything_of_the_pair_and_the_text(database: AuthoringDatabase) -> None:
    database.add_pairs([mined(3, control_of="p0")])
    both = replace(DRAFT, second=EXCHANGED)
    database.decide(Decision("p3", "Ann", True, both))
    database.decide(Decision("p1", "Ann", True, DRAFT, based_on=2))
    database.decide(Decision("p1", "Ben", True, replace(DRAFT, patterns=("Texts",)), based_on=2))
    images = ("a1", "b1", "/corpus/a1.jpg", "/corpus/b1.jpg")
    statements = ("an open door", "a closed door", 0.97, 0.5)
    assert accepted_pairs(database) == [
        BenchmarkPair("p1", *images, DOOR, None, ("Texts",), *statements, ("Ann", "Ben"), "model", None),
        BenchmarkPair(
            *("p3", "a3", "b3", "/corpus/a3.jpg", "/corpus/b3.jpg", DOOR, EXCHANGED, ("State and Condition",)),
            *(*statements, ("Ann",), "person:Ann", "p0"),
        ),
    ]


def test_the_last_decision_of_a_person_counts(database: AuthoringDatabase) -> None:
    database.decide(Decision("p0", "Ann", True, DRAFT))
    database.decide(Decision("p0", "Ann", False, DRAFT, "blurred"))
    database.decide(Decision("p1", "Ann", False, DRAFT))
    database.decide(Decision("p1", "Ann", True, DRAFT))
    assert states(database) == [("rejected", "Ann: blurred"), ("accepted", ""), ("undecided", "")]


def test_one_who_rejects_disputes_what_others_accept(database: AuthoringDatabase) -> None:
    for name, accepted in (("Ann", True), ("Ben", False), ("Cy", True)):
        database.decide(Decision("p0", name, accepted, DRAFT))
    assert states(database)[0] == ("disputed", "accepted by Ann, Cy, rejected by Ben")
    assert accepted_pairs(database) == []


def test_answers_are_compared_as_texts_and_not_as_positions(database: AuthoringDatabase) -> None:
    database.decide(Decision("p0", "Ann", True, DRAFT))
    database.decide(Decision("p0", "Ben", True, TURNED))  # other positions, the same answers
    database.decide(Decision("p1", "Ann", True, DRAFT))
    same_positions = replace(DRAFT, question=replace(DOOR, options=("Closed", "Open")))
    database.decide(Decision("p1", "Ben", True, same_positions))
    why = "the answer of image a to the question is 'Open' for Ann and 'Closed' for Ben"
    assert states(database)[:2] == [("accepted", ""), ("disputed", why)]
    assert accepted_pairs(database)[0].question == TURNED.question  # the latest acceptance


def test_second_questions_are_compared_where_both_have_one(database: AuthoringDatabase) -> None:
    first = replace(DRAFT, second=EXCHANGED)
    database.decide(Decision("p0", "Ann", True, first))
    database.decide(Decision("p0", "Ben", True, DRAFT))
    assert states(database)[0] == ("accepted", "")
    database.decide(Decision("p0", "Cy", True, replace(DRAFT, second=replace(EXCHANGED, answers=(0, 1)))))
    assert states(database)[0][0] == "disputed"


def test_the_source_is_who_wrote_the_text(database: AuthoringDatabase) -> None:
    mine = replace(DRAFT, statement_a="a door that is open")
    written = database.decide(Decision("p0", "Ann", True, mine, based_on=1))
    assert accepted_pairs(database)[0].source == "person:Ann"
    database.decide(Decision("p0", "Ben", True, mine, based_on=written.id))  # Ben accepts what Ann wrote
    assert accepted_pairs(database)[0].source == "person:Ann"
    database.decide(Decision("p0", "Ben", True, DRAFT))
    assert accepted_pairs(database)[0].source == "model"


def test_counts_tell_blind_pairs_from_controls(database: AuthoringDatabase) -> None:
    database.add_pairs([mined(3, control_of="p0"), mined(4, control_of="p1")])
    database.decide(Decision("p0", "Ann", True, DRAFT))
    database.decide(Decision("p1", "Ann", False, DRAFT))
    database.decide(Decision("p3", "Ann", True, Draft(statement_a="a", statement_b="b", patterns=("Texts", "mine"))))
    found = Queue(database).progress()
    assert (found.pairs, found.accepted, found.rejected, found.decided) == (3, 1, 1, 2)
    assert found.patterns == {"State and Condition": 1}
    assert (found.controls, found.controls_accepted) == (2, 1)
    assert [(one.pair.pair_id, one.drafted, one.state) for one in standings(database)] == [
        ("p0", True, "accepted"),
        ("p1", True, "rejected"),
        ("p2", True, "undecided"),
        ("p3", False, "accepted"),
        ("p4", False, "undecided"),
    ]
    assert accepted_pairs(database)[1].patterns == ("Texts", "mine")
