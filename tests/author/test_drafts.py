"""Drafts as JSON and back."""

import json

import pytest

from blindpairs.author.drafts import Draft, draft_of
from blindpairs.benchmark import Question
from blindpairs.errors import InputError

QUESTION = Question('Is "it"\n<b>open</b>?', ("=1+1", "None"), (1, 0))


@pytest.mark.parametrize(
    "draft", [Draft(), Draft(QUESTION, QUESTION, ("Text", "my own"), "a door", "a\tdoor"), Draft(statement_a="x")]
)
def test_draft_survives_json(draft: Draft) -> None:
    assert draft_of(json.loads(json.dumps(draft.as_json()))) == draft


@pytest.mark.parametrize("damage", [{"question": {"text": "?"}}, {"patterns": None}, {"second": "no"}])
def test_other_shape_is_an_input_error(damage: dict[str, object]) -> None:
    with pytest.raises(InputError, match="a draft has another shape"):
        draft_of({**Draft().as_json(), **damage})
