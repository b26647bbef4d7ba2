"""How well a model follows instructions: answers in a form that was asked for, about images whose contents are known.

    questions.jsonl     a line a question: question_id, image, about, text, answer, form
    images/             the images that they name

`about` names the form that is asked for, or is `category`: what the image shows, in one word. `form` is a regular
expression of every answer in that form, right or wrong. Promises: an answer is exact only to the letter, and a form is
judged whatever is said in it; an answer that is empty, or was cut off, has neither, and is counted apart; the category
is never averaged with the forms.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import InputError
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.answers import Answer, AnswerFile
from blindpairs.evaluate.suites import Figure, Manner, Rule, SuiteItem, ask_items, read_lines, texts_by_item
from blindpairs.statistics import effective_count, wilson_interval
from blindpairs.vlm import Answerer, Failure

QUESTIONS, IMAGES = "questions.jsonl", "images"
CATEGORY = "category"
MANNER = Manner("following", max_tokens=48)  # the longest right answer of the demo has 12 words
_FIELDS = ("question_id", "image", "about", "text", "answer", "form")


@dataclass(frozen=True)
class FollowingQuestion:
    """An instruction about an image, and what follows it."""

    item_id: str
    image: str  # as the file names it: the questions of one image are not independent
    uri: str  # where its bytes are
    about: str  # the form, or `category`
    text: str
    answer: str
    form: str  # a regular expression

    def exact_in(self, said: str) -> bool:
        """Whether this is the answer, to the letter; of a category neither capitals nor a full stop count."""
        text = said.strip()
        return (text.lower().rstrip(".") if self.about == CATEGORY else text) == self.answer

    def kept_by(self, said: str) -> bool:
        """Whether an answer has the form, whatever it says."""
        return re.fullmatch(self.form, said.strip()) is not None


@dataclass(frozen=True)
class FollowingFigures:
    """Shares of answers that are exact, and of those in the form. `unreadable` ones are empty or cut off: neither."""

    exact: Figure
    form: Figure
    questions: int
    unreadable: int


@dataclass(frozen=True)
class FollowingScores:
    """By form, of all forms together, and of the category, which asks for a name and for no form but one word."""

    rule: Rule
    together: FollowingFigures
    forms: Mapping[str, FollowingFigures]
    category: FollowingFigures
    notes: tuple[str, ...] = ()


def read_following(folder: Path) -> list[FollowingQuestion]:
    """The questions in a folder; InputError for a damaged file."""
    lines = read_lines(folder / QUESTIONS, _FIELDS)
    if not lines:
        raise InputError(f"{folder / QUESTIONS} has no question: remove it, and it is written again")
    place = folder / IMAGES
    return [
        FollowingQuestion(
            one["question_id"],
            one["image"],
            str(place / one["image"]),
            one["about"],
            one["text"],
            one["answer"],
            one["form"],
        )
        for one in lines
    ]


def ask_following(
    questions: Sequence[FollowingQuestion], model: Answerer, answers: AnswerFile, conditions: Conditions
) -> list[Failure]:
    """Ask the questions that `answers` lacks; see `suites.ask_items`."""
    return ask_items(
        model, [SuiteItem(one.item_id, one.text, one.uri) for one in questions], MANNER, answers, conditions
    )


def score_following(questions: Sequence[FollowingQuestion], answers: Sequence[Answer]) -> FollowingScores:
    """The figures of recorded answers. InputError for a question without an answer."""
    uncut = texts_by_item(answers, [one.item_id for one in questions], "answers to following")
    # Of an answer that was cut off nobody knows how it would have ended: it is read as an empty one.
    cut = {answer.key[0] for answer in answers if answer.finish == "length"}
    texts = {item_id: "" if item_id in cut else text for item_id, text in uncut.items()}
    about: dict[str, list[FollowingQuestion]] = {}
    for one in questions:
        about.setdefault(one.about, []).append(one)
    named = about.pop(CATEGORY, [])
    forms = {name: _figures(questions_of_form, texts) for name, questions_of_form in about.items()}
    together = _figures([one for questions_of_form in about.values() for one in questions_of_form], texts)
    empty = sum(not text.strip() for text in uncut.values())
    notes = [f"{empty:,} answers are empty."] if empty else []
    notes += [f"{len(cut):,} answers were cut off at {MANNER.max_tokens} tokens."] if cut else []
    return FollowingScores("ours", together, forms, _figures(named, texts), tuple(notes))


def _figures(questions: Sequence[FollowingQuestion], texts: Mapping[str, str]) -> FollowingFigures:
    exact = [one.exact_in(texts[one.item_id]) for one in questions]
    kept = [one.kept_by(texts[one.item_id]) for one in questions]
    # As if the answers about an image always agreed: never too narrow. Of one form this is one trial an image.
    trials = effective_count(_sizes(questions))
    unreadable = sum(not texts[one.item_id].strip() for one in questions)
    return FollowingFigures(_figure(exact, trials), _figure(kept, trials), len(questions), unreadable)


def _sizes(questions: Sequence[FollowingQuestion]) -> NDArray[np.int64]:
    """How many questions each image has (images,)."""
    return np.array(list(Counter(one.image for one in questions).values()), np.int64)


def _figure(hits: Sequence[bool], trials: float) -> Figure:
    if not hits:
        return Figure(math.nan, None)
    share = sum(hits) / len(hits)
    return Figure(share, wilson_interval(share, trials))
