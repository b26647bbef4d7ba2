"""What people write and have not decided: every save is kept, and none hides another one."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from authored import DRAFT, EXCHANGED, authoring

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import Draft
from blindpairs.author.edits import (
    LONGEST_FORM,
    Edit,
    EditConflict,
    draft_of_form,
    edits_of,
    open_edit,
    save_edit,
)
from blindpairs.author.live_checks import live_checks
from blindpairs.author.revisions import Decision
from blindpairs.errors import InputError
from blindpairs.system import child_environment

HALF = {"question": {"text": "Is the do", "options": ["Open", ""], "answers": [0, None]}, "statement_a": "an open door"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AuthoringDatabase]:
    with authoring(tmp_path) as made:
        yield made


def typed(number: int, text: str = "", client: str = "window 1", based_on: int | None = 1) -> Edit:
    return Edit("p0", "Ann", {"question": {"text": text}}, based_on, client, number)


def text_of(edit: Edit | None) -> Any:
    return edit and edit.form["question"]["text"]


def test_every_save_is_kept_and_the_last_one_is_open(database: AuthoringDatabase) -> None:
    for number, text in enumerate(("I", "Is", "Is ")):
        save_edit(database, typed(number, text))
    assert [text_of(one) for one in edits_of(database, "p0")] == ["I", "Is", "Is "]
    assert text_of(open_edit(database, "p0", "Ann")) == "Is "
    assert open_edit(database, "p0", "Ben") is None
    assert open_edit(database, "p1", "Ann") is None


def test_a_form_that_is_half_done_comes_back_as_it_was(database: AuthoringDatabase) -> None:
    kept = save_edit(database, Edit("p0", "Ann", HALF, 1, "window 1", 1))
    assert open_edit(database, "p0", "Ann") == kept
    assert kept.form == HALF


def test_a_save_that_is_sent_twice_is_kept_once(database: AuthoringDatabase) -> None:
    first = save_edit(database, typed(1, "Is"))
    assert save_edit(database, typed(1, "Is")) == first
    assert edits_of(database, "p0") == [first]


def test_a_save_that_arrives_late_hides_no_later_one(database: AuthoringDatabase) -> None:
    save_edit(database, typed(2, "Is the door"))
    save_edit(database, typed(1, "Is the"))
    assert text_of(open_edit(database, "p0", "Ann")) == "Is the door"
    assert len(edits_of(database, "p0")) == 2


def test_a_second_window_does_not_hide_what_it_has_not_seen(database: AuthoringDatabase) -> None:
    first = save_edit(database, typed(1, "Is the door open?"))
    with pytest.raises(EditConflict, match="was edited in another window") as raised:
        save_edit(database, typed(1, "What", client="window 2"))
    assert raised.value.edit == first
    save_edit(database, typed(1, "What", client="window 2"), seen=first.id)
    assert text_of(open_edit(database, "p0", "Ann")) == "What"
    with pytest.raises(EditConflict):
        save_edit(database, typed(2, "Is the door open now?"))  # the first window has not seen the second


def test_a_decision_closes_what_was_written_for_it(database: AuthoringDatabase) -> None:
    save_edit(database, typed(1, "Is"))
    decided = database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    assert open_edit(database, "p0", "Ann") is None
    save_edit(database, typed(2, "Is the"))  # was under way while the decision was made
    assert open_edit(database, "p0", "Ann") is None
    save_edit(database, typed(3, "Is the red", based_on=decided.id))
    assert text_of(open_edit(database, "p0", "Ann")) == "Is the red"


def test_another_persons_decision_closes_nothing(database: AuthoringDatabase) -> None:
    save_edit(database, typed(1, "Is"))
    database.decide(Decision("p0", "Ben", True, DRAFT, based_on=1))
    assert text_of(open_edit(database, "p0", "Ann")) == "Is"


def test_what_was_written_before_an_undone_decision_stays_closed(database: AuthoringDatabase) -> None:
    save_edit(database, typed(1, "Is"))
    database.decide(Decision("p0", "Ann", True, DRAFT, based_on=1))
    taken = database.undo("Ann")
    assert taken is not None
    assert open_edit(database, "p0", "Ann") is None  # the withdrawn decision has the later text
    save_edit(database, typed(2, "Is it", based_on=taken.id))
    assert text_of(open_edit(database, "p0", "Ann")) == "Is it"


def test_what_cannot_be_kept_is_said(database: AuthoringDatabase) -> None:
    with pytest.raises(InputError, match="has no pair 'p9'"):
        save_edit(database, replace(typed(1), pair_id="p9"))
    with pytest.raises(InputError, match="pair p0 has no revision 2"):
        save_edit(database, typed(1, based_on=2))  # a revision of another pair
    with pytest.raises(InputError, match=r"the form has 10,000,\d+ characters"):
        save_edit(database, typed(1, "x" * 10_000_000))
    assert save_edit(database, typed(1, "x" * (LONGEST_FORM - 100))).id == 1
    assert save_edit(database, typed(2, "\ud800")).form["question"]["text"] == "?"


def test_a_keystroke_takes_about_400_bytes(database: AuthoringDatabase) -> None:
    form = replace(DRAFT, second=EXCHANGED).as_json()
    before = database.read("PRAGMA page_count")[0][0]
    for number in range(300):
        save_edit(database, Edit("p0", "Ann", form, 1, "0123456789abcdef", number))
    pages = database.read("PRAGMA page_count")[0][0] - before
    assert 300 < pages * database.read("PRAGMA page_size")[0][0] / 300 < 500


def test_the_file_itself_refuses_to_change_or_delete_an_edit(database: AuthoringDatabase) -> None:
    save_edit(database, typed(1, "Is"))
    raw = sqlite3.connect(database.path)
    for statement in ("UPDATE edits SET form = '{}'", "DELETE FROM edits"):
        with pytest.raises(sqlite3.IntegrityError, match="edits are never"):
            raw.execute(statement)
    raw.close()


def test_a_full_disk_loses_nothing_and_is_said(database: AuthoringDatabase) -> None:
    raw = database._connection
    (pages,) = raw.execute("PRAGMA page_count").fetchone()
    raw.execute(f"PRAGMA max_page_count = {pages + 4}")
    saved = []
    with suppress(InputError):
        for number in range(100):
            saved.append(save_edit(database, typed(number, "x" * 1_000)))
    assert 0 < len(saved) < 99
    assert edits_of(database, "p0") == saved
    with pytest.raises(InputError, match=r"no room to write .* what was reported as saved is safe"):
        save_edit(database, typed(99, "x" * 10_000))
    raw.execute("PRAGMA max_page_count = 1000000")  # space was freed
    saved.append(save_edit(database, typed(99, "x" * 10_000)))
    assert edits_of(database, "p0") == saved


@pytest.mark.parametrize("draft", [DRAFT, replace(DRAFT, second=EXCHANGED), Draft(), Draft(statement_a="a")])
def test_a_draft_in_a_form_is_the_draft(draft: Draft) -> None:
    assert draft_of_form(draft.as_json()) == (draft, ())


def test_a_question_without_answers_is_named_and_left_out() -> None:
    assert draft_of_form(HALF) == (Draft(statement_a="an open door"), ("question",))


@pytest.mark.parametrize("form", [{"question": 1}, {"question": {"options": ["a"]}}, {"second": {"answers": "ab"}}])
def test_a_form_of_another_shape_is_refused(form: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="another shape"):
        draft_of_form(form)


TYPIST = """
import sys
from pathlib import Path
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.edits import Edit, save_edit
with AuthoringDatabase(Path(sys.argv[1])) as database:
    for number in range(100_000):
        save_edit(database, Edit("p0", "Ann", {"text": "x" * (number % 300)}, 1, "window", number))
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


def test_a_killed_typist_loses_no_keystroke_that_was_reported(tmp_path: Path) -> None:
    with authoring(tmp_path, 1) as database:
        command = [sys.executable, "-c", TYPIST, str(database.path)]
        typist = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment())
        assert typist.stdout
        reported = [typist.stdout.readline() for _ in range(100)]
        os.kill(typist.pid, signal.SIGKILL)
        reported += [line for line in typist.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        assert typist.wait() == -signal.SIGKILL
    with AuthoringDatabase(tmp_path / "authoring.sqlite") as database:
        kept = [f"{one.number}\n" for one in edits_of(database, "p0")]
        last = open_edit(database, "p0", "Ann")
    assert kept[: len(reported)] == reported
    assert len(kept) - len(reported) in (0, 1)
    assert last
    assert last.number == len(kept) - 1


@pytest.mark.parametrize("what", [draft_of_form, live_checks])
def test_any_json_is_a_form_or_refused(what: Callable[[Any], object]) -> None:
    draw = random.Random(0)
    values: list[Any] = [None, 0, 1, 2, True, -1, 1e999, float("nan"), "", "Open", "0", "\ud800", [], {}, "9" * 5_000]

    def anything(depth: int) -> Any:
        if depth and draw.random() < 0.5:
            return [anything(depth - 1) for _ in range(draw.randrange(4))]
        return draw.choice(values)

    names = ("question", "second", "patterns", "statement_a", "statement_b")
    refused = 0
    for _ in range(3_000):
        form: dict[str, Any] = {name: anything(2) for name in names if draw.random() < 0.7}
        for name in ("question", "second"):
            if draw.random() < 0.7:
                form[name] = {part: anything(2) for part in ("text", "options", "answers") if draw.random() < 0.8}
        try:
            what(form)
        except InputError:
            refused += 1
    assert 0 < refused < 3_000


def test_an_id_that_no_file_can_hold_is_refused_with_a_sentence(database: AuthoringDatabase) -> None:
    for asked in (
        lambda: database.pair("\ud800"),
        lambda: database.history("\ud800"),
        lambda: database.revision(1 << 70),
    ):
        with pytest.raises(InputError, match="holds no such text or number"):
            asked()
    with pytest.raises(InputError, match="holds no such text or number"):
        save_edit(database, replace(typed(1), pair_id="\ud800"))
    assert database.undo("Ann") is None  # and the file can be used after it
