"""Runs on made-up pairs, from which images a model is right about."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blindpairs.benchmark import BenchmarkPair, Question
from blindpairs.evaluate.scores import PairOutcome

PATTERNS = ("Text", "Color and Appearance", "State and Condition")


def made_pairs(count: int) -> list[BenchmarkPair]:
    """Pairs with one question each, a third of them of each pattern, whose right options alternate."""
    return [
        BenchmarkPair(
            f"{number:016x}",
            f"a{number}",
            f"b{number}",
            question=Question("?", ("x", "y"), (number % 2, 1 - number % 2)),
            patterns=(PATTERNS[number % 3],),
        )
        for number in range(count)
    ]


def run_of(pairs: Sequence[BenchmarkPair], right: NDArray[np.bool_]) -> list[PairOutcome]:
    """One outcome for each pair: right about both images where `right` (P,) says so, else the same answer to both."""
    return [answered(pair, (True, bool(one))) for pair, one in zip(pairs, right, strict=True)]


def answered(pair: BenchmarkPair, right: tuple[bool, bool]) -> PairOutcome:
    """The outcome of a pair by which of its images are right."""
    assert pair.question
    a, b = (answer if hit else 1 - answer for answer, hit in zip(pair.question.answers, right, strict=True))
    return PairOutcome(pair, (a, b), None)
