"""What the answers of several models say about each pair: its difficulty, and whether its key is to be trusted.

A wrong key shows in two ways. Good models fail the pair and bad ones do not: its discrimination is negative. And models
that fail it give exactly the exchanged answers, where a hard pair rather gets the same answer to both images; this is
the stronger sign, and the one that pairs are suspected by. It needs models that are better than guessing, and it is no
proof: models that share an error look the same, so a person has to look at the pair.

Discrimination is the point-biserial correlation with the score on the other pairs (Lord and Novick 1968, Statistical
Theories of Mental Test Scores, chapter 15; DatBench, arXiv 2601.02316, uses it on benchmarks of this kind). Only first
questions are looked at.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import InputError
from blindpairs.evaluate.comparison import Run, matched
from blindpairs.evaluate.scores import PairOutcome

RIGHT, EXCHANGED, OTHER = 1, -1, 0  # both answers as the key has them, both the other way round, anything else
# Evidence from which a wrong key is likelier than not, where one key in twenty is wrong.
SUSPECTED_FROM = math.log(19)


@dataclass(frozen=True)
class Item:
    """One pair in the eyes of several models."""

    pair_id: str
    models: int
    right: int  # models that are right about both images
    exchanged: int  # models that are wrong about both images, so right if the key is
    discrimination: float  # from -1 to 1; nan where all models agree, or are equally good on the other pairs
    evidence: float  # the logarithm of how many times better the exchanged key explains the answers

    @property
    def difficulty(self) -> float:
        """The share of models that fail."""
        return 1 - self.right / self.models

    @property
    def suspected(self) -> bool:
        """Whether the answers make a wrong key likelier than not."""
        return self.evidence > SUSPECTED_FROM


@dataclass(frozen=True)
class Items:
    """All pairs of a benchmark, in its order, in the eyes of several models."""

    items: tuple[Item, ...]
    models: tuple[str, ...]
    expected_unsolved: float  # pairs that all models would fail if their errors were independent of each other
    solved_blind: tuple[str, ...]  # ids of pairs that a model without the images is right about

    @property
    def unsolved(self) -> list[Item]:
        """The pairs that all models fail, those with the strongest suspicion of a wrong key first."""
        return sorted((one for one in self.items if not one.right), key=_suspicion)

    @property
    def suspected(self) -> list[Item]:
        """The pairs whose key may be wrong, the strongest suspicion first."""
        return sorted((one for one in self.items if one.suspected), key=_suspicion)


def item_analysis(runs: Mapping[str, Run], blind: Run | None = None) -> Items:
    """What models, by name, say about the pairs that they all answered; `blind` is of a model without the images.

    InputError for fewer than two models, and where a model lacks a pair.
    """
    if len(runs) < 2:
        raise InputError(f"item analysis needs the answers of two models at least, not of {len(runs)}")
    outcomes = matched(runs)
    answers = np.array([[_answer(one) for one in run] for run in outcomes], np.int8)  # (M, P)
    counts = (answers == RIGHT).sum(0), (answers == EXCHANGED).sum(0)
    columns = zip(*counts, discrimination(answers), exchanged_evidence(answers), strict=True)
    items = tuple(
        Item(outcome.pair.pair_id, len(runs), int(right), int(exchanged), float(correlation), float(evidence))
        for outcome, (right, exchanged, correlation, evidence) in zip(outcomes[0], columns, strict=True)
    )
    failing = float(np.prod(1 - (answers == RIGHT).mean(1))) * len(items)
    return Items(items, tuple(runs), failing, _solved(outcomes[0], blind))


def discrimination(answers: NDArray[np.int8]) -> NDArray[np.float64]:
    """The point-biserial correlation of each pair with the score on all others: (M, P) of models by pairs -> (P,).

    nan where it is undefined.
    """
    right = (answers == RIGHT).astype(np.float64)  # (M, P)
    rest = right.sum(1, keepdims=True) - right  # (M, P): the score of each model on the other pairs
    right, rest = right - right.mean(0), rest - rest.mean(0)
    scale = np.sqrt((right**2).sum(0) * (rest**2).sum(0))  # (P,)
    undefined = np.full(len(scale), np.nan)
    return np.asarray(np.divide((right * rest).sum(0), scale, out=undefined, where=scale > 1e-12), np.float64)


def exchanged_evidence(answers: NDArray[np.int8]) -> NDArray[np.float64]:
    """How much better the exchanged key explains each pair, as a logarithm: (M, P) of models by pairs -> (P,).

    A model's weight is log(right / exchanged) over the other pairs: that of a good model is high, that of guessing 0.
    """
    right, exchanged = (answers == RIGHT).astype(np.float64), (answers == EXCHANGED).astype(np.float64)
    # Half a pair is added to each count: a model without a single exchanged pair has no infinite weight.
    of_others = [counted.sum(1, keepdims=True) - counted + 0.5 for counted in (right, exchanged)]  # (M, P) each
    weights = np.log(of_others[0] / of_others[1])  # (M, P)
    return np.asarray(((exchanged - right) * weights).sum(0), np.float64)


def _answer(outcome: PairOutcome) -> int:
    if outcome.pair_right:
        return RIGHT
    # An unreadable answer is wrong, but it is no vote for the other option.
    return EXCHANGED if None not in outcome.first and not any(outcome.right) else OTHER


def _suspicion(item: Item) -> tuple[float, float]:
    return -item.evidence, np.nan_to_num(item.discrimination)


def _solved(reference: Sequence[PairOutcome], blind: Run | None) -> tuple[str, ...]:
    if blind is None:
        return ()
    (_, answered) = matched({"the models": reference, "the blind model": blind})
    return tuple(one.pair.pair_id for one in answered if one.pair_right)
