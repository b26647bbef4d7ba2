"""Whether one model is better than another, on the same pairs: a difference with its interval, a test, and a sentence.

Two models are compared pair by pair, because two accuracies with overlapping intervals can differ beyond doubt on the
same pairs, and the other way round. Compared are pairs of which both images are right, by the first question.

* `compare`: one run a side. McNemar's exact test, which has at most 5 % false alarms at any number of pairs
  (McNemar 1947, Psychometrika 12:153), and Tango's score interval, which excludes 0 wherever that test rejects.
* `compare_by_pattern`: the same within each pattern, with Holm's correction, because nine tests are nine chances.
* `compare_sides`: several seeds a side. Seeds and pairs are both samples (Clark 1973, Journal of Verbal Learning and
  Verbal Behavior 12:335, on why both must count), so the interval joins two margins by the sum of their squares: that
  of a t test over seeds and that of a paired t test over pairs (MOVER: Zou and Donner 2008, Statistics in Medicine
  27:1693). Two sides are told apart where it excludes 0: 1 to 5 % of false alarms in simulations of 1 to 5 seeds,
  whether seeds, pairs or single answers vary most.

Nothing is matched by position: a pair is found by its id, and a pair that one side lacks is an error that names it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import InputError
from blindpairs.evaluate.power import LEVEL, detectable_gain
from blindpairs.evaluate.scores import PairOutcome
from blindpairs.statistics import binomial_test, holm, paired_interval, student_quantile

T = TypeVar("T")
Run = Sequence[PairOutcome]
NAMES = ("A", "B")


@dataclass(frozen=True)
class Comparison:
    """Two models on the same pairs; differences are those of B from A."""

    names: tuple[str, str]
    pairs: int
    right: tuple[int, int]  # pairs that A and B are right about
    gained: int  # pairs that only B is right about
    lost: int  # pairs that only A is right about
    interval: tuple[float, float]  # 95 %, of the difference
    p: float  # of McNemar's exact test
    adjusted_p: float  # Holm's, where several patterns are tested; else the same

    @property
    def difference(self) -> float:
        """Of the pair accuracies, from -1 to 1."""
        return (self.gained - self.lost) / self.pairs

    @property
    def discordance(self) -> float:
        """The share of pairs that only one of the two is right about: what `power` asks for."""
        return (self.gained + self.lost) / self.pairs

    @property
    def significant(self) -> bool:
        """Whether the two can be told apart: whether the test rejects that they are equally good."""
        return self.adjusted_p < LEVEL

    @property
    def sentence(self) -> str:
        """What follows, in plain words."""
        if self.significant:
            return _better(self.names, self.difference, self.interval)
        least = detectable_gain(self.pairs, self.discordance)
        reach = f"{self.pairs:,} pairs detect " + (f"gains from {100 * least:.1f} points" if least else "no gain")
        corrected = "" if self.adjusted_p == self.p else f", {self.adjusted_p:.2g} among all patterns"
        return f"{_ahead(self.names, self.difference, self.interval)}, p = {self.p:.2g}{corrected}; {reach}"


@dataclass(frozen=True)
class SidesComparison:
    """Two sides of one or more runs each, such as two recipes with three seeds each, on the same pairs."""

    names: tuple[str, str]
    pairs: int
    runs: tuple[int, int]
    accuracies: tuple[tuple[float, ...], tuple[float, ...]]  # the pair accuracy of each run
    spread: float  # the standard deviation of pair accuracy between the seeds of a side, pooled over both
    difference: float  # of the mean pair accuracies
    interval: tuple[float, float]  # 95 %
    p: float  # at which the interval would touch 0

    @property
    def significant(self) -> bool:
        """Whether the two sides can be told apart."""
        return not self.interval[0] <= 0 <= self.interval[1]

    @property
    def sentence(self) -> str:
        """What follows, in plain words."""
        if self.significant:
            return _better(self.names, self.difference, self.interval)
        seeds = f"seeds of a side differ by {100 * self.spread:.1f} points (standard deviation)"
        return f"{_ahead(self.names, self.difference, self.interval)}, p = {self.p:.2g}; {seeds}"


def compare(a: Run, b: Run, names: tuple[str, str] = NAMES) -> Comparison:
    """Two runs on the same pairs. InputError names the pairs that one of them lacks."""
    rights = _rights(matched(_named(names, a, b)))
    return compare_arrays(rights[0], rights[1], names)


def compare_arrays(a: NDArray[np.bool_], b: NDArray[np.bool_], names: tuple[str, str] = NAMES) -> Comparison:
    """The same from which pairs (P,) each is right about, in one order. InputError without any pair."""
    if not len(a):
        raise InputError("there is no pair to compare models on")
    gained, lost = int(np.sum(b & ~a)), int(np.sum(a & ~b))
    low, high = paired_interval(gained, lost, len(a))
    p = binomial_test(lost, gained + lost)
    return Comparison(
        names=names,
        pairs=len(a),
        right=(int(a.sum()), int(b.sum())),
        gained=gained,
        lost=lost,
        interval=(float(low), float(high)),
        p=p,
        adjusted_p=p,
    )


def compare_by_pattern(a: Run, b: Run, names: tuple[str, str] = NAMES) -> dict[str, Comparison]:
    """Two runs within each pattern; a pair of two patterns counts in both. Told apart is by adjusted p."""
    runs = matched(_named(names, a, b))
    rights = _rights(runs)
    return compare_arrays_by_pattern(rights[0], rights[1], [one.pair.patterns for one in runs[0]], names)


def compare_arrays_by_pattern(
    a: NDArray[np.bool_], b: NDArray[np.bool_], patterns: Sequence[Sequence[str]], names: tuple[str, str] = NAMES
) -> dict[str, Comparison]:
    """The same from which pairs (P,) each is right about, and the patterns of each pair."""
    indices: dict[str, list[int]] = {}  # pattern -> its pairs, as places in both arrays
    for index, pair_patterns in enumerate(patterns):
        for pattern in pair_patterns:
            indices.setdefault(pattern, []).append(index)
    comparisons = {pattern: compare_arrays(a[chosen], b[chosen], names) for pattern, chosen in indices.items()}
    adjusted = holm([comparison.p for comparison in comparisons.values()])
    return {
        pattern: replace(comparison, adjusted_p=p)
        for (pattern, comparison), p in zip(comparisons.items(), adjusted, strict=True)
    }


def compare_sides(a: Sequence[Run], b: Sequence[Run], names: tuple[str, str] = NAMES) -> SidesComparison:
    """Two sides of several runs, such as seeds. InputError where pairs are missing, or each side has one run only."""
    sides = _named(names, a, b).items()
    labelled = {f"{name}, run {place}": run for name, runs in sides for place, run in enumerate(runs, 1)}
    rights = _rights(matched(labelled))
    return compare_sides_arrays(rights[: len(a)], rights[len(a) :], names)


def compare_sides_arrays(a: NDArray[np.bool_], b: NDArray[np.bool_], names: tuple[str, str] = NAMES) -> SidesComparison:
    """The same from which pairs each run is right about: (S, P) and (T, P).

    Both sides are taken to have one spread between seeds, so a side with a single run borrows the other's.
    """
    if min(len(a), len(b)) < 1 or len(a) + len(b) < 3 or a.shape[1] < 2:
        raise InputError("comparing sides needs two runs on one side at least, and two pairs: compare single runs")
    sides, pairs = [a.astype(np.float64), b.astype(np.float64)], a.shape[1]  # (S, P) and (T, P)
    means = [side.mean(1) for side in sides]  # (S,) and (T,): the pair accuracy of each run
    difference = float(means[1].mean() - means[0].mean())
    freedom, share = len(a) + len(b) - 2, 1 / len(a) + 1 / len(b)  # a difference of means has `share` of the variance
    spread = sum(float(((one - one.mean()) ** 2).sum()) for one in means) / freedom  # a variance
    chance = sum(float((_residuals(side) ** 2).sum()) for side in sides) / (freedom * (pairs - 1))
    between_pairs = float((sides[1].mean(0) - sides[0].mean(0)).var(ddof=1))
    errors = _Errors(spread * share, freedom, between_pairs / pairs, pairs - 1, chance * share / pairs)
    margin = errors.margin(LEVEL)
    # Few seeds that differ much give a margin beyond every possible difference.
    interval, p = (max(-1.0, difference - margin), min(1.0, difference + margin)), errors.p_value(abs(difference))
    if not margin:  # the runs of a side are one, and all pairs go one way
        one = compare_arrays(a[0], b[0])
        interval, p = one.interval, one.p
    return SidesComparison(
        names=names,
        pairs=pairs,
        runs=(len(a), len(b)),
        accuracies=(tuple(means[0].tolist()), tuple(means[1].tolist())),
        spread=math.sqrt(spread),
        difference=difference,
        interval=interval,
        p=p,
    )


@dataclass(frozen=True)
class _Errors:
    """The squared errors of a difference of means that seeds and pairs cause, with their degrees of freedom."""

    seeds: float
    seeds_freedom: int
    pairs: float
    pairs_freedom: int
    chance: float  # in single answers: in the errors of seeds and of pairs alike

    def margin(self, p: float) -> float:
        """How far a difference is from one that gives this p-value."""
        by_seed, by_pair = student_quantile(p, self.seeds_freedom), student_quantile(p, self.pairs_freedom)
        # Chance counts once. But a few seeds may by luck agree: never less than what the paired test over pairs says.
        both = self.seeds * by_seed**2 + max(0.0, self.pairs - self.chance) * by_pair**2
        return math.sqrt(max(both, self.pairs * by_pair**2))

    def p_value(self, difference: float) -> float:
        """At which level the margin equals the difference, to two digits; 1e-9 for less."""
        low, high = math.log(1e-9), 0.0
        while high - low > 5e-3:
            middle = (low + high) / 2
            low, high = (low, middle) if self.margin(math.exp(middle)) <= difference else (middle, high)
        return math.exp(high)


def matched(runs: Mapping[str, Run]) -> list[list[PairOutcome]]:
    """Runs by name, each in the order of the first.

    InputError names the pairs that a run lacks, has twice, or answered with another content.
    """
    by_id = {name: {one.pair.pair_id: one for one in run} for name, run in runs.items()}
    for name, run in runs.items():
        if len(by_id[name]) < len(run):
            twice = Counter(one.pair.pair_id for one in run).most_common(1)[0][0]
            raise InputError(f"{name} has pair {twice} more than once: give each pair one outcome")
    everything = list(dict.fromkeys(pair_id for run in by_id.values() for pair_id in run))
    for name, found in by_id.items():
        if missing := [pair_id for pair_id in everything if pair_id not in found]:
            raise InputError(
                f"{name} lacks {len(missing):,} of {len(everything):,} pairs, such as {', '.join(missing[:3])}: "
                "answer them, or compare on the pairs that all have"
            )
    (first, reference), *others = by_id.items()
    for name, found in others:
        for pair_id, one in reference.items():
            if one.pair is not found[pair_id].pair and one.pair.revision != found[pair_id].pair.revision:
                raise InputError(
                    f"{first} and {name} answered two revisions of pair {pair_id}: score both on the same benchmark"
                )
    return [[found[pair_id] for pair_id in reference] for found in by_id.values()]


def _named(names: tuple[str, str], a: T, b: T) -> dict[str, T]:
    if names[0] == names[1]:
        raise InputError(f"both sides are called {names[0]}: give them two names, or nobody knows which is better")
    return {names[0]: a, names[1]: b}


def _rights(runs: Sequence[Run]) -> NDArray[np.bool_]:
    return np.array([[one.pair_right for one in run] for run in runs], np.bool_)  # (R, P)


def _residuals(side: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, P) -> (S, P): what neither the seed nor the pair explains."""
    return np.asarray(side - side.mean(1, keepdims=True) - side.mean(0) + side.mean(), np.float64)


def _better(names: tuple[str, str], difference: float, interval: tuple[float, float]) -> str:
    better, points, low, high = _points(names, difference, interval)
    return f"{better} is better by {points} points ({low} to {high})"


def _ahead(names: tuple[str, str], difference: float, interval: tuple[float, float]) -> str:
    better, points, low, high = _points(names, difference, interval)
    ahead = f"{better} is ahead by {points} points" if difference else f"{names[0]} and {names[1]} are level"
    return f"cannot be told from noise: {ahead} ({low} to {high})"


def _points(names: tuple[str, str], difference: float, interval: tuple[float, float]) -> tuple[str, ...]:
    """Who is ahead, by how much, and the interval, all of one sign's direction."""
    low, high = interval if difference >= 0 else (-interval[1], -interval[0])
    return names[difference >= 0], *(f"{100 * value:.1f}" for value in (abs(difference), low, high))
