"""What a reader of answers gives: a verdict on each answer, and the numbers that its harness would print.

The harnesses find questions by a number and pairs by neighbouring numbers or lines. So every answered question has,
beside its key, the number that a harness knows it by: that of its source, or its place among the exported questions.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from blindpairs.benchmark import Benchmark, Question
from blindpairs.evaluate.answers import Answer, deduplicated
from blindpairs.evaluate.scores import Key, questions_of

Outcome = Literal["right", "wrong", "unreadable"]


@dataclass(frozen=True)
class Answered:
    """A question with the answer to it."""

    key: Key
    question: Question
    text: str
    number: int  # as a harness counts, from 1: the two questions of a pair are neighbours, the odd one first

    @property
    def truth(self) -> int:
        """The right option, 0 or 1."""
        return self.question.answers["ab".index(self.key[1])]


@dataclass(frozen=True)
class Verdict:
    """How one answer was read. `reason` is one word, joined by underscores, for the rule that decided."""

    outcome: Outcome
    option: int | None  # that the answer was taken for; None also where the reader only tells right from wrong
    reason: str


# The verdict on each answer, the numbers under the names and in the scale of the harness, and notes.
HarnessResult = tuple[dict[Key, Verdict], dict[str, float], list[str]]


@dataclass(frozen=True)
class ReaderScores:
    """What one reader makes of the answers to a benchmark.

    `headline` has the numbers under the names and in the scale of the harness; it is empty where the harness would
    stop with an error, and then a note says so.
    """

    reader: str
    verdicts: Mapping[Key, Verdict]
    headline: Mapping[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judging:
    """A judge for the readers that ask a language model; `reply` says what it replied about an answer.

    The prompts are whoever's asks it: recorded replies are found by key. `seed` is for VLMEvalKit, which draws lots
    where its judge fails: with a seed and no judge, its judge always fails.
    """

    reply: Callable[[Answered, int], str] | None = None  # the question and the number of the attempt, from 0
    seed: int | None = None

    def lot(self, key: Key, options: Sequence[str]) -> str:
        """One of some options by lot, which depends on the seed and the key alone."""
        return random.Random(f"{self.seed or 0} {' '.join(key)}").choice(list(options))


NO_JUDGE = Judging()


def answered(benchmark: Benchmark, answers: Iterable[Answer]) -> list[Answered]:
    """The questions of a benchmark that are answered, in the order of the answers; other answers are left out."""
    numbers = harness_numbers(benchmark)
    asked = questions_of(benchmark)
    return [
        Answered(answer.key, asked[answer.key], answer.text, numbers[answer.key[:2]])
        for answer in deduplicated(enumerate(answers, 1), "the answers")
        if answer.key in asked
    ]


def harness_numbers(benchmark: Benchmark) -> dict[tuple[str, str], int]:
    """(pair id, side) -> number of its row: that of the source where all pairs have one, else by place, from 1."""
    pairs = [pair for pair in benchmark.pairs if pair.question]
    sources = [source for pair in pairs for source in (pair.source_id_a, pair.source_id_b)]
    if sources and len(set(sources)) == len(sources) and all(one.isascii() and one.isdigit() for one in sources):
        numbers = [int(one) for one in sources]
    else:
        numbers = list(range(1, 2 * len(pairs) + 1))
    sides = [(pair.pair_id, side) for pair in pairs for side in "ab"]
    return dict(zip(sides, numbers, strict=True))


def in_question_order(asked: Iterable[Answered]) -> list[Answered]:
    """As a harness asks: by number, first questions before second ones."""
    return sorted(asked, key=lambda one: (one.key[2], one.number))


def first_questions(asked: Iterable[Answered]) -> list[Answered]:
    """Without second questions, which MMVP's harnesses do not know."""
    return [one for one in asked if one.key[2] == "first"]


def by_option(option: int | None, truth: int, reason: str) -> Verdict:
    """The verdict of a reader that looks for an option."""
    if option is None:
        return Verdict("unreadable", None, reason)
    return Verdict("right" if option == truth else "wrong", option, reason)


def pairs_by_line(asked: Sequence[Answered], what: str) -> list[str]:
    """A note where a harness that takes two neighbouring lines for a pair pairs other questions."""
    neighbours = [(one.key[0], other.key[0]) for one, other in zip(asked[::2], asked[1::2], strict=False)]
    wrong = sum(one != other for one, other in neighbours)
    notes = []
    if wrong:
        notes.append(f"{what} takes two lines for a pair, and {wrong:,} of {len(neighbours):,} such are of two pairs.")
    if len(asked) % 2:
        notes.append(f"{what} takes two lines for a pair, and the number of lines is odd.")
    return notes
