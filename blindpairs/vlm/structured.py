"""JSON replies: tells a model what to reply, reads what it replied, and asks once more where that is broken.

Not every server can force a reply into a schema, and those that can cut it at `max_tokens`. So the schema stands in
the prompt, too, and every reply is checked here, whoever gave it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from blindpairs.vlm.asking import Ask, Reply

INSTRUCTION = "Reply with one JSON object and nothing else. It must follow this JSON Schema:\n"
REPAIR = (
    "You have already been asked this, and replied:\n{reply}\n\nThat reply cannot be used: {reason}.\n"
    "Reply again, with one JSON object that follows the schema and nothing else."
)
MOST_SHOWN = 4000  # characters of a broken reply that the model sees again
MOST_TRIES = 100  # braces at which an object may begin: hostile text has millions


def instructed(ask: Ask) -> Ask:
    """The ask whose last text says what to reply; the same ask where there is no schema."""
    if ask.schema is None:
        return ask
    return replace(ask, parts=(*ask.parts, INSTRUCTION + json.dumps(dict(ask.schema), ensure_ascii=False)))


def repaired(ask: Ask, reply: Reply, reason: str) -> Ask:
    """The instructed ask again, with the model's own reply and why it cannot be used."""
    shown = reply.text[:MOST_SHOWN]
    return replace(ask, parts=(*ask.parts, REPAIR.format(reply=shown, reason=reason)))


def read_object(text: str, schema: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The first object in a text that follows the schema, and "". Without one: None, and why the first one does not.

    The object may stand between other text, as in a fenced block.
    """
    reason = "it holds no JSON object"
    validator = Draft202012Validator(dict(schema))
    for number, value in enumerate(_objects(text)):
        error = best_match(validator.iter_errors(value))
        if error is None:
            return value, ""
        if number == 0:
            reason = f"{error.json_path}: {error.message[:300]}"
    return None, reason


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object that begins at a brace and is not inside of another one, in order."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    at = text.find("{")
    for _ in range(MOST_TRIES):
        if at < 0:
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield value
        at = text.find("{", end)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")  # Python reads NaN and Infinity, which no other reader does
