"""A JSON reply is found in whatever the model says around it, and is used only if it follows the schema."""

import json
from typing import Any

import pytest

from blindpairs.vlm.asking import Ask, Reply
from blindpairs.vlm.structured import INSTRUCTION, instructed, read_object, repaired

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"enum": ["a", "b"]}},
    "required": ["answer"],
    "additionalProperties": False,
}
GOOD = {"answer": "a"}


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": "a"}',
        ' \n{"answer":"a"}\n',
        'Sure!\n```json\n{"answer": "a"}\n```\nAnything else?',
        '{"answer": "a"} {"answer": "b"}',
        'The set {a, b} has two; I choose {"answer": "a"}',
        'For example {"answer": "x"} would be wrong, so {"answer": "a"}',
    ],
)
def test_first_object_that_follows_the_schema_is_the_reply(text: str) -> None:
    assert read_object(text, SCHEMA) == (GOOD, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it holds no JSON object"),
        ("I choose a.", "it holds no JSON object"),
        ('{"answer": "a', "it holds no JSON object"),
        ('["a"]', "it holds no JSON object"),
        ('{"answer": NaN}', "it holds no JSON object"),
        ('{"answer": "c"}', "$.answer: 'c' is not one of ['a', 'b']"),
        ("{}", "$: 'answer' is a required property"),
        ('{"answer": "a", "why": 1}', "$: Additional properties are not allowed ('why' was unexpected)"),
        ('{"answer": {"answer": "a"}}', "$.answer: {'answer': 'a'} is not one of ['a', 'b']"),
    ],
)
def test_reply_that_cannot_be_used_says_why(text: str, reason: str) -> None:
    assert read_object(text, SCHEMA) == (None, reason)


def test_hostile_text_is_read_in_bounded_time() -> None:
    assert read_object("{" * 5_000_000, SCHEMA) == (None, "it holds no JSON object")
    assert read_object('{"a":' * 100_000, SCHEMA) == (None, "it holds no JSON object")


def test_schema_stands_at_the_end_of_the_prompt() -> None:
    ask = instructed(Ask("one", ("Which?",), schema=SCHEMA))
    assert ask.parts == ("Which?", INSTRUCTION + json.dumps(SCHEMA))
    assert instructed(Ask("one", ("Which?",))).parts == ("Which?",)


def test_repair_shows_the_model_its_own_reply_and_the_reason() -> None:
    ask = instructed(Ask("one", ("Which?",), schema=SCHEMA))
    again = repaired(ask, Reply("one", "c" * 9000, 0.1, 1, 1, "stop"), "it holds no JSON object")
    assert again.parts[:2] == ask.parts
    assert again.texts[2] == (
        f"You have already been asked this, and replied:\n{'c' * 4000}\n\n"
        "That reply cannot be used: it holds no JSON object.\n"
        "Reply again, with one JSON object that follows the schema and nothing else."
    )
