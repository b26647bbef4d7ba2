"""Drafts and decisions through a spreadsheet and back."""

import csv
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from authored import DOOR, DRAFT, EXCHANGED, authoring, mined
from hypothesis import given, settings
from hypothesis import strategies as st

from blindpairs.author.csv_file import guarded, import_csv, unguarded, write_csv
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.decisions import accepted_pairs
from blindpairs.author.drafts import Draft
from blindpairs.author.revisions import Decision, Saved
from blindpairs.author.rows import COLUMNS, ImportedDecisions, RowsRefused
from blindpairs.benchmark import Question
from blindpairs.errors import InputError

Cells = list[dict[str, str]]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AuthoringDatabase]:
    with authoring(tmp_path) as made:
        yield made


def exported(database: AuthoringDatabase, annotator: str = "") -> Cells:
    path = database.path.with_name("rows.csv")
    write_csv(database, path, annotator)
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def sheet(rows: Cells, delimiter: str = ",", columns: tuple[str, ...] = COLUMNS) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def imported(database: AuthoringDatabase, content: str | bytes, annotator: str = "Ann") -> ImportedDecisions:
    path = database.path.with_name("back.csv")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return import_csv(database, path, annotator)


def test_file_with_work_that_was_not_imported_is_never_replaced(database: AuthoringDatabase) -> None:
    rows = exported(database)
    path = database.path.with_name("rows.csv")
    for changes in ({"decision": "Accept"}, {"question": "Is it shut?"}, {"decision": "reject", "reason": "dark"}):
        path.write_text(sheet([rows[0] | changes, *rows[1:]], ";"), encoding="utf-16")
        before = path.read_bytes()
        with pytest.raises(InputError, match=r"rows.csv holds decisions or texts of 1 pairs .*, such as p0: import it"):
            write_csv(database, path)
        assert path.read_bytes() == before
    import_csv(database, path, "ada")
    assert write_csv(database, path) == len(rows)  # what is imported is in the database
    path.write_text("a shopping list")
    with pytest.raises(InputError, match=r"rows.csv is not replaced \(rows.csv has no column"):
        write_csv(database, path)


def test_a_row_shows_the_pair_and_its_draft(database: AuthoringDatabase) -> None:
    database.add_pairs([replace(mined(3, "p0"), clip_sim=-0.25, dino_sim=None)])
    rows = exported(database)
    assert rows[0] == {
        **dict.fromkeys(COLUMNS, ""),
        **{"pair_id": "p0", "revision": "1", "image_a": "/corpus/a0.jpg", "image_b": "/corpus/b0.jpg"},
        **{"clip_sim": "0.97", "dino_sim": "0.5", "cluster": "0", "source": "model"},
        **{"question": "Is the door open?", "option_1": "Open", "option_2": "Closed"},
        **{"answer_a": "Open", "answer_b": "Closed", "pattern": "State and Condition"},
        **{"statement_a": "an open door", "statement_b": "a closed door"},
    }
    figures = {name: rows[3][name] for name in ("revision", "clip_sim", "dino_sim", "control_of", "question")}
    assert figures == {"revision": "", "clip_sim": "-0.25", "dino_sim": "", "control_of": "p0", "question": ""}


def test_the_file_opens_in_excel(database: AuthoringDatabase, tmp_path: Path) -> None:
    assert write_csv(database, tmp_path / "rows.csv") == 3
    data = (tmp_path / "rows.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfpair_id,revision,")
    assert data.count(b"\r\n") == data.count(b"\n") == 4


def test_accepted_unchanged_is_the_draft_and_edited_is_the_persons(database: AuthoringDatabase) -> None:
    rows = exported(database)
    rows[0]["decision"] = "accept"
    rows[1] |= {"decision": " Accept ", "question": "Open?", "pattern": "Texts; my own", "annotator": "Ben"}
    rows[2] |= {"decision": "reject", "reason": "blurred", "question": "not read"}
    assert imported(database, sheet(rows)) == ImportedDecisions(Saved(3, 0, ()), 0, (), ())
    kept = [database.history(f"p{number}")[-1] for number in range(3)]
    edited = replace(DRAFT, question=replace(DOOR, text="Open?"), patterns=("Texts", "my own"))
    assert [(one.kind, one.author, one.source, one.draft, one.based_on, one.reason) for one in kept] == [
        ("accepted", "Ann", "model", DRAFT, 1, ""),
        ("accepted", "Ben", "person:Ben", edited, 2, ""),
        ("rejected", "Ann", "model", DRAFT, 3, "blurred"),
    ]


def test_the_same_file_twice_adds_nothing(database: AuthoringDatabase) -> None:
    rows = exported(database)
    rows[0] |= {"decision": "accept", "question": "Open?"}
    assert imported(database, sheet(rows)).saved == Saved(1, 0, ())
    assert imported(database, sheet(rows)).saved == Saved(0, 1, ())
    again = exported(database)  # shows the decision now
    assert (again[0]["decision"], again[0]["annotator"], again[0]["question"]) == ("accept", "Ann", "Open?")
    database.decide(Decision("p0", "Ann", False, DRAFT, "on the page"))
    assert imported(database, sheet(again)).saved == Saved(0, 1, ("p0",))  # a file that is older than the page
    assert database.history("p0")[-1].kind == "rejected"


def test_each_annotator_gets_their_own_decisions_and_the_latest_drafts(database: AuthoringDatabase) -> None:
    database.decide(Decision("p0", "Ann", False, DRAFT, "blurred"))
    database.decide(Decision("p1", "Ben", True, DRAFT))
    shown = [(row["decision"], row["annotator"], row["revision"]) for row in exported(database, "Ann")]
    assert shown == [("reject", "Ann", "4"), ("", "Ann", "2"), ("", "Ann", "3")]


def test_what_was_edited_without_a_decision_is_said(database: AuthoringDatabase) -> None:
    rows = exported(database)
    rows[1]["question"] = "Open?"
    assert imported(database, sheet(rows)) == ImportedDecisions(Saved(0, 0, ()), 3, ("p1",), ())


def test_a_draft_that_changed_since_the_export_is_said(database: AuthoringDatabase) -> None:
    rows = exported(database)
    rows[0]["decision"] = rows[1]["decision"] = "accept"
    database.add_draft("p0", "model", replace(DRAFT, statement_a="another"))
    assert imported(database, sheet(rows)) == ImportedDecisions(Saved(2, 0, ()), 1, (), ("p0",))
    assert database.history("p0")[-1].draft == DRAFT  # what the person saw


def test_columns_come_in_any_order_among_others(database: AuthoringDatabase) -> None:
    rows = [row | {"decision": "accept", "my notes": "=1"} for row in exported(database)]
    columns = ("my notes", *reversed([name for name in COLUMNS if not name.startswith(("image", "clip", "reason"))]))
    assert imported(database, sheet(rows, columns=columns).replace("pair_id", " Pair_ID ")).saved.added == 3


@pytest.mark.parametrize(
    "convert",
    [
        lambda rows: sheet(rows, ";"),  # Excel where a comma is the decimal point
        lambda rows: sheet(rows, "\t").encode("utf-16"),  # Excel's "Unicode text"
        lambda rows: sheet(rows, "\t").replace("\r\n", "\n"),
        lambda rows: sheet(rows).encode("utf-8-sig"),
        lambda rows: sheet(rows) + "," * 5 + "\r\n" + "\r\n",
    ],
    ids=["semicolons", "utf-16", "tabs", "byte order mark", "empty lines"],
)
def test_what_spreadsheets_save_is_read(database: AuthoringDatabase, convert: Callable[[Cells], str | bytes]) -> None:
    rows = [
        row | {"decision": "accept", "question": "Is “it”, or; not,\topen?\r\nÜberall"} for row in exported(database)
    ]
    assert imported(database, convert(rows)).saved.added == 3
    questions = [pair.question.text for pair in accepted_pairs(database) if pair.question]
    assert {text.replace("\r\n", "\n") for text in questions} == {"Is “it”, or; not,\topen?\nÜberall"}


def test_revisions_that_became_decimals_are_read(database: AuthoringDatabase) -> None:
    rows = [row | {"decision": "accept", "revision": row["revision"] + ".0"} for row in exported(database)]
    assert imported(database, sheet(rows)).saved.added == 3
    assert [database.history(f"p{number}")[-1].based_on for number in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"pair_id": "p9"}, "line 3, pair p9: no such pair was mined"),
        ({"pair_id": ""}, "line 3, pair (none): no such pair was mined"),
        ({"pair_id": "p0"}, "line 3, pair p0: the pair comes twice"),
        ({"revision": "1"}, "line 3, pair p1: revision 1 is not one of this pair"),
        ({"revision": "x"}, "line 3, pair p1: revision x is not one of this pair"),
        ({"decision": "yes"}, "line 3, pair p1: the decision is 'yes': write accept, reject or nothing"),
        ({"answer_a": "Ajar"}, "line 3, pair p1: answer_a is 'Ajar', which is neither 'Open' nor 'Closed'"),
        ({"answer_b": ""}, "line 3, pair p1: answer_b is '', which is neither 'Open' nor 'Closed'"),
        (
            {"answer_b": "open"},
            "line 3, pair p1: answer_a and answer_b are both 'Open': the images must have different answers",
        ),
        ({"question": " "}, "line 3, pair p1: question: it is empty"),
        ({"option_2": "OPEN", "answer_b": "OPEN"}, "line 3, pair p1: question: both options are 'Open'"),
        ({"second_question": "Lit?"}, "line 3, pair p1: second question: an option is empty"),
    ],
)
def test_a_row_with_a_fault_imports_nothing(database: AuthoringDatabase, change: dict[str, str], fault: str) -> None:
    rows = [row | {"decision": "accept"} for row in exported(database)]
    rows[1] |= change
    with pytest.raises(RowsRefused) as raised:
        imported(database, sheet(rows))
    assert str(raised.value) == f"back.csv: nothing was imported: {fault}"
    assert accepted_pairs(database) == []


def test_an_acceptance_by_nobody_is_a_fault_and_all_faults_are_kept(database: AuthoringDatabase) -> None:
    database.add_pairs([mined(3), mined(4)])
    rows = [row | {"decision": "accept"} for row in exported(database)]
    rows[1]["question"] = "two\nlines"  # so that the line of a row is not its number
    with pytest.raises(RowsRefused, match=r"\(and 2 more faults\)$") as raised:
        imported(database, sheet(rows), annotator="")
    assert [fault.split(":")[0] for fault in raised.value.faults] == [
        *("line 2, pair p0", "line 3, pair p1", "line 5, pair p2", "line 6, pair p3", "line 7, pair p4")
    ]
    assert "it is decided by nobody: fill the column annotator, or give --annotator" in raised.value.faults[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "back.csv has no column pair_id, revision, question"),
        ("pair_id,decision\np0,accept\n", "has no column revision, question, option_1"),
        (sheet([], columns=(*COLUMNS, "decision")), "back.csv has two columns decision: keep one"),
        ("pair_id\n\xe4".encode("latin-1"), "back.csv, line 2: this is no UTF-8 text: save it as `CSV UTF-8`"),
        (sheet([]) + 'p0,"open\n', "back.csv, line 2: this is no CSV"),
        (sheet([]) + "x," * 40 + "x", "back.csv, line 2: it has 41 cells, the first line 25"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_sentence(
    database: AuthoringDatabase, content: str | bytes, message: str
) -> None:
    with pytest.raises(InputError) as raised:
        imported(database, content)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("options", "answers", "expected"),
    [
        (("Open", "Closed"), ("2", "1"), (1, 0)),
        (("2", "1"), ("1", "2"), (1, 0)),  # texts, never positions, where an option is a number
        (("open", "OPEN door"), ("open door", " open "), (1, 0)),
    ],
)
def test_an_answer_is_a_text_before_it_is_a_number(
    database: AuthoringDatabase, options: tuple[str, str], answers: tuple[str, str], expected: tuple[int, int]
) -> None:
    rows = exported(database)[:1]
    rows[0] |= dict(zip(("option_1", "option_2", "answer_a", "answer_b"), (*options, *answers), strict=True))
    imported(database, sheet([rows[0] | {"decision": "accept"}]))
    assert accepted_pairs(database)[0].question == Question("Is the door open?", options, expected)


def test_a_position_beside_options_that_are_numbers_is_a_fault(database: AuthoringDatabase) -> None:
    changed = {"option_1": "3", "option_2": "2", "answer_a": "1", "answer_b": "2", "decision": "accept"}
    with pytest.raises(RowsRefused, match="answer_a is '1', which is neither '3' nor '2'"):
        imported(database, sheet([exported(database)[0] | changed]))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "'", "'=1", "''", "'x", "x", ""])
def test_no_cell_runs_and_every_text_comes_back(text: str) -> None:
    assert not guarded(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert unguarded(guarded(text)) == text


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
HARD = st.sampled_from(
    [
        "NA",
        "nan",
        "=1+1",
        "'=x",
        "''",
        '"',
        '""',
        "a\tb",
        "a\r\nb",
        "\r",
        "\u202eabc",
        "\0",
        "x" * 10_000,
        ";",
        "-0",
        "\ufeff",
    ]
)
TEXTS = (TEXT | HARD).filter(str.strip)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    options = draw(
        st.tuples(TEXTS, TEXTS).filter(lambda pair: pair[0].casefold().split() != pair[1].casefold().split())
    )
    answers = draw(st.sampled_from([(0, 1), (1, 0)]))
    second = draw(st.none() | st.just(EXCHANGED))
    patterns = draw(st.lists(TEXTS, max_size=2))
    return Draft(Question(draw(TEXTS), options, answers), second, tuple(patterns), draw(TEXTS), draw(TEXTS))


@settings(max_examples=40, deadline=None)
@given(drafts(), TEXT)
def test_every_text_comes_back_as_it_was(draft: Draft, reason: str) -> None:
    with tempfile.TemporaryDirectory() as folder, authoring(Path(folder), 1, drafter="") as database:
        database.add_draft("p0", "model", draft)
        rows = exported(database)
        path = Path(folder, "rows.csv")
        content = sheet([rows[0] | {"decision": "accept", "reason": guarded(reason)}])
        assert imported(database, content).saved.added == 1
        kept = database.history("p0")[-1]
        assert (kept.draft, kept.source, kept.reason) == (draft, "model", reason)
        # The same text without a revision to compare it with is read from the cells alone.
        content = sheet([rows[0] | {"decision": "accept", "revision": "", "pattern": ""}])
        assert imported(database, content, "Ben").saved.added == 1
        assert database.history("p0")[-1].draft == replace(draft, patterns=())
        assert path.is_file()
