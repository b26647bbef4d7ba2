"""Which drafted pairs become the benchmark that ships: as many of each pattern, and balanced.

The choice looks at the ground truth and at the rank that mining gave, never at what any model answers. Promises: within
each pattern both options are right as often for image a, and each order of the options is as frequent, where there are
enough pairs; no image is in more than two pairs, controls included.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from blindpairs.benchmark import BenchmarkPair

MOST_USES = 2  # of an image
UNEVEN = 2  # pairs by which a quarter may be larger or smaller than another, where that gives more single differences


@dataclass(frozen=True)
class Candidate:
    """A blind pair and its control, both with a question; they are chosen together."""

    blind: BenchmarkPair
    control: BenchmarkPair
    differing: int  # fields of a scene in which the images of the blind pair differ: 1 is best
    rank: int  # in its mining run; 0 is the best

    @property
    def pattern(self) -> str:
        """The one pattern that the blind pair is asked about."""
        return self.blind.patterns[0]

    @property
    def quarter(self) -> tuple[int, bool]:
        """The right answer for image a, and whether the options are in the order of the alphabet."""
        question = self.blind.question
        assert question is not None, "a candidate was drafted"
        return question.answers[0], question.options[0] < question.options[1]

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Of both pairs."""
        return self.blind.image_ids + self.control.image_ids


def choose(candidates: Sequence[Candidate], per_pattern: int) -> list[Candidate]:
    """At most `per_pattern` (a multiple of four) of each pattern, in the order of their ranks.

    Those that differ in one thing come first, and of these those whose control is asked about the same pattern. The
    patterns of which mining finds the fewest choose first: what they use, others can do without.
    """
    singles = Counter(one.pattern for one in candidates if one.differing == 1)
    chosen: list[Candidate] = []
    uses: Counter[str] = Counter()
    for pattern in sorted({one.pattern for one in candidates}, key=lambda name: (singles[name], name)):
        ordered = sorted(
            (one for one in candidates if one.pattern == pattern),
            key=lambda one: (one.differing, one.control.patterns != one.blind.patterns, one.rank),
        )
        best = max(_sizes(per_pattern), key=lambda sizes: _worth(_filled(ordered, sizes, uses), sizes))
        found = _filled(ordered, best, uses)
        chosen += found
        uses.update(key for one in found for key in one.image_ids)
    return sorted(chosen, key=lambda one: (one.rank, one.blind.pair_id))


def _sizes(per_pattern: int) -> list[dict[tuple[int, bool], int]]:
    """Sizes of the four quarters that keep both halves, of the answers and of the orders, equal."""
    even = per_pattern // 4
    moved = range(-min(UNEVEN, even), min(UNEVEN, even) + 1)
    return [
        {(a, order): even + (by if (a == 1) == order else -by) for a in (0, 1) for order in (False, True)}
        for by in moved
    ]


def _worth(found: Sequence[Candidate], sizes: dict[tuple[int, bool], int]) -> tuple[int, int, int]:
    """More pairs, then more that differ in one thing, then more equal quarters."""
    return len(found), sum(one.differing == 1 for one in found), -max(sizes.values())


def _filled(ordered: Sequence[Candidate], sizes: dict[tuple[int, bool], int], before: Counter[str]) -> list[Candidate]:
    """The first candidates that fill the quarters and use no image too often."""
    room, uses = dict(sizes), before.copy()
    found = []
    for one in ordered:
        after = uses + Counter(one.image_ids)
        if room[one.quarter] and all(after[key] <= MOST_USES for key in one.image_ids):
            room[one.quarter] -= 1
            uses = after
            found.append(one)
    return found
