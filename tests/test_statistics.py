"""Intervals hold what they promise: their published values, and the truth as often as they say."""

import math
from fractions import Fraction

import numpy as np
import pytest

from blindpairs.statistics import (
    binomial_test,
    bootstrap_interval,
    difference_interval,
    effective_count,
    mann_whitney,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("share", "count", "interval"),
    [  # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3
        (81 / 263, 263, (0.2553, 0.3662)),
        (15 / 148, 148, (0.0624, 0.1605)),
        (0 / 20, 20, (0.0, 0.1611)),
        (1 / 29, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_interval_has_its_published_values(share: float, count: int, interval: tuple[float, float]) -> None:
    assert wilson_interval(share, count) == pytest.approx(interval, abs=5e-5)


def test_wilson_interval_without_trials_says_nothing() -> None:
    assert wilson_interval(float("nan"), 0) == (0.0, 1.0)


@pytest.mark.parametrize("truth", [0.05, 0.5, 0.95])
def test_wilson_interval_holds_the_truth_as_often_as_it_says(truth: float) -> None:
    drawn = np.random.default_rng(0).binomial(135, truth, 4000)
    inside = [low <= truth <= high for low, high in (wilson_interval(hits / 135, 135) for hits in drawn)]
    assert 0.93 <= np.mean(inside) <= 0.975


def test_wilson_interval_of_a_higher_level_contains_that_of_a_lower() -> None:
    low, high = wilson_interval(0.3, 40)
    lower, higher = wilson_interval(0.3, 40, level=0.99)
    assert lower < low < 0.3 < high < higher


def test_trials_in_equal_groups_count_as_many_as_there_are_groups() -> None:
    assert effective_count(np.full(7, 30)) == pytest.approx(7)
    assert effective_count(np.array([100, 1, 1])) < 1.1
    assert effective_count(np.zeros(3)) == 0


def test_bootstrap_of_groups_holds_the_truth_where_trials_within_a_group_agree() -> None:
    generator = np.random.default_rng(1)
    inside = []
    for seed in range(200):
        groups = generator.binomial(1, 0.4, 150)[:, None].repeat(4, 1).astype(float)  # four answers that are one
        low, high = bootstrap_interval(groups, resamples=400, seed=seed)
        inside.append(low <= 0.4 <= high)
    assert 0.88 <= np.mean(inside) <= 0.99


def test_bootstrap_takes_any_statistic_and_repeats_itself() -> None:
    ratios = np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 4.0], [1.0, 1.0]] * 10)
    low, high = bootstrap_interval(ratios, lambda drawn: float(drawn[:, 0].sum() / drawn[:, 1].sum()))
    assert low < 7 / 9 < high
    assert (low, high) == bootstrap_interval(ratios, lambda drawn: float(drawn[:, 0].sum() / drawn[:, 1].sum()))
    with pytest.raises(ValueError, match="at least one group"):
        bootstrap_interval(np.empty((0, 2)))


def test_mann_whitney_has_its_published_value() -> None:
    # Ages at diagnosis of men and women, the example of scipy.stats.mannwhitneyu, method="asymptotic"
    men, women = np.array([19, 22, 16, 29, 24]), np.array([20, 11, 17, 12])
    assert mann_whitney(men, women) == pytest.approx(0.11134688653314041, rel=1e-9)
    assert mann_whitney(women, men) == pytest.approx(0.11134688653314041, rel=1e-9)


def test_mann_whitney_with_ties_agrees_with_permutations() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.integers(0, 4, 40), generator.integers(0, 4, 60) + (generator.random(60) < 0.3)
    both = np.concatenate([one, other])
    ranks = (np.searchsorted(np.sort(both), both, "left") + np.searchsorted(np.sort(both), both, "right")) / 2
    away = abs(ranks[:40].mean() - ranks.mean())
    drawn = np.array([abs(generator.permutation(ranks)[:40].mean() - ranks.mean()) for _ in range(20_000)])
    assert mann_whitney(one, other) == pytest.approx(np.mean(drawn >= away - 1e-9), abs=0.01)


def test_mann_whitney_of_nothing_to_tell_apart_is_one() -> None:
    assert mann_whitney(np.ones(5), np.ones(7)) == 1.0
    assert mann_whitney(np.empty(0), np.ones(7)) == 1.0


@pytest.mark.parametrize(("trials", "fewer"), [(0, 0), (1, 0), (8, 1), (8, 4), (31, 7), (60, 20)])
def test_binomial_test_is_the_exact_sum_of_both_tails(trials: int, fewer: int) -> None:
    exact = min(Fraction(1), 2 * sum(Fraction(math.comb(trials, k), 2**trials) for k in range(fewer + 1)))
    assert binomial_test(fewer, trials) == pytest.approx(float(exact), rel=1e-12)
    assert binomial_test(trials - fewer, trials) == binomial_test(fewer, trials)


def test_binomial_test_of_many_trials_neither_overflows_nor_vanishes() -> None:
    assert binomial_test(10_000, 20_000) == 1.0
    assert 0.15 < binomial_test(9_900, 20_000) < 0.17  # 1.41 standard deviations


# Newcombe 1998, Statistics in Medicine 17, table II, method 10.
@pytest.mark.parametrize(
    ("one", "other", "interval"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0000)),
    ],
)
def test_difference_interval_is_the_published_one(
    one: tuple[int, int], other: tuple[int, int], interval: tuple[float, float]
) -> None:
    got = difference_interval((one[0] / one[1], one[1]), (other[0] / other[1], other[1]))
    assert got == pytest.approx(interval, abs=5e-5)
    low, high = difference_interval((other[0] / other[1], other[1]), (one[0] / one[1], one[1]))
    assert (-high, -low) == pytest.approx(got)  # exchanged proportions give the mirrored interval
