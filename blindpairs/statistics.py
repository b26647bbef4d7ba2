"""Confidence intervals, two tests and the agreement of two labellings, for any measurement.

All intervals are two-sided. Trials that come in groups (the two images of a pair, the pairs of one image) are not
independent: pass the groups to `bootstrap_interval`, or their `effective_count` to `wilson_interval`.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


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


def effective_count(sizes: Floats | NDArray[np.integer[Any]]) -> float:
    """The smallest number of independent trials that groups of these sizes (G,) can stand for (Kish 1965)."""
    # (sum n)^2 / sum n^2: exact where the trials of a group always agree, and too low where they agree less.
    weights = np.asarray(sizes, np.float64)
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def bootstrap_interval(
    groups: Floats,
    statistic: Callable[[Floats], float] = lambda drawn: float(np.mean(drawn)),
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of a statistic of independent groups (Efron 1979): (low, high).

    `groups` (G, ...) has one row for each group. Whole groups are drawn, so the trials of a group may depend on each
    other. It needs dozens of groups: with fewer its intervals are too narrow. The same seed gives the same interval.
    Raises ValueError where there is no group.
    """
    if not len(groups):
        raise ValueError("a bootstrap needs at least one group")
    generator = np.random.default_rng(seed)
    drawn = [statistic(groups[generator.integers(len(groups), size=len(groups))]) for _ in range(resamples)]
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
    _, inverse, ties = np.unique(np.concatenate([one, other]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[inverse]  # equal values share their mean rank
    away = abs(float(ranks[:count].sum()) - count * (total + 1) / 2) - 0.5
    # sum(t^3 - t) / (N (N - 1)) is by how much ties narrow the ranks.
    narrowed = float((ties.astype(np.float64) ** 3 - ties).sum()) / max(1, total * (total - 1))
    variance = count * other_count / 12 * (total + 1 - narrowed)
    if variance <= 0 or away <= 0:
        return 1.0
    return 2 * NormalDist().cdf(-away / math.sqrt(variance))
