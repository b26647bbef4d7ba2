"""What a model is asked, and what becomes of its replies: a draft that could be a question, or the reason why not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from blindpairs.author.drafts import Draft, NotDrafted
from blindpairs.author.prompts import draft_schema, instructions, ordered, parse_draft, shuffled
from blindpairs.benchmark import Question

PATTERNS = ("Text", "State and Condition")
REPLY = {
    "found": True,
    "question": "Is the door  open or\nclosed?",
    "option_1": "Open",
    "option_2": "Closed",
    "answer_a": 1,
    "answer_b": 2,
    "pattern": "State and Condition",
    "statement_a": "an open door",
    "statement_b": "a closed door",
    "second_question": "Which of the two is the door not?",
    "second_option_1": "Open",
    "second_option_2": "Closed",
    "second_answer_a": 2,
    "second_answer_b": 1,
}


def parsed(second: bool = True, pair_id: str = "p1", **changes: object) -> Draft | NotDrafted:
    return parse_draft(json.dumps({**REPLY, **changes}), pair_id, second=second)


def answers(question: Question) -> tuple[str, str]:
    a, b = question.answers
    return question.options[a], question.options[b]


def test_reply_becomes_the_draft_that_it_says() -> None:
    draft = parsed()
    assert isinstance(draft, Draft)
    assert draft.question
    assert draft.second
    assert draft.question.text == "Is the door open or closed?"
    assert answers(draft.question) == ("Open", "Closed")
    assert answers(draft.second) == ("Closed", "Open")
    assert (draft.patterns, draft.statement_a, draft.statement_b) == (
        ("State and Condition",),
        "an open door",
        "a closed door",
    )


def test_second_question_always_has_exchanged_answers() -> None:
    for number in range(20):
        draft = parsed(
            pair_id=f"p{number}", second_option_1="Shut", second_option_2="Ajar", second_answer_a=1, second_answer_b=2
        )
        assert isinstance(draft, Draft)
        assert draft.question
        assert draft.second
        assert draft.second.answers == draft.question.answers[::-1]
        assert answers(draft.second) == ("Shut", "Ajar")


def test_without_a_second_question_none_is_read() -> None:
    draft = parsed(second=False)
    assert isinstance(draft, Draft)
    assert draft.second is None


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"found": False}, "no_difference", "sees no clear difference"),
        ({"answer_b": 1}, "unusable", "'Open' is the answer for both images"),
        ({"option_2": "open"}, "unusable", "both options are 'Open'"),
        ({"question": " \n "}, "unusable", "question is empty"),
        ({"statement_b": "An open door"}, "unusable", "both statements are 'an open door'"),
        ({"statement_a": "very " * 100}, "unusable", "statement_a has 499 characters"),
        ({"second_answer_a": 1}, "unusable", "'Open' is the answer for both images"),
    ],
)
def test_unusable_reply_says_why(changes: dict[str, object], code: str, words: str) -> None:
    failed = parsed(**changes)  # type: ignore[arg-type]
    assert isinstance(failed, NotDrafted)
    assert failed.code == code
    assert words in failed.message


def test_reply_that_is_no_json_is_shown() -> None:
    assert parse_draft("I cannot see", "p", second=False) == NotDrafted(
        "broken_json", "the reply is no JSON: 'I cannot see'"
    )


def test_schema_accepts_the_reply_and_names_the_patterns() -> None:
    validator = Draft202012Validator(draft_schema(PATTERNS, second=True))
    assert validator.is_valid(REPLY)
    assert not validator.is_valid({**REPLY, "pattern": "state"})
    assert not validator.is_valid({name: value for name, value in REPLY.items() if name != "second_question"})
    short = {name: value for name, value in REPLY.items() if not name.startswith("second_")}
    assert Draft202012Validator(draft_schema(PATTERNS, second=False)).is_valid(short)


def test_instructions_name_every_field_and_every_pattern() -> None:
    text = instructions(PATTERNS, second=True)
    names = set(draft_schema(PATTERNS, second=True)["properties"]) | set(PATTERNS)
    assert [name for name in names if name not in text] == []
    assert "second_question" not in instructions(PATTERNS, second=False)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_order_of_the_options_changes_no_answer(pair_id: str) -> None:
    question = Question("?", ("left", "right"), (0, 1))
    assert answers(shuffled(question, pair_id)) == ("left", "right")
    second = ordered(Question("?", ("x", "y"), (0, 1)), exchanged_with=shuffled(question, pair_id))
    assert answers(second) == ("x", "y")


def test_half_of_many_questions_have_their_options_turned() -> None:
    question = Question("?", ("left", "right"), (0, 1))
    turned = sum(shuffled(question, f"pair {number}").options[0] == "right" for number in range(1000))
    assert 450 < turned < 550
