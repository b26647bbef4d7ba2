"""Whether a vision-language model is weak where CLIP is: the correlation of their accuracies over visual patterns.

The paper reports Pearson's r over nine patterns (arXiv 2401.06209, section 3.3). Nine points determine it badly, and
the choice of CLIP decides it: with one model it runs from 0.32 to 0.88. So every coefficient comes with its interval,
an exact p-value, the number of patterns, and the name of the CLIP model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import InputError
from blindpairs.statistics import mean_ranks

MOST_EXACT = 9  # patterns, up to which all permutations are tried: 362,880
DRAWN = 100_000  # permutations beyond
_BLOCK = 1 << 15  # permutations at once: bounds memory


@dataclass(frozen=True)
class Coefficient:
    """A correlation from -1 to 1; nan with p = 1 where one of the two is the same for all patterns."""

    value: float
    interval: tuple[float, float] | None  # 95 %; None below four patterns, and where all lie on a line
    p: float  # the share of permutations with a correlation at least as strong, of either sign
    exact: bool  # of all permutations; else of drawn ones


@dataclass(frozen=True)
class Correlation:
    """How the accuracies of two models by pattern go together."""

    clip: str
    model: str
    patterns: tuple[str, ...]
    pearson: Coefficient
    spearman: Coefficient

    @property
    def sentence(self) -> str:
        """Both coefficients, in plain words."""
        both = f"Pearson r = {shown_coefficient(self.pearson)}; Spearman rho = {shown_coefficient(self.spearman)}"
        return f"{self.model} and {self.clip} over {len(self.patterns)} patterns: {both}"


def correlate(
    clip: Mapping[str, float], model: Mapping[str, float], names: tuple[str, str], seed: int = 0
) -> Correlation:
    """Two models' accuracies by pattern, in any unit; `names` are those of the CLIP model and of the other.

    InputError where the patterns are not the same, or fewer than three. `seed` is for more than nine patterns.
    """
    if set(clip) != set(model):
        only = sorted(set(clip) ^ set(model))
        raise InputError(
            f"{names[0]} and {names[1]} have no common patterns: {', '.join(only[:3])} is of one of them only"
        )
    if len(clip) < 3:
        raise InputError(f"a correlation needs three patterns at least, not {len(clip)}")
    patterns = tuple(clip)
    x, y = (np.array([one[pattern] for pattern in patterns], np.float64) for one in (clip, model))
    x_ranks, y_ranks = mean_ranks(x)[0], mean_ranks(y)[0]
    # Fisher's z has the variance 1 / (n - 3) for r, and (1 + rho^2 / 2) / (n - 3) for rho (Bonett and Wright 2000,
    # Psychometrika 65:23).
    rho = pearson(x_ranks, y_ranks)
    variance = 1 / max(1, len(patterns) - 3)
    return Correlation(
        *names,
        patterns,
        _coefficient(x, y, variance, seed),
        _coefficient(x_ranks, y_ranks, variance * (1 + rho**2 / 2), seed),
    )


def pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Pearson's r of two arrays (n,); nan where one is constant."""
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    # Below this, what is left of a constant is rounding.
    return max(-1.0, min(1.0, float(x @ y) / scale)) if scale > 1e-12 else math.nan


def mean_accuracies(models: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over models of their accuracies by pattern, which the paper drew as the curve of CLIP."""
    return {pattern: sum(one[pattern] for one in models) / len(models) for pattern in models[0]}


def _coefficient(x: NDArray[np.float64], y: NDArray[np.float64], variance: float, seed: int) -> Coefficient:
    value, exact = pearson(x, y), len(x) <= MOST_EXACT
    if math.isnan(value):
        return Coefficient(value, None, 1.0, exact)
    interval = None
    if len(x) > 3 and abs(value) < 1 - 1e-12:
        reach = NormalDist().inv_cdf(0.975) * math.sqrt(variance)
        interval = math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach)
    return Coefficient(value, interval, permutation_p(x, y, seed), exact)


def permutation_p(x: NDArray[np.float64], y: NDArray[np.float64], seed: int = 0) -> float:
    """The share of permutations of y (n,) whose correlation with x is at least as far from 0.

    All permutations up to nine values. Beyond, DRAWN ones by the seed, with the observed order counted among them
    (Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9:39).
    """
    x, y = x - x.mean(), y - y.mean()
    least = abs(float(x @ y)) * (1 - 1e-9)  # equal ones must not be lost to rounding
    if len(x) <= MOST_EXACT:
        orders = _permutations(len(x))  # (n!, n)
        blocks = (orders[start : start + _BLOCK] for start in range(0, len(orders), _BLOCK))
        return sum(int((np.abs(y[block] @ x) >= least).sum()) for block in blocks) / len(orders)
    generator, hits = np.random.default_rng(seed), 1
    for start in range(0, DRAWN, _BLOCK):
        drawn = generator.permuted(np.tile(y, (min(_BLOCK, DRAWN - start), 1)), axis=1)  # (block, n)
        hits += int((np.abs(drawn @ x) >= least).sum())
    return hits / (DRAWN + 1)


@cache
def _permutations(count: int) -> NDArray[np.int8]:
    """All orders of 0 ... count - 1, (count!, count)."""
    if count == 1:
        return np.zeros((1, 1), np.int8)
    shorter = _permutations(count - 1)
    # The last number goes to each place in turn.
    return np.concatenate([np.insert(shorter, place, count - 1, axis=1) for place in range(count)])


def shown_coefficient(one: Coefficient) -> str:
    """`0.87 (0.48 to 0.97), p = 0.0045`."""
    if math.isnan(one.value):
        return "undefined, because one of the two is the same everywhere"
    interval = f" ({one.interval[0]:.2f} to {one.interval[1]:.2f})" if one.interval else ""
    return f"{one.value:.2f}{interval}, p = {one.p:.2g}"
