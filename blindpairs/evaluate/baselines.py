"""What answers without looking, for comparison: guessing, and always the first option.

Their answers are recorded like those of a model. Guesses depend on the seed and the question's key alone, so that a
shard, a resumed run and a benchmark in another order get the same ones. The third baseline, `blind:SPEC`, is a model
that is asked without the image (`answering.py`). As the two answers of a pair differ, one that decodes greedily is
right about one image of each pair at most: 0 % of the pairs, 50 % of the questions. No pair is solved without looking.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blindpairs.evaluate.asking import Asking
from blindpairs.evaluate.reading import LETTERS
from blindpairs.evaluate.scores import Key

UNASKED = Asking("not asked")
# What guessing gives on average, in percent: both images of a pair, one question, the same answer twice.
CHANCE_PERCENT = {
    "pair_accuracy": 25.0,
    "question_accuracy": 50.0,
    "confusion": 50.0,
    "invalid": 0.0,
    "first_option": 50.0,
}


@dataclass(frozen=True)
class Baseline:
    """Answers from the key of a question."""

    name: str
    answer: Callable[[Key], str]
    settings: Mapping[str, Any] = field(default_factory=dict)


def guessing(seed: int = 0) -> Baseline:
    """One of the two letters by lot."""

    def answer(key: Key) -> str:
        return f"({random.Random(' '.join([str(seed), *key])).choice(LETTERS)})"

    return Baseline("random", answer, {"kind": "random", "seed": seed})


def first_option() -> Baseline:
    """Always the first letter."""
    return Baseline("first", lambda _: f"({LETTERS[0]})", {"kind": "first"})


def guessing_yes_or_no(seed: int = 0) -> Baseline:
    """Yes or no by lot, for POPE."""

    def answer(key: Key) -> str:
        return random.Random(" ".join([str(seed), *key])).choice(("Yes", "No"))

    return Baseline("random", answer, {"kind": "random", "seed": seed})


def yes_always() -> Baseline:
    """Always yes, for POPE: what a model says that takes every object for present."""
    return Baseline("yes", lambda _: "Yes", {"kind": "yes"})
