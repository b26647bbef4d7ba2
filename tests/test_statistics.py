"""Intervals hold what they promise: their published values, and the truth as often as they say."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from blindpairs.statistics import (
    binomial_test,
    bootstrap_interval,
    cohen_kappa,
    difference_interval,
    effective_count,
    fleiss_kappa,
    holm,
    mann_whitney,
    paired_interval,
    rate_of,
    student_quantile,
    student_test,
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


def test_rate_of_grouped_trials_has_the_interval_of_as_many_as_they_are_worth() -> None:
    trials = [True] * 6 + [False] * 4
    assert (rate_of(trials).hits, rate_of(trials).count, rate_of(trials).share) == (6, 10, 0.6)
    assert rate_of(trials).interval == wilson_interval(0.6, 10)
    assert rate_of(trials, 5).interval == wilson_interval(0.6, 5)
    assert rate_of([]).interval is None
    assert math.isnan(rate_of([]).share)


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


@pytest.mark.parametrize(("one", "other"), [(0.05, 0.05), (0.25, 0.5), (0.5, 0.55), (0.9, 0.97)])
def test_difference_interval_covers_the_difference_as_often_as_it_says(one: float, other: float) -> None:
    draw = np.random.default_rng(0)
    hits = zip(draw.binomial(144, one, 3000), draw.binomial(144, other, 3000), strict=True)
    intervals = [difference_interval((a / 144, 144), (b / 144, 144)) for a, b in hits]
    assert 0.93 <= np.mean([low <= one - other <= high for low, high in intervals]) <= 0.975


@pytest.mark.parametrize(("count", "lowest", "highest"), [(15, 0.90, 0.99), (135, 0.93, 0.97), (1000, 0.93, 0.97)])
def test_wilson_interval_covers_every_truth_as_often_as_it_says(count: int, lowest: float, highest: float) -> None:
    intervals = np.array([wilson_interval(hits / count, count) for hits in range(count + 1)])
    draw = np.random.default_rng(0)
    for truth in np.linspace(0.05, 0.95, 19):
        low, high = intervals[draw.binomial(count, truth, 100_000)].T
        assert lowest <= np.mean((low <= truth) & (truth <= high)) <= highest, truth


def paired_counts(count: int, truth: float, gain: float, shared: float, draws: int) -> NDArray[np.int64]:
    """Gained and lost trials of two models of accuracies truth and truth + gain: (2, draws)."""
    both = truth * (truth + gain) + shared * truth * (1 - truth - gain)
    draw = np.random.default_rng(0)
    return draw.multinomial(count, [truth + gain - both, truth - both, 1 - 2 * truth - gain + both], draws)[:, :2].T


@pytest.mark.parametrize(("count", "lowest", "highest"), [(15, 0.90, 1.0), (135, 0.93, 0.97), (1000, 0.93, 0.97)])
def test_paired_interval_covers_every_difference_as_often_as_it_says(count: int, lowest: float, highest: float) -> None:
    for truth in np.linspace(0.05, 0.95, 10):
        for gain in (0.0, 0.05, 0.2):
            for shared in (0.0, 0.5):
                if truth + gain < 1:
                    gained, lost = paired_counts(count, truth, gain, shared, 2500)
                    low, high = paired_interval(gained, lost, count)
                    assert lowest <= np.mean((low <= gain) & (gain <= high)) <= highest, (truth, gain, shared)


def test_paired_interval_has_its_published_value() -> None:
    # Fagerland, Lydersen and Laake 2014: airway hyper-responsiveness before and after a transplantation, n = 21
    assert np.array(paired_interval(1, 7, 21)) == pytest.approx([-0.517, -0.026], abs=5e-4)


@pytest.mark.parametrize(("gained", "lost", "count"), [(20, 6, 135), (13, 10, 135), (6, 0, 30), (0, 0, 10), (3, 2, 5)])
def test_paired_interval_ends_where_a_slow_score_test_begins_to_reject(gained: int, lost: int, count: int) -> None:
    def distance(difference: float) -> float:
        shares = np.linspace(max(0.0, -difference), (1 - difference) / 2, 400_001)[1:-1]  # of lost trials
        with np.errstate(divide="ignore"):
            likelihood = gained * np.log(shares + difference) + (count - gained - lost) * np.log1p(
                -2 * shares - difference
            )
        likely = shares[np.argmax(likelihood + lost * np.log(shares))]
        variance = count * (2 * likely + difference - difference**2)
        return abs(gained - lost - count * difference) / math.sqrt(variance)

    for limit in paired_interval(gained, lost, count):
        assert distance(float(limit)) == pytest.approx(1.959964, abs=2e-3)


def test_paired_interval_excludes_zero_wherever_the_exact_test_rejects() -> None:
    for discordant in range(1, 100):
        lost = np.arange(discordant // 2 + 1)
        p = np.array([binomial_test(int(one), discordant) for one in lost])
        for count in (discordant, 50 * discordant):
            low, _ = paired_interval(discordant - lost, lost, count)
            assert np.all(low[p < 0.05] > 0)


def test_paired_interval_mirrors_and_needs_a_trial() -> None:
    low, high = paired_interval(np.array([20, 6, 0]), np.array([6, 20, 0]), 135)
    assert low[0] == pytest.approx(-high[1])
    assert high[2] == pytest.approx(1.959964**2 / (135 + 1.959964**2))  # nothing differs
    with pytest.raises(ValueError, match="at least one pair"):
        paired_interval(0, 0, 0)


@pytest.mark.parametrize("truth", [0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95])
def test_clustered_bootstrap_of_135_pairs_covers_the_truth(truth: float) -> None:
    draw, inside = np.random.default_rng(0), []
    for seed in range(600):
        one, other = draw.random((2, 135)) < truth
        rows = np.stack([one, np.where(draw.random(135) < 0.5, one, other)], axis=1)  # half of the pairs agree
        low, high = bootstrap_interval(rows.astype(float), resamples=1000, seed=seed)
        inside.append(low <= truth <= high)
    assert 0.91 <= np.mean(inside) <= 0.98


def test_fast_bootstrap_of_a_mean_is_that_of_drawn_groups() -> None:
    rows = np.random.default_rng(3).integers(0, 2, (400, 2)).astype(float)
    fast = bootstrap_interval(rows, resamples=20_000)
    slow = bootstrap_interval(rows, lambda drawn: float(drawn.mean()), resamples=20_000)
    assert fast == pytest.approx(slow, abs=2e-3)
    many = np.random.default_rng(3).random(400)  # more values than the fast way counts
    assert bootstrap_interval(many) == bootstrap_interval(many, lambda drawn: float(drawn.mean()))


@pytest.mark.parametrize(
    ("freedom", "quantile"),  # of 95 %; any table of Student's distribution
    [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (30, 2.042), (120, 1.980), (1_000_000, 1.960)],
)
def test_student_quantile_has_its_published_value(freedom: int, quantile: float) -> None:
    assert student_quantile(0.05, freedom) == pytest.approx(quantile, abs=5e-4)


@pytest.mark.parametrize("p", [1e-9, 0.001, 0.5, 0.99])
def test_student_test_and_quantile_invert_each_other(p: float) -> None:
    for freedom in (1, 1.5, 3, 29, 800):
        assert student_test(student_quantile(p, freedom), freedom) == pytest.approx(p, rel=1e-5)
    assert student_test(0, 3) == pytest.approx(1)


def test_holm_raises_the_smallest_most_and_keeps_their_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm 1979, by hand
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("table", "kappa"),
    [  # Artstein and Poesio, Computational Linguistics 34 (2008) 555, tables 1 and 4
        ([[20, 20], [10, 50]], 0.348),
        ([[46, 0, 0], [6, 32, 6], [0, 0, 10]], 0.8013),
    ],
)
def test_cohens_kappa_is_that_of_published_tables(table: list[list[int]], kappa: float) -> None:
    counted = {(row, column): count for row, counts in enumerate(table) for column, count in enumerate(counts)}
    one, other = zip(*Counter(counted).elements(), strict=True)
    assert cohen_kappa(one, other) == pytest.approx(kappa, abs=5e-4)
    assert cohen_kappa(other, one) == pytest.approx(cohen_kappa(one, other))


def test_fleiss_kappa_is_that_of_a_published_table() -> None:
    # The example of Fleiss' kappa in Wikipedia: 14 raters, 10 subjects, 5 categories, 0.210.
    table = [
        *([0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]),
        *([7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]),
    ]
    items = [Counter(dict(enumerate(row))) for row in table]
    assert fleiss_kappa(items) == pytest.approx(0.20993070442195522, abs=1e-12)
    assert fleiss_kappa([*items, Counter({0: 1})]) == fleiss_kappa(items)  # one rater says nothing about agreement


def test_agreement_is_1_where_all_agree_and_0_or_less_where_nobody_does() -> None:
    assert cohen_kappa("aabb", "aabb") == fleiss_kappa([Counter("aaa"), Counter("bbb")]) == 1
    assert cohen_kappa("ab", "ba") == fleiss_kappa([Counter("ab"), Counter("ba")]) == -1
    for nothing in ([], [Counter("a")], [Counter("aa"), Counter("aaa")]):
        assert math.isnan(fleiss_kappa(nothing))
    assert math.isnan(cohen_kappa("", ""))
    assert math.isnan(cohen_kappa("aa", "aa"))
    with pytest.raises(ValueError, match="shorter"):
        cohen_kappa("ab", "a")
