"""authoring.sqlite: nothing is lost, nothing is changed, nothing is kept twice."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from authored import DOOR, DRAFT, EXCHANGED, authoring, mined

from blindpairs.author import database as module
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import Draft
from blindpairs.author.pair_list import page
from blindpairs.author.revisions import Conflict, Decision, Saved
from blindpairs.benchmark import Question
from blindpairs.errors import InputError
from blindpairs.system import child_environment

REWORDED = replace(DRAFT, question=replace(DOOR, text="Is the red door open?"))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AuthoringDatabase]:
    with authoring(tmp_path) as made:
        yield made


def test_mining_again_keeps_the_first_figures_and_adds_new_pairs(database: AuthoringDatabase) -> None:
    again = [replace(mined(1), clip_sim=0.99, rank=0), mined(3, control_of="p0")]
    assert database.add_pairs(again) == 1
    assert list(database.pairs()) == [mined(0), mined(1), mined(2), mined(3, control_of="p0")]


def test_a_cluster_that_a_pair_lacked_is_added_and_one_that_it_had_stays(tmp_path: Path) -> None:
    with AuthoringDatabase(tmp_path / "a.sqlite") as database:
        database.add_pairs([replace(mined(0), cluster=None), mined(1)])
        again = [replace(mined(number), cluster=7, clip_sim=0.99) for number in range(3)]
        assert database.add_pairs(again) == 1
        assert list(database.pairs()) == [replace(mined(0), cluster=7), mined(1), again[2]]
        assert [one.cluster for one in page(database).pairs] == [7, 1, 7]


def test_every_pair_comes_in_rank_order_across_lots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOT", 3)
    pairs = [replace(mined(number), rank=number // 4) for number in range(10)]  # a lot ends among equal ranks
    with AuthoringDatabase(tmp_path / "a.sqlite") as database:
        assert database.add_pairs(reversed(pairs)) == 10
        assert list(database.pairs()) == pairs
        made = {pair.pair_id: database.add_draft(pair.pair_id, "model", DRAFT) for pair in pairs}
        assert list(database.histories()) == [(pair, [made[pair.pair_id]]) for pair in pairs]


def test_a_draft_that_is_handed_in_twice_is_kept_once(database: AuthoringDatabase) -> None:
    first = database.add_draft("p0", "model", DRAFT)
    assert (first.id, first.source, first.draft) == (1, "model", DRAFT)
    other = database.add_draft("p0", "model", REWORDED)
    assert database.add_draft("p0", "model", DRAFT).id > other.id  # the drafter came back to it: that is new
    assert [one.draft for one in database.history("p0")] == [DRAFT, REWORDED, DRAFT]


def test_drafting_goes_on_where_it_was_interrupted(database: AuthoringDatabase) -> None:
    database.add_draft("p1", "model", replace(DRAFT, second=EXCHANGED), second=True)
    assert database.drafted("model", second=False) == {"p0", "p1", "p2"}
    assert database.drafted("model", second=True) == {"p1"}
    assert database.drafted("another", second=False) == set()


def test_a_decision_that_is_sent_twice_is_kept_once(database: AuthoringDatabase) -> None:
    decision = Decision("p0", "Ann", True, REWORDED, "clearer", based_on=1)
    first = database.decide(decision)
    assert (first.kind, first.source, first.reason) == ("accepted", "person:Ann", "clearer")
    assert database.decide(decision) == first
    assert database.history("p0")[1:] == [first]


def test_a_person_can_come_back_to_an_earlier_decision(database: AuthoringDatabase) -> None:
    yes = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    no = database.decide(Decision("p0", "Ann", False, DRAFT, "blurred", based_on=yes.id))
    again = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=no.id))
    assert [one.kind for one in database.history("p0")] == ["draft", "accepted", "rejected", "accepted"]
    assert again.source == "model"  # a person accepted it, and the model wrote it


def test_a_stale_decision_is_a_conflict_that_carries_the_other(database: AuthoringDatabase) -> None:
    other = database.decide(Decision("p0", "Ann", True, REWORDED, based_on=1))
    with pytest.raises(Conflict, match=r"pair p0 has a later revision \(accepted by Ann, ") as raised:
        database.decide(Decision("p0", "Ann", False, DRAFT, based_on=1))
    assert raised.value.revision == other
    assert database.history("p0")[1:] == [other]


def test_a_delayed_repeat_is_not_taken_for_the_decision_that_counts(database: AuthoringDatabase) -> None:
    early = Decision("p0", "Ann", True, DRAFT, based_on=1)
    first = database.decide(early)
    later = database.decide(Decision("p0", "Ann", False, DRAFT, "blurred", based_on=first.id))
    with pytest.raises(Conflict) as raised:
        database.decide(early)
    assert raised.value.revision == later


def test_a_new_draft_makes_a_decision_on_the_old_one_stale(database: AuthoringDatabase) -> None:
    redrafted = database.add_draft("p0", "model", REWORDED)
    with pytest.raises(Conflict) as raised:
        database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    assert raised.value.revision == redrafted


def test_two_people_decide_one_pair_without_a_conflict(database: AuthoringDatabase) -> None:
    database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    database.decide(Decision("p0", "Ben", False, DRAFT, based_on=1))
    assert [one.author for one in database.history("p0")] == ["model", "Ann", "Ben"]


def test_decisions_of_a_file_are_kept_all_or_none(database: AuthoringDatabase) -> None:
    good = Decision("p0", "Ann", True, DRAFT, based_on=1)
    with pytest.raises(InputError, match="has no pair 'p9'"):
        database.decide_all([good, Decision("p9", "Ann", True, DRAFT)])
    assert len(database.history("p0")) == 1
    assert database.decide_all([good]) == Saved(1, 0, ())
    assert database.decide_all([good]) == Saved(0, 1, ())


def test_an_old_file_does_not_take_a_later_decision_back(database: AuthoringDatabase) -> None:
    old = Decision("p0", "Ann", True, DRAFT, based_on=1)
    database.decide_all([old])
    database.decide_all([Decision("p0", "Ann", False, DRAFT, "blurred", based_on=1)])
    assert database.decide_all([old]) == Saved(0, 1, ("p0",))
    assert database.history("p0")[-1].kind == "rejected"


@pytest.mark.parametrize(
    ("draft", "fault"),
    [
        (Draft(), "it has neither a question nor two statements"),
        (Draft(statement_a="a door"), "it has neither a question nor two statements"),
        (Draft(None, DOOR, (), "a", "b"), "it has a second question without a first one"),
        (Draft(replace(DOOR, text=" ")), "question: it is empty"),
        (Draft(replace(DOOR, options=("Open", " "))), "question: an option is empty"),
        (Draft(replace(DOOR, options=("Open", "open "))), "question: both options are 'Open'"),
        (Draft(replace(DOOR, answers=(1, 1))), "question: its answers must be both options, one for each image"),
        (Draft(DOOR, replace(DOOR, answers=(0, 2))), "second question: its answers must be both options"),
    ],
)
def test_what_has_no_meaning_cannot_be_accepted(database: AuthoringDatabase, draft: Draft, fault: str) -> None:
    with pytest.raises(InputError, match=f"pair p0 cannot be accepted: {fault}"):
        database.decide(Decision("p0", "Ann", True, draft))
    assert database.decide(Decision("p0", "Ann", False, draft)).draft == draft  # rejecting it is what one does


@pytest.mark.parametrize("name", ["", "  ", "Ann\nBen", "Ann\u202e", "\ud800", "A" * 201])
def test_a_name_that_nobody_can_read_is_refused(database: AuthoringDatabase, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of the annotator"):
        database.decide(Decision("p0", name, False, DRAFT))
    with pytest.raises(InputError, match="a drafter cannot be called"):
        database.add_draft("p0", "person:Ann", DRAFT)


def test_lone_surrogates_of_json_become_question_marks(database: AuthoringDatabase) -> None:
    draft = Draft(Question("\ud800open?", ("a", "b"), (0, 1)))
    kept = database.decide(Decision("p0", "Ann", True, draft, "\udfff"))
    assert (kept.draft.question, kept.reason) == (Question("?open?", ("a", "b"), (0, 1)), "?")
    assert database.history("p0")[-1] == kept


def test_the_file_itself_refuses_to_change_or_delete_a_revision(database: AuthoringDatabase) -> None:
    other = sqlite3.connect(database.path)
    for statement in (
        "UPDATE revisions SET body = '{}'",
        "DELETE FROM revisions",
        "REPLACE INTO revisions SELECT * FROM revisions",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="revisions are never"):
            other.execute(statement)
    other.close()
    assert [one.draft for one in database.history("p0")] == [DRAFT]


def test_pairs_stream_while_another_process_writes(tmp_path: Path) -> None:
    with authoring(tmp_path, 3, drafter="") as database, AuthoringDatabase(database.path) as other:
        for pair in database.pairs():  # a read that stays open would make the writes below fail as stale
            other.add_draft(pair.pair_id, "other", DRAFT)
            database.add_draft(pair.pair_id, "model", DRAFT)
        assert [len(history) for _, history in database.histories()] == [2, 2, 2]


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "authoring.sqlite"  # all of them also race to make the file

    def write(drafter: str) -> None:
        with AuthoringDatabase(path, busy_seconds=60) as database:
            database.add_pairs(mined(number) for number in range(10))
            for number in range(10):
                database.add_draft(f"p{number}", drafter, DRAFT)

    threads = [threading.Thread(target=write, args=(f"model {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with AuthoringDatabase(path) as database:
        assert [sorted(one.author for one in history) for _, history in database.histories()] == [
            [f"model {number}" for number in range(4)]
        ] * 10


WRITER = """
import sys
from pathlib import Path
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.revisions import Decision
from blindpairs.author.drafts import Draft
from blindpairs.author.pair_list import page
with AuthoringDatabase(Path(sys.argv[1])) as database:
    for number in range(10_000):
        saved = database.decide(Decision("p0", f"Ann {number}", True, Draft(statement_a="a", statement_b="b")))
        sys.stdout.write(f"{saved.id} {saved.author}\\n")
        sys.stdout.flush()
"""


def test_a_killed_writer_loses_nothing_that_it_reported(tmp_path: Path) -> None:
    with authoring(tmp_path, 1) as database:
        command = [sys.executable, "-c", WRITER, str(database.path)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment())
        assert writer.stdout
        reported = [writer.stdout.readline() for _ in range(200)]
        os.kill(writer.pid, signal.SIGKILL)
        reported += [line for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        assert writer.wait() == -signal.SIGKILL
    with AuthoringDatabase(tmp_path / "authoring.sqlite") as database:
        kept = [f"{one.id} {one.author}\n" for one in database.history("p0")][1:]
    assert kept[: len(reported)] == reported
    assert len(kept) - len(reported) in (0, 1)  # one may be saved and not yet reported
