"""Which blind pairs are kept: the first in rank, each picture seldom, near-duplicates once."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from blindpairs.mine.candidates import Cosines, Groups, Pairs
from blindpairs.mine.options import MiningOptions


@dataclass(frozen=True)
class Chosen:
    """The kept pairs in rank order, and what became of the other candidates."""

    pairs: Pairs
    repeated: int  # a better pair of the same two pictures is there, or both are near-duplicates of one picture
    capped: int  # one of the pictures has its pairs already
    similar: int  # a better pair shows the same two things
    beyond_top: int


class Seen(Protocol):
    """The kept pairs by what they show: `distinct.Findings`."""

    def has(self, i: int, j: int) -> bool:
        """Whether one is like the pair of rows (i, j)."""

    def add(self, i: int, j: int) -> None:
        """Take note of a kept pair."""


def pair_id(image_id: str, other: str) -> str:
    """The id of a pair, the same in either order: the first 16 digits of the sha256 of both ids, the smaller first."""
    return hashlib.sha256("".join(sorted((image_id, other))).encode()).hexdigest()[:16]


def choose(ranked: Pairs, groups: Groups, options: MiningOptions, seen: Seen | None = None) -> Chosen:
    """Walk the candidates in the order of their rank and keep what the options allow."""
    pictures = zip(groups.roots(ranked.i).tolist(), groups.roots(ranked.j).tolist(), strict=True)
    kept: list[int] = []
    met: set[tuple[int, int]] = set()
    used: Counter[int] = Counter()
    repeated = capped = similar = beyond_top = 0
    for place, (one, other) in enumerate(pictures):
        both = (min(one, other), max(one, other))
        if one == other or both in met:
            repeated += 1
        elif max(used[one], used[other]) >= options.max_per_image:
            met.add(both)
            capped += 1
        elif options.top is not None and len(kept) >= options.top:
            met.add(both)
            beyond_top += 1
        elif seen is not None and seen.has(int(ranked.i[place]), int(ranked.j[place])):
            met.add(both)
            similar += 1
        else:
            met.add(both)
            used.update(both)
            kept.append(place)
            if seen is not None:
                seen.add(int(ranked.i[place]), int(ranked.j[place]))
    return Chosen(ranked.take(np.array(kept, np.int64)), repeated, capped, similar, beyond_top)


def rank_order(pairs: Pairs, ids: Sequence[str], score: Cosines) -> NDArray[np.int64]:
    """The order of the pairs: highest score, widest gap, then pair id, which no order of the corpus changes."""
    names = np.array([pair_id(ids[i], ids[j]) for i, j in zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)], "U16")
    return np.lexsort((names, pairs.dino - pairs.clip, -score))
