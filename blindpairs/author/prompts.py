"""What a vision-language model is asked to draft for a pair, and how its reply becomes a draft.

The wording asks for what the paper did by hand (arXiv 2401.06209, section 2): find the visual detail that differs, and
ask one plain question about it with two options, whose answer differs between the images. The model sees both images
and, where `mine --differences` looked, both again with the differing places in red.

Promises: a reply is a draft only if it could become a question of a benchmark: two different options, answers that
differ, statements that differ. The order of the options does not depend on the model, which tends to put the answer of
the first image first.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from blindpairs.author.drafts import Draft, NotDrafted
from blindpairs.benchmark import Question

SYSTEM = (
    "You write questions for a benchmark of visual perception. You see two images, A and B. A vision encoder takes "
    "them for the same, although something that people can see differs. Reply with one JSON object."
)
TASK = """Find one visual detail in which images A and B clearly differ, and write about it:
- question: one plain question about a single image, which a person answers at a glance. It will be asked of each image
  alone, so it must not speak of two images, of the other image, or of A and B.
- option_1, option_2: two short answers, of which each is right for exactly one of the images. No brackets.
- answer_a, answer_b: 1 or 2, the right option for image A and for image B. They must differ.
- pattern: the kind of difference, one of the names given.
- statement_a: a short caption that is true of image A and false of image B, without "image" or "other".
- statement_b: the same kind of caption, true of image B and false of image A.
If you see no clear difference, set "found" to false and leave the texts empty."""
SECOND = """- second_question, second_option_1, second_option_2, second_answer_a, second_answer_b: another question
  about the same detail. Where it can have the same two options, image A's right option must be the one that
  was image B's."""
OVERLAY = "The same two images; red shows where another vision encoder sees them differ:"
_LONGEST = 400  # characters of a text in a draft: more is no plain question, and CLIP reads 77 tokens


def instructions(patterns: Sequence[str], *, second: bool) -> str:
    """The text after the images: the task, and the names of the patterns."""
    names = "\n".join(f"  - {name}" for name in patterns)
    return "\n".join([TASK, *([SECOND] if second else []), f"The patterns are:\n{names}"])


def draft_schema(patterns: Sequence[str], *, second: bool) -> dict[str, Any]:
    """The JSON Schema of a reply. Plain types only: servers differ in what they support beyond them."""
    texts = ["question", "option_1", "option_2", "statement_a", "statement_b"]
    answers = ["answer_a", "answer_b"]
    if second:
        texts += ["second_question", "second_option_1", "second_option_2"]
        answers += ["second_answer_a", "second_answer_b"]
    properties: dict[str, Any] = {
        "found": {"type": "boolean"},
        **{name: {"type": "string"} for name in texts},
        **{name: {"type": "integer", "enum": [1, 2]} for name in answers},
        "pattern": {"type": "string", "enum": list(patterns)},
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def parse_draft(text: str, pair_id: str, *, second: bool) -> Draft | NotDrafted:
    """The draft in a reply that follows the schema, or why it cannot become a question."""
    try:
        reply = json.loads(text)
    except ValueError:
        return NotDrafted("broken_json", f"the reply is no JSON: {text[:80]!r}")
    if not reply.get("found", True):
        return NotDrafted("no_difference", "the model sees no clear difference")
    try:
        question = _question(reply, "", pair_id)
        other = ordered(_question(reply, "second_", pair_id), exchanged_with=question) if second else None
        statements = (_text(reply, "statement_a"), _text(reply, "statement_b"))
    except ValueError as error:
        return NotDrafted("unusable", str(error))
    if statements[0].casefold() == statements[1].casefold():
        return NotDrafted("unusable", f"both statements are {statements[0]!r}")
    return Draft(question, other, (str(reply["pattern"]),), *statements)


def ordered(question: Question, *, exchanged_with: Question) -> Question:
    """The question with its options in the order in which its answers are those of the other question exchanged."""
    if question.answers == exchanged_with.answers[::-1]:
        return question
    return _turned(question)


def shuffled(question: Question, pair_id: str) -> Question:
    """The question with its options in an order that depends on the pair id alone: of many pairs, half are turned."""
    return _turned(question) if hashlib.sha256(f"options {pair_id}".encode()).digest()[0] % 2 else question


def _turned(question: Question) -> Question:
    first, other = question.options
    a, b = question.answers
    return replace(question, options=(other, first), answers=(1 - a, 1 - b))


def _question(reply: Mapping[str, Any], prefix: str, pair_id: str) -> Question:
    text = _text(reply, f"{prefix}question")
    options = (_text(reply, f"{prefix}option_1"), _text(reply, f"{prefix}option_2"))
    answers = (int(reply[f"{prefix}answer_a"]) - 1, int(reply[f"{prefix}answer_b"]) - 1)
    if options[0].casefold() == options[1].casefold():
        raise ValueError(f"both options are {options[0]!r}")
    if sorted(answers) != [0, 1]:
        raise ValueError(f"{options[answers[0]]!r} is the answer for both images")
    return shuffled(Question(text, options, answers), pair_id)


def _text(reply: Mapping[str, Any], name: str) -> str:
    text = " ".join(str(reply.get(name, "")).split())
    if not text:
        raise ValueError(f"{name} is empty")
    if len(text) > _LONGEST:
        raise ValueError(f"{name} has {len(text):,} characters; a plain text has at most {_LONGEST}")
    return text
