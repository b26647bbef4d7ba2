"""What is said while a pair is written is what the benchmark's checks say of it when it is exported."""

import random
from dataclasses import replace
from typing import Any

import pytest
from authored import DOOR, DRAFT, EXCHANGED

from blindpairs.author.drafts import Draft
from blindpairs.author.live_checks import LiveFinding, live_checks
from blindpairs.benchmark import Benchmark, BenchmarkPair, HeldImages, Question
from blindpairs.benchmark.checks import check
from blindpairs.errors import InputError

TAXONOMY = ("State and Condition", "Text")


def said(form: dict[str, Any], taxonomy: tuple[str, ...] = TAXONOMY) -> list[tuple[str, str, bool]]:
    return [(one.field, one.check, one.refuses) for one in live_checks(form, taxonomy)]


def written(**changes: Any) -> dict[str, Any]:
    """The form of DRAFT with other fields; those of its question by name."""
    form = DRAFT.as_json()
    question = {name: changes.pop(name) for name in ("text", "options", "answers") if name in changes}
    return {**form, **changes, "question": {**form["question"], **question}}


def test_a_good_pair_has_no_finding() -> None:
    assert said(DRAFT.as_json()) == []
    assert said(replace(DRAFT, second=EXCHANGED).as_json()) == []


@pytest.mark.parametrize(
    ("form", "found"),
    [
        (written(answers=[1, 1]), ("question.answers", "same_answer", True)),
        (written(options=["Open (wide)", "Closed"]), ("question.options", "bracket", True)),
        (written(options=["Open", "open "]), ("question.options", "equal_options", True)),
        (written(options=["Open", "None"]), ("question.options", "read_as_missing", True)),
        (written(text="Is the door of the left image open?"), ("question.text", "other_image", True)),
        (written(text="What colour is the open door?"), ("question.text", "shown_by_one", False)),
        (written(answers=[0, 7]), ("question.answers", "no_such_option", True)),
        (written(patterns=["Texts"]), ("patterns", "unknown_pattern", True)),
        (written(patterns=[]), ("patterns", "no_pattern", False)),
        (written(statement_b=""), ("statements", "one_statement", True)),
        (written(statement_b="An open  door"), ("statements", "equal_statements", True)),
        (written(statement_b="door " * 90), ("statements", "long_statement", True)),
        (written(second=Draft(DOOR).as_json()["question"]), ("second.answers", "second_not_exchanged", True)),
    ],
)
def test_each_fault_is_found_at_its_field(form: dict[str, Any], found: tuple[str, str, bool]) -> None:
    assert said(form) == [found]


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ({}, [("", "unfinished")]),
        ({"statement_a": "a", "statement_b": "b"}, []),
        (written(text=""), [("question.text", "unfinished")]),
        (written(options=["", ""]), [("question.options", "unfinished")]),
        (written(options=["", "Closed (shut)"]), [("question.options", "unfinished")]),
        (written(answers=[None, 1]), [("question.answers", "unfinished")]),
        (
            written(answers=[None, None], options=["a", "A"]),
            [("question.answers", "unfinished"), ("question.options", "equal_options")],
        ),
        (
            {"second": Draft(DOOR).as_json()["question"]},
            [("", "unfinished"), ("question.text", "unfinished")],
        ),
    ],
)
def test_what_is_half_done_is_said_to_be_unfinished(form: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert [(field, word) for field, word, _ in said(form) if word != "no_pattern"] == found


def test_any_pattern_goes_without_a_taxonomy() -> None:
    assert said(written(patterns=["Doors"]), ()) == []


def test_findings_are_sentences_for_the_writer() -> None:
    assert live_checks(written(answers=[None, 1]), TAXONOMY) == [
        LiveFinding("question.answers", "unfinished", "choose the answer for image a")
    ]
    (one,) = live_checks(written(patterns=["Texts"]), TAXONOMY)
    assert one.message == "'Texts' is not in the taxonomy: did you mean 'Text'?"


@pytest.mark.parametrize("form", [{"question": 5}, {"question": {"options": ["a"]}}, {"patterns": 5}])
def test_a_form_of_another_shape_is_refused(form: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="another shape"):
        live_checks(form)


def test_what_is_said_here_is_what_the_export_says() -> None:
    draw = random.Random(0)
    texts = ("Is it open?", "What colour is the open door?", "Which picture 2 is it?", "How many?")
    options = ("Open", "open", "None", "Closed (shut)", "Red", "two")
    statements = ("", "an open door", "a closed door", "a door in the second picture")
    keys = ((0, 1), (1, 0), (1, 1), (0, 3))
    seen = set()

    def question() -> Question | None:
        pair = (draw.choice(options), draw.choice(options))
        return draw.choice((None, Question(draw.choice(texts), pair, draw.choice(keys))))

    for number in range(400):
        first = question()
        second, patterns = question() if first else None, tuple(draw.sample(("Text", "Doors"), draw.randrange(3)))
        draft = Draft(first, second, patterns, draw.choice(statements), draw.choice(statements))
        written = (draft.question, draft.second, draft.patterns, draft.statement_a, draft.statement_b)
        pair = BenchmarkPair(f"p{number}", "a", "b", "", "", *written)
        exported = [one for one in check(Benchmark("b", (pair,), HeldImages({}), TAXONOMY)) if one.pair_id]
        live = live_checks(draft.as_json(), TAXONOMY)
        if not draft.question and not (draft.statement_a and draft.statement_b):
            exported = [one for one in exported if one.check != "nothing_asked"]
            live = [one for one in live if one.check != "unfinished"]
        assert sorted((one.check, one.refuses) for one in live) == sorted((one.check, one.refuses) for one in exported)
        seen |= {one.check for one in live}
    assert len(seen) >= 12
