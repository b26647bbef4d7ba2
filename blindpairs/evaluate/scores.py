"""From options to numbers: MMVP-style scores with intervals, by pattern, with every failure mode beside them.

A model is right about a pair if it is right about both of its images (tsb0601/MMVP, scripts/gpt_grader.py). Pair
accuracy below that of guessing has one cause, the same answer to both images, so confusion stands beside it
(MediConfusion, arXiv 2409.15477, utils/answering.py). Second questions give the accuracies of NaturalBench, too
(Baiqi-Li/NaturalBench, naturalbench_vqa.py).

Promises: nothing is matched by position; the order of the answers, and answers for other pairs, change nothing; an
answer that is missing is an error that names it, never a smaller denominator; an unreadable answer counts as wrong and
is counted apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blindpairs.benchmark import Benchmark, BenchmarkPair, Question
from blindpairs.errors import InputError
from blindpairs.statistics import Rate, bootstrap_interval, rate_of

Which = Literal["first", "second"]
Key = tuple[str, str, Which]  # pair id, side "a" or "b", which question
Options = Mapping[Key, int | None]  # what was read: 0, 1, or None for an unreadable answer
Booleans = NDArray[np.bool_]
BOOTSTRAP_FROM = 135  # pairs: with fewer, the pair-clustered bootstrap misses its coverage (tests/test_statistics.py)


@dataclass(frozen=True)
class Scores:
    """What a set of pairs says about a model. Random guessing gives .25 pair accuracy, .5 of the others."""

    pair_accuracy: Rate
    question_accuracy: Rate
    confusion: Rate  # the same option for both images, of the pairs with two readable answers
    invalid: Rate  # unreadable answers, of all answers
    first_option: Rate  # the first option, of the readable answers
    group_accuracy: Rate | None  # all four answers, of the pairs with a second question; None where there are none
    second_accuracy: Rate | None  # NaturalBench's Q_Acc: both images right, over both questions
    image_accuracy: Rate | None  # its I_Acc: both questions right, over both images


@dataclass(frozen=True)
class PairOutcome:
    """The options that were read for one pair, and what is right."""

    pair: BenchmarkPair
    first: tuple[int | None, int | None]  # of image a and image b
    second: tuple[int | None, int | None] | None

    @property
    def right(self) -> tuple[bool, bool]:
        """Of image a and of image b, for the first question."""
        return _right(self.first, self.pair.question)

    @property
    def right_second(self) -> tuple[bool, bool] | None:
        """The same for the second question."""
        return None if self.second is None else _right(self.second, self.pair.second)

    @property
    def pair_right(self) -> bool:
        """Both images, for the first question."""
        return all(self.right)


def outcomes(pairs: Iterable[BenchmarkPair], options: Options) -> list[PairOutcome]:
    """One outcome for each pair with a question, in their order. InputError names the answers that are missing."""
    asked = [pair for pair in pairs if pair.question]
    missing = [key for pair in asked for key in keys_of(pair) if key not in options]
    if missing:
        pair_id, side, which = missing[0]
        raise InputError(
            f"{len(missing):,} answers of {len({key[0] for key in missing}):,} pairs are missing, such as that of "
            f"image {side} of pair {pair_id} ({which} question)"
        )
    return [_outcome(pair, options) for pair in asked]


def keys_of(pair: BenchmarkPair) -> list[Key]:
    """What must be answered for a pair."""
    questions: list[Which] = [which for which, one in (("first", pair.question), ("second", pair.second)) if one]  # type: ignore[misc]
    return [(pair.pair_id, side, which) for which in questions for side in "ab"]


def questions_of(benchmark: Benchmark) -> dict[Key, Question]:
    """Every question about every image, by its key, in the order of the pairs."""
    return {
        key: question
        for pair in benchmark.pairs
        for key in keys_of(pair)
        if (question := pair.question if key[2] == "first" else pair.second)
    }


def score(results: Sequence[PairOutcome]) -> Scores:
    """The scores of some pairs."""
    right = np.array([one.right for one in results], np.bool_).reshape(-1, 2)  # (P, 2)
    read = [option for one in results for option in one.first]
    readable = [option for option in read if option is not None]
    valid = [one.first for one in results if None not in one.first]
    four = [(one.right, one.right_second) for one in results if one.right_second is not None]
    cells = np.array(four, np.bool_).reshape(-1, 2, 2)  # (P, question, image)
    return Scores(
        pair_accuracy=rate_of(_all(right, 1)),
        question_accuracy=_clustered(right),
        confusion=rate_of([a == b for a, b in valid]),
        invalid=_of_answers([option is None for option in read]),
        first_option=_of_answers([option == 0 for option in readable]),
        group_accuracy=rate_of(_all(cells, (1, 2))) if four else None,
        second_accuracy=_clustered(_all(cells, 2)) if four else None,
        image_accuracy=_clustered(_all(cells, 1)) if four else None,
    )


def by_pattern(benchmark: Benchmark, results: Sequence[PairOutcome]) -> dict[str, Scores]:
    """The scores of the pairs of each pattern, those of the taxonomy first; a pair of two patterns counts in both."""
    names = dict.fromkeys([*benchmark.patterns, *(name for one in results for name in one.pair.patterns)])
    groups = {name: [one for one in results if name in one.pair.patterns] for name in names}
    return {name: score(group) for name, group in groups.items() if group}


def _outcome(pair: BenchmarkPair, options: Options) -> PairOutcome:
    first = (options[pair.pair_id, "a", "first"], options[pair.pair_id, "b", "first"])
    second = (options[pair.pair_id, "a", "second"], options[pair.pair_id, "b", "second"]) if pair.second else None
    return PairOutcome(pair, first, second)


def _right(options: tuple[int | None, int | None], question: Question | None) -> tuple[bool, bool]:
    assert question is not None  # outcomes are made of pairs with questions
    return options[0] == question.answers[0], options[1] == question.answers[1]


def _all(cells: Booleans, axis: int | tuple[int, ...]) -> Booleans:
    return np.asarray(np.all(cells, axis=axis), np.bool_)


def _of_answers(hits: Sequence[bool]) -> Rate:
    """Of single answers, two a pair: the interval is that of half as many, as if both always agreed."""
    return rate_of(hits, len(hits) / 2)


def _clustered(hits: Booleans) -> Rate:
    """Of the rows (P, n) of pairs: whole pairs are drawn, because what belongs to one pair is not independent."""
    interval = bootstrap_interval(hits.mean(1)) if len(hits) >= BOOTSTRAP_FROM else None
    return Rate(int(hits.sum()), hits.size, interval)
