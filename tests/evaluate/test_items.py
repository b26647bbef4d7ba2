"""Item analysis finds planted mistakes, and holds to a slow count."""

import math
from dataclasses import replace

import numpy as np
import pytest
from answered_pairs import answered, made_pairs
from numpy.typing import NDArray

from blindpairs.errors import InputError
from blindpairs.evaluate.items import EXCHANGED, OTHER, RIGHT, discrimination, exchanged_evidence, item_analysis
from blindpairs.evaluate.scores import PairOutcome

GOOD = (0.7, 0.75, 0.8, 0.85, 0.9)  # pair accuracies of five models
SIDES = {RIGHT: (True, True), EXCHANGED: (False, False), OTHER: (True, False)}


def simulated(accuracies: tuple[float, ...], seed: int, spread: float = 0.0) -> NDArray[np.int8]:
    """The answers of models to 135 pairs (M, 135), which differ in difficulty by `spread` in log odds.

    A quarter of the failures are exchanged answers; the rest are the same answer to both images.
    """
    draw = np.random.default_rng(seed)
    ability = np.log(np.array(accuracies) / (1 - np.array(accuracies)))[:, None]
    right = draw.random((len(accuracies), 135)) < 1 / (1 + np.exp(-ability - draw.normal(0, spread, 135)))
    failed = np.where(draw.random(right.shape) < 0.25, EXCHANGED, OTHER)
    return np.where(right, RIGHT, failed).astype(np.int8)


def runs_of(answers: NDArray[np.int8]) -> dict[str, list[PairOutcome]]:
    pairs = made_pairs(answers.shape[1])
    return {
        f"model {row}": [answered(pair, SIDES[int(cell)]) for pair, cell in zip(pairs, cells, strict=True)]
        for row, cells in enumerate(answers)
    }


def first_of_200(accuracies: tuple[float, ...], spread: float) -> int:
    """In how many of 200 seeds the pair whose key was exchanged is the strongest suspicion."""
    found = 0
    for seed in range(200):
        answers = simulated(accuracies, seed, spread)
        wrong = seed % 135
        answers[:, wrong] *= -1  # the key says the opposite, so right and exchanged change places
        found += int(np.argmax(exchanged_evidence(answers))) == wrong
    return found


def test_planted_wrong_key_is_the_first_suspicion() -> None:
    answers = simulated(GOOD, 0)
    answers[:, 77] *= -1
    got = item_analysis(runs_of(answers))
    assert got.suspected[0].pair_id == f"{77:016x}"
    assert len(got.suspected) <= 5


@pytest.mark.parametrize(
    ("accuracies", "spread", "least"),
    # Good models find it. The answers of models near guessing hold too little about the key.
    [
        (GOOD, 0.0, 185),
        (GOOD, 1.0, 160),
        ((0.45, 0.55, 0.65, 0.75, 0.85), 0.0, 145),
        ((0.3, 0.4, 0.5, 0.6, 0.7), 0.0, 80),
    ],
)
def test_planted_wrong_key_is_first_in_most_seeds(accuracies: tuple[float, ...], spread: float, least: int) -> None:
    assert first_of_200(accuracies, spread) >= least


def test_planted_unsolvable_pair_is_named_and_few_others_are() -> None:
    answers = simulated(GOOD, 1)
    answers[:, 40] = OTHER
    got = item_analysis(runs_of(answers))
    assert [one.pair_id for one in got.unsolved] == [f"{40:016x}"]
    assert got.expected_unsolved == pytest.approx(135 * np.prod(1 - (answers == RIGHT).mean(1)))
    assert got.items[40].difficulty == 1.0
    assert math.isnan(got.items[40].discrimination)
    assert not got.items[40].suspected  # the same answer to both images says nothing against the key


def test_discrimination_and_evidence_hold_to_a_slow_count() -> None:
    answers = simulated((0.3, 0.5, 0.6, 0.8, 0.9, 0.5), 3)[:, :40]
    for place in range(40):
        others = np.delete(answers, place, axis=1)
        right, rest = answers[:, place] == RIGHT, (others == RIGHT).sum(1)
        got = discrimination(answers)[place]
        if right.all() or not right.any():
            assert math.isnan(got)
        else:
            assert got == pytest.approx(np.corrcoef(right, rest)[0, 1])
        evidence = 0.0
        for cell, row in zip(answers[:, place], others, strict=True):
            weight = math.log(((row == RIGHT).sum() + 0.5) / ((row == EXCHANGED).sum() + 0.5))
            evidence += {RIGHT: -weight, EXCHANGED: weight, OTHER: 0.0}[int(cell)]
        assert exchanged_evidence(answers)[place] == pytest.approx(evidence)


def test_exchanging_every_key_exchanges_nothing_between_pairs() -> None:
    answers = simulated(GOOD, 5)
    np.testing.assert_allclose(exchanged_evidence(-answers), exchanged_evidence(answers))  # the models are all wrong


def test_counts_are_those_of_the_answers_and_unreadable_ones_are_no_votes() -> None:
    (pair,) = made_pairs(1)
    wrong = answered(pair, (False, False))
    runs = {
        "right": [answered(pair, (True, True))],
        "exchanged": [wrong],
        "half": [answered(pair, (True, False))],
        "unreadable": [replace(wrong, first=(None, wrong.first[1]))],
    }
    (item,) = item_analysis(runs).items
    assert (item.models, item.right, item.exchanged, item.difficulty) == (4, 1, 1, 0.75)


def test_pairs_that_a_blind_model_solves_are_named() -> None:
    runs = runs_of(simulated(GOOD, 2)[:, :5])
    pairs = made_pairs(5)
    blind = [answered(pair, (place == 3, True)) for place, pair in enumerate(pairs)]
    assert item_analysis(runs, blind).solved_blind == (pairs[3].pair_id,)
    assert item_analysis(runs).solved_blind == ()
    with pytest.raises(InputError, match="the blind model lacks 1 of 5 pairs"):
        item_analysis(runs, blind[:4])


def test_one_model_is_refused() -> None:
    with pytest.raises(InputError, match="two models at least, not of 1"):
        item_analysis({"only": []})
