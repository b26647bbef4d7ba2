"""Taking decisions back, and settling disputes: both are revisions of their own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from authored import DOOR, DRAFT, authoring, mined

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.decisions import accepted_pairs, standings
from blindpairs.author.questions import accept_patterns
from blindpairs.author.revisions import Conflict, Decision, latest_decision, shown_to
from blindpairs.author.rows import rows_of
from blindpairs.errors import InputError

REWORDED = replace(DRAFT, question=replace(DOOR, text="Is the red door open?"))
OTHERWISE = replace(DRAFT, question=replace(DOOR, answers=(1, 0)))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AuthoringDatabase]:
    with authoring(tmp_path) as made:
        yield made


def states(database: AuthoringDatabase) -> list[str]:
    return [one.state for one in standings(database)]


def test_undo_takes_the_last_decision_back_and_keeps_it(database: AuthoringDatabase) -> None:
    made = database.decide(Decision("p0", "Ann", True, REWORDED, based_on=1))
    taken = database.undo("Ann")
    assert taken is not None
    assert (taken.kind, taken.undoes, taken.based_on, taken.draft) == ("withdrawn", made.id, made.id, REWORDED)
    assert database.history("p0")[1:] == [made, taken]
    assert states(database)[0] == "undecided"
    assert latest_decision(database.history("p0"), "Ann") is None
    assert shown_to(database.history("p0"), "Ann") == taken  # its author goes on with the text


def test_undo_brings_an_earlier_decision_back(database: AuthoringDatabase) -> None:
    first = database.decide(Decision("p0", "Ann", True, REWORDED, based_on=1))
    database.decide(Decision("p0", "Ann", False, DRAFT, "blurred", based_on=first.id))
    taken = database.undo("Ann")
    assert taken is not None
    assert (taken.kind, taken.draft, taken.reason, taken.source) == ("accepted", REWORDED, "", first.source)
    assert states(database)[0] == "accepted"


def test_undoing_again_goes_further_back_over_all_pairs(database: AuthoringDatabase) -> None:
    first = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    database.decide(Decision("p1", "Ben", True, DRAFT, based_on=2))
    second = database.decide(Decision("p0", "Ann", False, DRAFT, "blurred", based_on=first.id))
    third = database.decide(Decision("p2", "Ann", True, DRAFT, based_on=3))
    undone = [database.undo("Ann") for _ in range(4)]
    assert [one and one.undoes for one in undone] == [third.id, second.id, first.id, None]
    assert states(database) == ["undecided", "accepted", "undecided"]


def test_a_new_decision_after_an_undo_is_the_next_to_be_undone(database: AuthoringDatabase) -> None:
    database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    taken = database.undo("Ann")
    assert taken is not None
    again = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=taken.id))
    assert states(database)[0] == "accepted"
    back = database.undo("Ann")
    assert back is not None
    assert (back.undoes, back.kind) == (again.id, "withdrawn")


def test_a_replayed_undo_takes_nothing_else_back(database: AuthoringDatabase) -> None:
    database.decide(Decision("p1", "Ann", True, DRAFT, based_on=2))
    made = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    assert database.undo("Ann", made.id) == database.undo("Ann", made.id)
    assert states(database) == ["undecided", "accepted", "undecided"]


def test_the_same_decision_that_arrives_late_after_an_undo_is_a_conflict(database: AuthoringDatabase) -> None:
    decision = Decision("p0", "Ann", True, DRAFT, based_on=1)
    database.decide(decision)
    taken = database.undo("Ann")
    with pytest.raises(Conflict) as raised:
        database.decide(decision)
    assert raised.value.revision == taken


def test_only_a_persons_last_decision_of_a_pair_can_be_taken_back(database: AuthoringDatabase) -> None:
    first = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    later = database.decide(Decision("p0", "Ann", False, DRAFT, based_on=first.id))
    with pytest.raises(Conflict) as raised:
        database.undo("Ann", first.id)
    assert raised.value.revision == later
    for number in (1, 99, later.id):
        with pytest.raises(InputError, match=f"revision {number} is no decision of Ben"):
            database.undo("Ben", number)


def test_what_was_taken_back_is_in_no_file_that_goes_out(database: AuthoringDatabase) -> None:
    database.decide(Decision("p0", "Ann", False, REWORDED, "blurred", based_on=1))
    database.undo("Ann")
    for annotator in ("", "Ann"):
        _, shown, cells = next(rows_of(database, annotator))
        assert shown
        assert (shown.id, cells["decision"], cells["question"]) == (1, "", "Is the door open?")
    assert accepted_pairs(database) == []


def test_a_settled_dispute_is_decided_and_keeps_what_people_said(database: AuthoringDatabase) -> None:
    ann = database.decide(Decision("p0", "Ann", True, REWORDED, based_on=1))
    ben = database.decide(Decision("p0", "Ben", True, OTHERWISE, based_on=1))
    assert states(database)[0] == "disputed"
    settled = database.decide(Decision("p0", "Cleo", True, REWORDED, based_on=ben.id, settles=True))
    (pair,) = accepted_pairs(database)
    assert pair.question == REWORDED.question
    assert (pair.annotators, pair.source) == (("Ann", "Cleo"), "person:Ann")  # who wrote it, not who settled it
    assert database.history("p0")[1:] == [ann, ben, settled]


def test_a_dispute_can_be_settled_by_rejecting(database: AuthoringDatabase) -> None:
    database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    ben = database.decide(Decision("p0", "Ben", False, DRAFT, "blurred", based_on=1))
    database.decide(Decision("p0", "Cleo", False, DRAFT, "too small", based_on=ben.id, settles=True))
    stands = next(standings(database))
    assert (stands.state, stands.why) == ("rejected", "Ben: blurred; Cleo: too small")


def test_who_settles_may_be_one_of_those_who_disagree(database: AuthoringDatabase) -> None:
    ann = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    ben = database.decide(Decision("p0", "Ben", False, DRAFT, based_on=1))
    settled = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=ben.id, settles=True))
    assert settled.id > ben.id  # though it says what Ann said before
    assert states(database)[0] == "accepted"
    database.undo("Ann")
    assert states(database)[0] == "disputed"
    assert [one.kind for one in database.history("p0") if one.author == "Ann"] == ["accepted", "accepted", "accepted"]
    assert latest_decision(database.history("p0"), "Ann") != ann


def test_a_later_contradiction_opens_a_settled_dispute_again(database: AuthoringDatabase) -> None:
    ann = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    ben = database.decide(Decision("p0", "Ben", False, DRAFT, based_on=1))
    database.decide(Decision("p0", "Cleo", True, DRAFT, based_on=ben.id, settles=True))
    database.decide(Decision("p0", "Ann", False, DRAFT, "I looked again", based_on=ann.id))
    assert states(database)[0] == "disputed"


def test_who_settled_a_dispute_can_correct_the_text_without_opening_it_again(database: AuthoringDatabase) -> None:
    ann = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    ben = database.decide(Decision("p0", "Ben", True, OTHERWISE, based_on=1))
    settled = database.decide(Decision("p0", "Cleo", True, DRAFT, based_on=ben.id, settles=True))
    corrected = database.decide(Decision("p0", "Cleo", True, REWORDED, based_on=settled.id))
    assert states(database)[0] == "accepted"
    assert accept_patterns(database, {"p0": "Text"}, "Cleo") == 1
    (pair,) = accepted_pairs(database)
    assert (pair.question, pair.patterns) == (REWORDED.question, ("Text",))
    database.decide(Decision("p0", "Ben", True, replace(OTHERWISE, patterns=("Text",)), based_on=ben.id))
    last = latest_decision(database.history("p0"), "Cleo")
    assert last is not None
    database.decide(Decision("p0", "Cleo", True, DRAFT, based_on=last.id))  # has not looked at what Ben says now
    assert states(database)[0] == "disputed"
    assert (ann.settles, corrected.settles) == (False, True)


def test_settling_without_seeing_the_last_word_is_a_conflict(database: AuthoringDatabase) -> None:
    ann = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    ben = database.decide(Decision("p0", "Ben", False, DRAFT, based_on=1))
    with pytest.raises(Conflict) as raised:
        database.decide(Decision("p0", "Cleo", True, DRAFT, based_on=ann.id, settles=True))
    assert raised.value.revision == ben
    with pytest.raises(InputError, match="no decisions that could be settled"):
        database.decide(Decision("p0", "Cleo", True, DRAFT, settles=True))


def test_seconds_are_kept_once_for_a_decision_that_is_sent_twice(database: AuthoringDatabase) -> None:
    first = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1, seconds=12.5))
    assert database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1, seconds=13.0)) == first
    assert [one.seconds for one in database.history("p0")] == [None, 12.5]
    for wrong in (float("nan"), float("inf"), -1.0):
        with pytest.raises(InputError, match="is no number of seconds"):
            database.decide(Decision("p1", "Ann", True, DRAFT, based_on=2, seconds=wrong))


def test_some_histories_come_in_the_order_they_are_asked_for(database: AuthoringDatabase) -> None:
    found = list(database.histories_of(["p2", "p9", "p0"]))
    assert [pair for pair, _ in found] == [mined(2), mined(0)]
    assert [[one.id for one in history] for _, history in found] == [[3], [1]]
