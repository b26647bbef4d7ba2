"""Confidence intervals, tests and the agreement of labellings, for any measurement.

All intervals and p-values are two-sided. Trials that come in groups (the two images of a pair, the pairs of one image)
are not independent: pass the groups to `bootstrap_interval`, or their `effective_count` to `rate_of`
or `wilson_interval`.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
_FEW_VALUES = 32  # distinct values, up to which a bootstrap draws how often each occurs


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval; `interval` is None where too few trials allow none."""

    hits: int
    count: int
    interval: tuple[float, float] | None

    @property
    def share(self) -> float:
        """hits / count; nan without any."""
        return self.hits / self.count if self.count else float("nan")


def rate_of(hits: Sequence[bool] | NDArray[np.bool_], independent: float | None = None) -> Rate:
    """The share of trials that hit, with Wilson's interval; without any trial there is none.

    Trials that come in groups count as `independent` ones, such as their `effective_count`; by default as they are.
    """
    count, total = len(hits), int(np.sum(hits))
    trials = count if independent is None else independent
    return Rate(total, count, wilson_interval(total / count, trials) if count else None)


def wilson_interval(share: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion `share` seen among `count` trials (Wilson 1927).

    It keeps its coverage for few trials and near 0 and 1, where the normal interval does not. `count` may be the
    fractional `effective_count` of grouped trials; without any trial the interval is (0, 1).
    """
    if count <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)  # 1.96 for 95 %
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    # Rounding can put a limit a last bit outside of [0, 1].
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def difference_interval(
    one: tuple[float, float], other: tuple[float, float], level: float = 0.95
) -> tuple[float, float]:
    """The interval of the difference of two independent proportions, `one` minus `other`, each (share, count).

    It joins their two score intervals (Newcombe 1998, method 10), and keeps its coverage for few trials and near 0 and
    1. For proportions that rise and fall together it is too wide, never too narrow.
    """
    (share, count), (other_share, other_count) = one, other
    low, high = wilson_interval(share, count, level)
    other_low, other_high = wilson_interval(other_share, other_count, level)
    difference = share - other_share
    return (
        difference - math.hypot(share - low, other_high - other_share),
        difference + math.hypot(high - share, other_share - other_low),
    )


def binomial_test(successes: int, trials: int) -> float:
    """The two-sided p-value that a fair coin gives a split as unequal as `successes` of `trials` (exact).

    McNemar's exact test is this one on the pairs that only one of two models answers rightly. 1 without any trial.
    """
    fewer = min(successes, trials - successes)
    # Logarithms, because 2 ** trials overflows a float from 1,024 trials on.
    chosen = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in range(fewer + 1)]
    tail = sum(math.exp(term - trials * math.log(2)) for term in chosen)
    return min(1.0, 2 * tail)


def paired_interval(
    gained: NDArray[Any] | int, lost: NDArray[Any] | int, count: NDArray[Any] | int, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The score interval of the difference (gained - lost) / count of two proportions on the same trials (Tango 1998).

    `gained` and `lost` are the trials that only the second and only the first of the two has; arrays of one shape give
    arrays of limits. The interval excludes 0 where McNemar's test without correction rejects, so it excludes 0 wherever
    McNemar's exact test (`binomial_test`) does. Source: Statistics in Medicine 17:891; recommended by Fagerland,
    Lydersen and Laake 2014, Statistics in Medicine 33:2850. Raises ValueError for a count below 1.
    """
    # Tango's letters: b and c are the discordant trials, n all of them; one shape each.
    b, c, n = np.broadcast_arrays(*(np.asarray(given, np.float64) for given in (gained, lost, count)))
    if np.any(n < 1):
        raise ValueError("an interval of a difference needs at least one pair of trials")
    z = NormalDist().inv_cdf((1 + level) / 2)
    limits = []
    for sign in (1, -1):  # the statistic falls from the lowest difference to the highest
        low, high = (np.full(b.shape, -1.0), (b - c) / n) if sign > 0 else ((b - c) / n, np.ones(b.shape))
        for _ in range(50):  # halvings: to 1e-15
            middle = (low + high) / 2
            above = _excess(b, c, n, middle, sign * z)
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        limits.append((low + high) / 2)
    return limits[0], limits[1]


def _excess(b: Floats, c: Floats, n: Floats, difference: Floats, z: float) -> NDArray[np.bool_]:
    """Whether Tango's statistic of a supposed difference is above z, for arrays of one shape."""
    # The share of lost trials that is most likely under that difference: the positive root of a quadratic equation.
    slope = b + c - (2 * n - b + c) * difference
    root = np.sqrt(np.maximum(0, slope**2 + 8 * n * c * difference * (1 - difference)))
    share = np.maximum(0, slope + root) / (4 * n)
    variance = n * np.maximum(0, 2 * share + difference * (1 - difference))
    return np.asarray(b - c - n * difference > z * np.sqrt(variance), np.bool_)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, adjusted so that any false alarm among all of them is as rare as each says.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65. It holds however the tests depend on each other.
    """
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def student_test(t: float, freedom: float) -> float:
    """The p-value of a t statistic with `freedom` degrees of freedom, at least 1 (Student 1908)."""
    # With t = sqrt(freedom) tan(angle) the density is cos(angle) ** (freedom - 1): smooth, on a finite interval. It
    # falls at least as fast as a normal density with a variance of 1 / (freedom - 1). Integrated by Simpson's rule.
    start = math.atan(abs(t) / math.sqrt(freedom))
    angle = np.linspace(start, min(math.pi / 2, start + 12 / math.sqrt(freedom)), 1001)
    density = np.maximum(0.0, np.cos(angle)) ** (freedom - 1)
    area = float(density[0] + 4 * density[1:-1:2].sum() + 2 * density[2:-1:2].sum() + density[-1])
    return min(1.0, 2 * area * float(angle[1] - angle[0]) / 3 * _student_scale(freedom))


@lru_cache(maxsize=1 << 14)
def student_quantile(p: float, freedom: float) -> float:
    """The t statistic whose p-value is `p`: 2.776 for 0.05 and 4 degrees of freedom."""
    t = -NormalDist().inv_cdf(p / 2)  # lower than the solution, from where Newton's steps only rise
    while True:
        density = _student_scale(freedom) * float((1 + t * t / freedom) ** (-(freedom + 1) / 2)) / math.sqrt(freedom)
        step = (student_test(t, freedom) - p) / (2 * density)
        t += step
        if step < 1e-9 * t + 1e-12:
            return t


def _student_scale(freedom: float) -> float:
    return math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)


def effective_count(sizes: Floats | NDArray[np.integer[Any]]) -> float:
    """The smallest number of independent trials that groups of these sizes (G,) can stand for (Kish 1965)."""
    # (sum n)^2 / sum n^2: exact where the trials of a group always agree, and too low where they agree less.
    weights = np.asarray(sizes, np.float64)
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def bootstrap_interval(
    groups: Floats,
    statistic: Callable[[Floats], float] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of a statistic of independent groups, their mean if none is given (Efron 1979).

    Returns (low, high). `groups` (G, ...) has one row for each group. Whole groups are drawn, so the trials of a group
    may depend on each other. It needs dozens of groups: with fewer its intervals are too narrow. The same seed gives
    the same interval.
    Raises ValueError where there is no group.
    """
    if not len(groups):
        raise ValueError("a bootstrap needs at least one group")
    generator = np.random.default_rng(seed)
    drawn: Floats | list[float]
    values, counts = np.unique(groups.reshape(len(groups), -1).mean(1), return_counts=True)  # (V,) each, V <= G
    if statistic is None and len(values) <= _FEW_VALUES:
        # How often a resample has each value is multinomial: the same distribution, for 20,000 groups 500 times faster.
        drawn = generator.multinomial(len(groups), counts / len(groups), size=resamples) @ values / len(groups)
    else:
        of = statistic or (lambda rows: float(np.mean(rows)))
        drawn = [of(groups[generator.integers(len(groups), size=len(groups))]) for _ in range(resamples)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def normalised_mutual_information(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """How well two labellings of the same things agree, from 0 to 1, by the arithmetic mean of their entropies.

    1 where both have one label only. Source: Strehl and Ghosh 2002; scikit-learn's `normalized_mutual_info_score`.
    """
    joint = Counter(zip(one, other, strict=True))
    entropies = [_entropy(Counter(labels)) for labels in (one, other)]
    shared = sum(entropies) - _entropy(joint)
    return shared / (sum(entropies) / 2) if any(entropies) else 1.0


def _entropy(counts: Counter[Any]) -> float:
    total = sum(counts.values())
    return -sum(count / total * math.log(count / total) for count in counts.values())


def mann_whitney(one: Floats | NDArray[np.integer[Any]], other: Floats | NDArray[np.integer[Any]]) -> float:
    """The two-sided p-value that two independent samples (n,) and (m,) have one distribution (Mann and Whitney 1947).

    It asks whether values of one sample tend to be higher. The normal approximation with corrections for ties and for
    continuity, good from about 8 values each; 1 where a sample is empty or all values are equal.
    """
    count, other_count = len(one), len(other)
    total = count + other_count
    ranks, ties = mean_ranks(np.concatenate([one, other]))  # (n + m,), and one count for each distinct value
    distance = abs(float(ranks[:count].sum()) - count * (total + 1) / 2) - 0.5
    # sum(t^3 - t) / (N (N - 1)) is by how much ties narrow the ranks.
    narrowed = float((ties.astype(np.float64) ** 3 - ties).sum()) / max(1, total * (total - 1))
    variance = count * other_count / 12 * (total + 1 - narrowed)
    if variance <= 0 or distance <= 0:
        return 1.0
    return 2 * NormalDist().cdf(-distance / math.sqrt(variance))


def mean_ranks(values: Floats | NDArray[np.integer[Any]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The ranks from 1 of values (n,), equal values sharing their mean rank; and how many there are of each value."""
    _, inverse, ties = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(ties) - (ties - 1) / 2)[inverse], ties


def cohen_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """The agreement of two people's labels of the same things beyond chance: 1 is perfect, 0 is chance (Cohen 1960).

    nan for nothing labelled, and where both gave everything the same label: chance then explains all agreement.
    """
    count = len(one)
    firsts, others = Counter(one), Counter(other)
    agreed = sum(a == b for a, b in zip(one, other, strict=True))
    return _beyond_chance(agreed * count, sum(firsts[label] * others[label] for label in firsts), count * count)


def fleiss_kappa(items: Sequence[Counter[Any]]) -> float:
    """The same for any number of people (Fleiss 1971): each item has how many people gave it each label.

    Items may have different numbers of people; those with fewer than two say nothing. nan as for `cohen_kappa`.
    """
    rated = [item for item in items if item.total() > 1]
    ratings = sum(item.total() for item in rated)
    if not ratings:
        return math.nan
    # Of each item, the share of pairs of people who agree.
    agreement = [sum(n * (n - 1) for n in item.values()) / (item.total() * (item.total() - 1)) for item in rated]
    totals: Counter[Any] = sum(rated, Counter())
    # Sums that do not depend on the order of items and labels.
    chance = math.fsum((n / ratings) ** 2 for n in totals.values())
    return _beyond_chance(math.fsum(agreement) / len(rated), chance, 1.0)


def _beyond_chance(agreed: float, chance: float, whole: float) -> float:
    return (agreed - chance) / (whole - chance) if whole > chance else math.nan
