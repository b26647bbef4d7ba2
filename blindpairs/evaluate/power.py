"""How many pairs detect a gain, and which gain a number of pairs detects: the power of McNemar's exact test.

Only the pairs that one of two models is right about say anything about which is better. Their share is the discordance;
with it the power follows exactly: over the number of such pairs and over how they split. The usual normal formula
(Connor 1987, Biometrics 43:207) promises too much, because the exact test is stricter than its approximation
(tests/evaluate/test_power.py).
"""

import math

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import ConfigError

LEVEL = 0.05  # of significance: p-values below it are told from noise
POWER = 0.8  # the usual one
_COUNTS = 400  # numbers of discordant pairs that stand for all likely ones
_MOST = 1 << 20  # pairs


def power(pairs: int, gain: float, discordance: float, level: float = LEVEL) -> float:
    """The power: the probability that McNemar's exact test on `pairs` pairs detects a true gain in pair accuracy.

    `gain` is of the whole, 0.05 for 5 points; `discordance` is the share of pairs that only one model is right about.
    Raises ConfigError unless 0 <= gain <= discordance <= 1.
    """
    if not 0 <= gain <= discordance <= 1:
        raise ConfigError(
            f"a gain of {gain} needs a discordance from {gain} to 1, not {discordance}: "
            "no gain is larger than the share of pairs that only one model is right about"
        )
    if not pairs or not discordance:
        return 0.0
    middle, spread = pairs * discordance, math.sqrt(pairs * discordance * (1 - discordance))
    # Beyond 8 standard deviations the probability is below 1e-14.
    lowest, highest = max(0, math.floor(middle - 8 * spread)), min(pairs, math.ceil(middle + 8 * spread))
    counts = np.unique(np.linspace(lowest, highest, _COUNTS).astype(np.int64))  # (M,) discordant pairs
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, pairs + 1)))])  # logarithms of factorials
    weights = _binomial(counts, np.full(len(counts), pairs), discordance, logs)
    rejected = _rejected(counts, (1 + gain / discordance) / 2, level, logs)
    return float(weights @ rejected / weights.sum())


def pairs_needed(gain: float, discordance: float, wanted: float = POWER, level: float = LEVEL) -> int:
    """The number of pairs that detects a gain with the wanted power; ConfigError where none does.

    Power rises with the number of pairs but for steps of a fraction of a point, and the first to reach it is returned
    to within them.
    """
    if gain <= 0:
        raise ConfigError(f"no number of pairs detects a gain of {100 * gain:g} points: give one above 0")
    low, high = 0, 1
    while power(high, gain, discordance, level) < wanted:
        low, high = high, 2 * high
        if high > _MOST:
            raise ConfigError(
                f"more than {_MOST:,} pairs would be needed for a gain of {100 * gain:g} points: look for a larger one"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, gain, discordance, level) >= wanted else (middle, high)
    return high


def detectable_gain(pairs: int, discordance: float, wanted: float = POWER, level: float = LEVEL) -> float | None:
    """The smallest gain that `pairs` pairs detect with the wanted power, to 0.01 points; None where there is none."""
    low, high = 0.0, discordance
    if power(pairs, high, discordance, level) < wanted:
        return None
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power(pairs, middle, discordance, level) >= wanted else (middle, high)
    return high


def _rejected(counts: NDArray[np.int64], share: float, level: float, logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """For numbers of discordant pairs (M,), the probability that the test rejects, if `share` of them are gains."""
    # Only counts within 8 standard deviations matter: windows (M, W) rather than every split.
    reach = 4 * math.sqrt(counts[-1]) + 1
    offsets = np.arange(math.ceil(reach))
    fewer = (counts // 2)[:, None] - offsets[::-1]  # (M, W), ascending
    tails = np.cumsum(_binomial(fewer, counts[:, None], 0.5, logs), axis=1)
    rejects = (2 * tails < level) & (fewer >= 0)
    # (M, 1): the most equal split that the test rejects.
    critical = np.where(rejects.any(1), np.where(rejects, fewer, -1).max(1), -1)[:, None]
    around = np.arange(-math.ceil(reach), math.ceil(reach) + 1)
    gains = np.floor(counts * share).astype(np.int64)[:, None] + around  # (M, 2W + 1)
    chances = _binomial(gains, counts[:, None], share, logs)
    outside = (gains <= critical) | (gains >= counts[:, None] - critical)
    return np.asarray((chances * outside).sum(1), np.float64)


def _binomial(
    hits: NDArray[np.int64], trials: NDArray[np.int64], share: float, logs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The probability of `hits` of `trials`; 0 for impossible ones."""
    possible = (hits >= 0) & (hits <= trials)
    total = np.where(possible, trials, 0)
    hits = np.where(possible, hits, 0)
    misses = total - hits
    if share in (0.0, 1.0):  # no logarithm: everything or nothing hits
        return np.where(possible & (hits == share * total), 1.0, 0.0)
    chosen = logs[total] - logs[hits] - logs[misses]
    return np.where(possible, np.exp(chosen + hits * math.log(share) + misses * math.log1p(-share)), 0.0)
