"""The pairs as the search finds them: everything is counted, only the best are held.

A corpus of 20,000 equal-looking images has 2e8 pairs above any threshold. Memory holds at most twice
`most_candidates` of them, whatever comes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blindpairs.mine.images import Rows
from blindpairs.mine.options import DUPLICATE_DINO, MiningOptions

Cosines = NDArray[np.float64]

# A pair is counted at the first edge that is not below its cosine: those up to an edge are those with dino_sim <= edge.
EDGES: Cosines = np.arange(-100, 101) / 100


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows i < j with both cosines."""

    i: Rows
    j: Rows
    clip: Cosines
    dino: Cosines

    def __len__(self) -> int:
        return len(self.i)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Pairs":
        """Some of the pairs."""
        return Pairs(self.i[index], self.j[index], self.clip[index], self.dino[index])


MOST_STEPS = 32  # on the way to a root; a longer way is shortened for all rows at once


class Groups:
    """Union-find over rows: near-duplicates of near-duplicates are one picture. A group's root is its smallest row."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def roots(self, rows: Rows) -> Rows:
        """The root of each row's group."""
        parent = self._parent
        for _ in range(MOST_STEPS):
            up = parent[rows]
            above: Rows = parent[up]
            if np.array_equal(above, up):
                return above
            parent[rows] = above  # of a chain within `rows`, twice as much at every step
        while not np.array_equal(above := parent[parent], parent):  # a long way outside of `rows`: shortened for all
            parent = above
        self._parent = parent
        return parent[rows]

    def unite(self, i: Rows, j: Rows) -> None:
        """Put the rows of each pair (i, j) into one group, a whole block at a time."""
        while len(i):
            i, j = self.roots(i), self.roots(j)
            apart = i != j
            i, j = i[apart], j[apart]
            # A root may be told of several smaller ones in one round; it takes the smallest, the rest meet it again.
            np.minimum.at(self._parent, np.maximum(i, j), np.minimum(i, j))


@dataclass
class Candidates:
    """What is known after some blocks of pairs above clip_min."""

    options: MiningOptions
    groups: Groups
    score: Callable[[Pairs], Cosines]  # what is best; see scores.py
    above: int = 0
    duplicates: int = 0
    blind: int = 0
    dino_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(EDGES), np.int64))
    lowest_dino: float = np.inf
    _held: list[Pairs] = field(default_factory=list)
    _floor: float = -np.inf  # the lowest score of those held when they were last too many

    def add(self, pairs: Pairs) -> None:
        """Count a block, unite its near-duplicates, and hold its blind pairs as far as they are among the best."""
        self.above += len(pairs)
        same = pairs.dino >= DUPLICATE_DINO
        self.duplicates += int(same.sum())
        self.groups.unite(pairs.i[same], pairs.j[same])
        bins = np.searchsorted(EDGES, pairs.dino.clip(-1.0, 1.0))
        self.dino_counts += np.bincount(bins, minlength=len(EDGES))
        self.lowest_dino = min(self.lowest_dino, float(pairs.dino.min(initial=np.inf)))
        blind = pairs.take(pairs.dino <= self.options.dino_max)
        self.blind += len(blind)
        # In a flood nearly every pair lies below the floor: without it, sorting those held takes most of the time.
        self._held.append(blind.take(self.score(blind) >= self._floor))
        if sum(map(len, self._held)) > 2 * self.options.most_candidates:
            best = self.best()
            self._held, self._floor = [best], float(self.score(best).min())

    def best(self) -> Pairs:
        """At most `most_candidates` blind pairs: those of the highest score, then gap; ties by row."""
        columns = ("i", "j", "clip", "dino")
        if not self._held:
            nothing = np.empty(0, np.int64)
            return Pairs(nothing, nothing, nothing.astype(float), nothing.astype(float))
        held = Pairs(*(np.concatenate([getattr(one, name) for one in self._held]) for name in columns))
        if len(held) <= self.options.most_candidates:
            return held
        order = np.lexsort((held.j, held.i, held.dino - held.clip, -self.score(held)))
        return held.take(order[: self.options.most_candidates])
