"""Two models on the same pairs: what the tables say, how often noise passes for a gain, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from answered_pairs import made_pairs, run_of
from numpy.typing import NDArray

from blindpairs.errors import InputError
from blindpairs.evaluate.comparison import (
    compare,
    compare_arrays,
    compare_by_pattern,
    compare_sides,
    compare_sides_arrays,
    matched,
)
from blindpairs.statistics import binomial_test

Rights = NDArray[np.bool_]


def table(both: int, gained: int, lost: int, neither: int) -> tuple[Rights, Rights]:
    """Two models with these counts of pairs."""
    a = [True] * both + [False] * gained + [True] * lost + [False] * neither
    b = [True] * both + [True] * gained + [False] * lost + [False] * neither
    return np.array(a), np.array(b)


def test_comparison_counts_what_only_one_is_right_about() -> None:
    got = compare_arrays(*table(30, 20, 6, 79), ("base", "tuned"))
    assert (got.pairs, got.right, got.gained, got.lost) == (135, (36, 50), 20, 6)
    assert (got.difference, got.discordance) == (14 / 135, 26 / 135)
    assert got.p == got.adjusted_p == binomial_test(6, 26)
    assert got.interval == pytest.approx((0.03189, 0.18105), abs=5e-5)
    assert got.sentence == "tuned is better by 10.4 points (3.2 to 18.1)"


def test_sentence_names_the_better_one_whichever_side_it_is_on() -> None:
    assert compare_arrays(*table(30, 6, 20, 79), ("base", "tuned")).sentence == (
        "base is better by 10.4 points (3.2 to 18.1)"
    )


def test_sentence_of_noise_says_how_large_a_gain_would_be_told() -> None:
    assert compare_arrays(*table(30, 13, 10, 82)).sentence == (
        "cannot be told from noise: B is ahead by 2.2 points (-5.0 to 9.6), p = 0.68; "
        "135 pairs detect gains from 10.2 points"
    )
    assert compare_arrays(*table(3, 0, 0, 2)).sentence == (
        "cannot be told from noise: A and B are level (-43.4 to 43.4), p = 1; 5 pairs detect no gain"
    )


def test_order_of_the_pairs_changes_nothing() -> None:
    pairs = made_pairs(60)
    draw = np.random.default_rng(0)
    a, b = draw.random(60) < 0.4, draw.random(60) < 0.5
    shuffled = [run_of(pairs, b)[place] for place in draw.permutation(60)]
    assert compare(run_of(pairs, a), shuffled) == compare_arrays(a, b)


def test_missing_pairs_are_an_error_that_names_them_on_either_side() -> None:
    whole = run_of(made_pairs(12), np.ones(12, np.bool_))
    wanted = r"tuned lacks 2 of 12 pairs, such as 0000000000000003, 0000000000000007: answer them"
    with pytest.raises(InputError, match=wanted):
        compare(whole, [one for place, one in enumerate(whole) if place not in (3, 7)], ("base", "tuned"))
    with pytest.raises(InputError, match=r"^base lacks 12 of 12 pairs"):
        compare([], whole, ("base", "tuned"))
    with pytest.raises(InputError, match="no pair"):
        compare([], [])


def test_two_sides_of_one_name_are_refused() -> None:
    run = run_of(made_pairs(4), np.ones(4, np.bool_))
    with pytest.raises(InputError, match="both sides are called llava: give them two names"):
        compare(run, run, ("llava", "llava"))
    with pytest.raises(InputError, match="both sides are called llava"):
        compare_sides([run, run], [run], ("llava", "llava"))


def test_pair_that_stands_twice_or_was_revised_is_refused() -> None:
    whole = run_of(made_pairs(4), np.ones(4, np.bool_))
    with pytest.raises(InputError, match="B has pair 0000000000000002 more than once"):
        compare(whole, [*whole, whole[2]])
    question = whole[1].pair.question
    assert question
    other = replace(whole[1], pair=replace(whole[1].pair, question=replace(question, answers=(0, 1))))
    with pytest.raises(InputError, match="two revisions of pair 0000000000000001"):
        compare(whole, [whole[0], other, *whole[2:]])
    equal = [replace(one, pair=replace(one.pair)) for one in whole]  # the same content, read again
    assert matched({"A": whole, "B": equal}) == [whole, equal]


def test_patterns_are_compared_apart_with_their_p_values_corrected() -> None:
    pairs = made_pairs(90)
    a, b = np.zeros(90, np.bool_), np.zeros(90, np.bool_)
    b[0:18:3] = True  # six pairs of the first pattern
    got = compare_by_pattern(run_of(pairs, a), run_of(pairs, b))
    found = {name: (one.pairs, one.gained, one.p, one.adjusted_p, one.significant) for name, one in got.items()}
    assert found == {
        "Text": (30, 6, pytest.approx(2 / 64), pytest.approx(6 / 64), False),
        "Color and Appearance": (30, 0, 1.0, 1.0, False),
        "State and Condition": (30, 0, 1.0, 1.0, False),
    }
    assert "p = 0.031, 0.094 among all patterns" in got["Text"].sentence


def test_checkpoints_that_differ_by_noise_alone_cannot_be_told_apart() -> None:
    told = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        chance = 1 / (1 + np.exp(-draw.normal(-0.6, 1.5, 135)))  # of each pair, for both
        told += compare_arrays(draw.random(135) < chance, draw.random(135) < chance).significant
    assert told <= 5


@pytest.mark.parametrize(("pairs", "discordance"), [(15, 0.5), (135, 0.05), (135, 0.2), (135, 0.5), (1000, 0.2)])
def test_exact_test_gives_at_most_five_percent_of_false_alarms(pairs: int, discordance: float) -> None:
    draw = np.random.default_rng(0)
    counts = draw.binomial(pairs, discordance, 50_000)
    gained = draw.binomial(counts, 0.5)
    fewer = np.minimum(gained, counts - gained)
    splits, times = np.unique(np.stack([fewer, counts]), axis=1, return_counts=True)
    alarms = [binomial_test(int(hits), int(count)) < 0.05 for hits, count in splits.T]
    assert times @ alarms / 50_000 <= 0.05


World = tuple[int, int, int, float, float, float]
# Seeds a side, pairs, and how much pairs, their answers to a side's recipe, and seeds vary (in log odds).
WORLDS: list[World] = [
    (3, 3, 135, 1.5, 0.0, 0.0),  # single answers alone vary
    (3, 3, 135, 1.5, 0.7, 0.0),  # pairs react to the recipe
    (3, 3, 135, 1.5, 0.0, 0.3),  # seeds vary most
    (2, 2, 135, 1.5, 0.3, 0.2),
    (1, 3, 135, 1.5, 0.3, 0.2),
    (5, 5, 1000, 2.0, 0.3, 0.15),
]


def drawn_sides(world: World, gain: float, seed: int) -> tuple[Rights, Rights]:
    """Two sides of runs; the second is better by `gain` in log odds."""
    one, other, pairs, between_pairs, reaction, between_seeds = world
    draw = np.random.default_rng(seed)
    base = draw.normal(-0.6, between_pairs, pairs)
    sides = []
    for count, shift in ((one, 0.0), (other, gain)):
        odds = base + shift + draw.normal(0, reaction, pairs) + draw.normal(0, between_seeds, (count, 1))
        sides.append(draw.random((count, pairs)) < 1 / (1 + np.exp(-odds)))
    return sides[0], sides[1]


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_sides_of_equal_recipes_are_told_apart_in_five_percent_at_most(
    world: World,
) -> None:
    told = [compare_sides_arrays(*drawn_sides(world, 0.0, seed)).significant for seed in range(200)]
    assert sum(told) <= 18  # 10 expected at 5 %, and 18 exceeded by chance once in 100 times


def test_sides_with_a_planted_gain_are_told_apart() -> None:
    sides = [compare_sides_arrays(*drawn_sides(WORLDS[0], 1.0, seed)) for seed in range(50)]
    assert sum(one.significant and one.difference > 0 for one in sides) >= 45


def test_p_value_of_sides_agrees_with_their_interval() -> None:
    for seed in range(60):
        got = compare_sides_arrays(*drawn_sides(WORLDS[3], 0.4, seed))
        assert got.significant == (got.p < 0.05) or abs(got.p - 0.05) < 5e-4


def test_sides_report_runs_spread_and_a_sentence() -> None:
    pairs = made_pairs(30)
    rights = np.arange(30)[None] < np.array([10, 12, 14, 11, 12, 13])[:, None]
    runs = [run_of(pairs, right) for right in rights]
    got = compare_sides(runs[:3], runs[3:], ("base", "tuned"))
    assert (got.pairs, got.runs) == (30, (3, 3))
    assert got.accuracies[0] == pytest.approx((10 / 30, 12 / 30, 14 / 30))
    assert got.accuracies[1] == pytest.approx((11 / 30, 12 / 30, 13 / 30))
    assert got.spread == pytest.approx(((8 + 2) / 4) ** 0.5 / 30)
    assert got.difference == pytest.approx(0)
    assert got.sentence.startswith("cannot be told from noise: ")
    assert got.sentence.endswith("seeds of a side differ by 5.3 points (standard deviation)")


def test_interval_of_few_seeds_holds_possible_differences_alone() -> None:
    seeds = np.arange(6)[None] < np.array([1, 5])[:, None]
    got = compare_sides_arrays(seeds, np.zeros((1, 6), np.bool_))
    assert got.interval == (-1.0, 1.0)  # two seeds that differ by 67 points say nothing about a third
    assert not got.significant


def test_runs_without_any_variance_fall_back_to_the_number_of_pairs() -> None:
    none, everything = np.zeros((2, 12), np.bool_), np.ones((3, 12), np.bool_)
    got = compare_sides_arrays(none, everything)
    one = compare_arrays(none[0], everything[0])
    assert (got.interval, got.p, got.significant) == (one.interval, one.p, True)
    assert not compare_sides_arrays(none, none).significant


def test_one_run_a_side_is_refused_with_what_to_do() -> None:
    run = run_of(made_pairs(4), np.ones(4, np.bool_))
    with pytest.raises(InputError, match="two runs on one side at least"):
        compare_sides([run], [run])
    with pytest.raises(InputError, match="B, run 2 lacks 1 of 4 pairs"):
        compare_sides([run], [run, run[:3]])
