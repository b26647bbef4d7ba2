"""What a person is writing and has not decided yet: every save of a form, only ever added.

A form is JSON of the shape of `Draft.as_json`, in which texts may be empty and answers null, because it is half done.
The page numbers its saves, so that one that is sent twice is kept once, and one that arrives late hides no later one.

Promises: a save that was reported survives a kill; a save never hides another one that its writer has not seen (of a
second window, of another device): it is refused with what is there.

Nothing trims them: every keystroke is a row of about 0.4 kB (tests/author/test_edits.py), so 100 keystrokes about each
of 1,000 pairs are 40 MB of the file. What somebody wrote is worth more than the disk that it takes.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.deciding import clean_name, now, text_of
from blindpairs.author.drafts import Draft
from blindpairs.benchmark import Question
from blindpairs.errors import InputError

LONGEST_FORM = 1 << 16  # characters of JSON
Form = Mapping[str, Any]
_COLUMNS = "id, pair_id, annotator, based_on, form, client, number, saved_at"


@dataclass(frozen=True)
class Edit:
    """One save of a form. `client` is the window that wrote it, `number` counts its saves of this pair."""

    pair_id: str
    annotator: str
    form: Form
    based_on: int | None  # the revision that the form was filled from
    client: str
    number: int
    id: int = 0  # grows with every save; 0 before it is kept
    saved_at: str = ""  # UTC, ISO 8601


class EditConflict(InputError):
    """Another window saved something that this one has not seen: `edit`."""

    def __init__(self, edit: Edit) -> None:
        super().__init__(
            f"pair {edit.pair_id} was edited in another window ({edit.saved_at}): look at it, then go on in one of them"
        )
        self.edit = edit


def save_edit(database: AuthoringDatabase, edit: Edit, seen: int | None = None) -> Edit:
    """Keep a form as it is now; the same save sent again is kept once.

    `seen` is the id of the last edit of another window that the writer has in view. Raises EditConflict where another
    window saved something later, and InputError for a pair that is not kept, and for a form that is too long.
    """
    person = clean_name(edit.annotator, "annotator")
    client = clean_name(edit.client, "window")
    body = text_of(json.dumps(dict(edit.form), ensure_ascii=False, separators=(",", ":")))
    if len(body) > LONGEST_FORM:
        raise InputError(f"pair {edit.pair_id}: the form has {len(body):,} characters; {LONGEST_FORM:,} are the most")
    with database.writing() as connection:
        if database.pair(edit.pair_id) is None:
            raise InputError(f"{database.path} has no pair {edit.pair_id!r}: reload the page")
        if edit.based_on is not None and not _has_revision(database, edit.pair_id, edit.based_on):
            raise InputError(f"pair {edit.pair_id} has no revision {edit.based_on}: reload the page")
        where = "pair_id = ? AND annotator = ? AND client = ? AND number = ?"
        key = (edit.pair_id, person, client, edit.number)
        if rows := database.read(f"SELECT {_COLUMNS} FROM edits WHERE {where}", key):
            return _edit(rows[0])
        last = open_edit(database, edit.pair_id, person)
        if last and last.client != client and last.id > (seen or 0):
            raise EditConflict(last)
        cursor = connection.execute(
            "INSERT INTO edits (pair_id, annotator, based_on, form, client, number, saved_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (edit.pair_id, person, edit.based_on, body, client, edit.number, now()),
        )
        (row,) = database.read(f"SELECT {_COLUMNS} FROM edits WHERE id = ?", (cursor.lastrowid,))
    return _edit(row)


def open_edit(database: AuthoringDatabase, pair_id: str, annotator: str) -> Edit | None:
    """What this person wrote about a pair last and has not decided; None where there is nothing.

    A form that was filled before this person's last decision is decided by it, also where it arrives later.
    """
    asked = {"pair": pair_id, "person": annotator.strip()}
    # Of the window that saved last, the save with the highest number: the network may have overtaken itself.
    window = "SELECT client FROM edits WHERE pair_id = :pair AND annotator = :person ORDER BY id DESC LIMIT 1"
    where = f"pair_id = :pair AND annotator = :person AND client = ({window})"
    rows = database.read(f"SELECT {_COLUMNS} FROM edits WHERE {where} ORDER BY number DESC LIMIT 1", asked)
    if not rows:
        return None
    found = _edit(rows[0])
    where = "pair_id = :pair AND author = :person AND kind != 'draft'"
    ((said,),) = database.read(f"SELECT max(id) FROM revisions WHERE {where}", asked)
    return None if (said or 0) > (found.based_on or 0) else found


def edits_of(database: AuthoringDatabase, pair_id: str) -> list[Edit]:
    """Every save about a pair, the oldest first."""
    rows = database.read(f"SELECT {_COLUMNS} FROM edits WHERE pair_id = ? ORDER BY id", (pair_id,))
    return [_edit(row) for row in rows]


def draft_of_form(form: Form) -> tuple[Draft, tuple[str, ...]]:
    """The draft in a form, and the names of questions whose answers are not chosen yet; those are left out of it.

    A question of which no text is written is none. Raises InputError for JSON of another shape.
    """
    with form_refused():
        questions, open_ones = {}, []
        for name in ("question", "second"):
            questions[name], answered = question_of_form(form.get(name))
            open_ones += [] if answered else [name]
        statements, patterns = statements_of_form(form), patterns_of_form(form)
    return Draft(questions["question"], questions["second"], patterns, *statements), tuple(open_ones)


@contextmanager
def form_refused() -> Iterator[None]:
    """InputError where the block finds a form of another shape."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:  # 1e999 is JSON for Python
        raise InputError(f"a form has another shape than the page writes ({error!r}): reload the page") from error


def question_of_form(value: Form | None) -> tuple[Question | None, bool]:
    """The question in its part of a form, and whether it is complete: None and True where nothing is written."""
    text, options, answers = parts_of_form(value)
    if not is_written(text, options):
        return None, True
    a, b = answers
    if a is None or b is None:
        return None, False
    return Question(text, options, (a, b)), True


def parts_of_form(value: Form | None) -> tuple[str, tuple[str, str], tuple[int | None, int | None]]:
    """Text, options and answers of a question in a form; ValueError or TypeError for another shape."""
    value = value or {}
    first, other = value.get("options") or ("", "")
    a, b = (None if one is None else int(one) for one in value.get("answers") or (None, None))
    return str(value.get("text") or ""), (str(first), str(other)), (a, b)


def is_written(text: str, options: tuple[str, str]) -> bool:
    """Whether anything is written of a question."""
    return any(one.strip() for one in (text, *options))


def statements_of_form(form: Form) -> tuple[str, str]:
    """The statements of both images in a form, "" for none."""
    return str(form.get("statement_a") or ""), str(form.get("statement_b") or "")


def patterns_of_form(form: Form) -> tuple[str, ...]:
    """The patterns in a form; TypeError for another shape."""
    return tuple(str(one) for one in form.get("patterns") or ())


def _has_revision(database: AuthoringDatabase, pair_id: str, number: int) -> bool:
    return bool(database.read("SELECT 1 FROM revisions WHERE id = ? AND pair_id = ?", (number, pair_id)))


def _edit(row: tuple[Any, ...]) -> Edit:
    number, pair_id, annotator, based_on, form, client, count, saved_at = row
    return Edit(pair_id, annotator, json.loads(form), based_on, client, count, number, saved_at)
