"""The pairs that the search finds: all of them are counted, only the best are held.

A corpus of 20,000 images that look equal has 2e8 pairs above any threshold. Memory never holds more than about twice
`most_candidates` pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blindpairs.mine.images import Indices
from blindpairs.mine.options import DUPLICATE_DINO, MiningOptions

Cosines = NDArray[np.float64]

# Upper edges of the histogram's bins: a cosine is counted at the first edge that is not below it.
EDGES: Cosines = np.arange(-100, 101) / 100
MOST_STEPS = 32  # towards a root; a longer chain is shortened for all rows at once


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows i < j with both cosines."""

    i: Indices
    j: Indices  # (P,), as all columns
    clip_sim: Cosines
    dino_sim: Cosines

    def __len__(self) -> int:
        return len(self.i)

    @property
    def gap(self) -> Cosines:
        """By how much the encoders disagree."""
        return self.clip_sim - self.dino_sim

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> "Pairs":
        """The pairs at some places, or those where a mask is true."""
        return Pairs(self.i[which], self.j[which], self.clip_sim[which], self.dino_sim[which])


class Groups:
    """Near-duplicate groups as a union-find over rows. The relation is transitive. A group's root is its first row."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def roots(self, rows: Indices) -> Indices:
        """The root of each row's group."""
        parent = self._parent
        for _ in range(MOST_STEPS):
            up = parent[rows]
            above: Indices = parent[up]
            if np.array_equal(above, up):
                return above
            parent[rows] = above  # halves chains that lie within `rows`
        while not np.array_equal(above := parent[parent], parent):  # a long chain outside `rows`: halve all chains
            parent = above
        self._parent = parent
        return parent[rows]

    def of_pairs(self, pairs: Pairs) -> list[tuple[int, int] | None]:
        """The roots of both groups of each pair, the smaller first; None for a pair within one group."""
        roots = np.sort(np.stack([self.roots(pairs.i), self.roots(pairs.j)], 1), 1).tolist()
        return [(one, other) if one != other else None for one, other in roots]

    def unite(self, i: Indices, j: Indices) -> None:
        """Put the two rows of each pair (i, j) into one group, a whole block at a time."""
        while len(i):
            i, j = self.roots(i), self.roots(j)
            apart = i != j
            i, j = i[apart], j[apart]
            # One root may meet several smaller ones in a round. It takes the smallest; the next round has the others.
            np.minimum.at(self._parent, np.maximum(i, j), np.minimum(i, j))


@dataclass
class Candidates:
    """Counts of the pairs above clip_min so far, and the best blind ones by `score` (see ranking.py)."""

    options: MiningOptions
    groups: Groups
    score: Callable[[Pairs], Cosines]
    above: int = 0
    duplicates: int = 0
    blind: int = 0
    dino_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(EDGES), np.int64))
    lowest_dino: float = np.inf
    _held: list[Pairs] = field(default_factory=list)
    _floor: float = -np.inf  # the lowest score held when the list was last cut

    def add(self, pairs: Pairs) -> None:
        """Count a block, unite its near-duplicates, and hold its blind pairs that may be among the best."""
        self.above += len(pairs)
        same = pairs.dino_sim >= DUPLICATE_DINO
        self.duplicates += int(same.sum())
        self.groups.unite(pairs.i[same], pairs.j[same])
        bins = np.searchsorted(EDGES, pairs.dino_sim.clip(-1.0, 1.0))
        self.dino_counts += np.bincount(bins, minlength=len(EDGES))
        self.lowest_dino = min(self.lowest_dino, float(pairs.dino_sim.min(initial=np.inf)))
        blind = pairs.take(pairs.dino_sim <= self.options.dino_max)
        self.blind += len(blind)
        # In a flood nearly every pair is below the floor. Without it, sorting the held pairs takes most of the time.
        self._held.append(blind.take(self.score(blind) >= self._floor))
        if sum(map(len, self._held)) > 2 * self.options.most_candidates:
            best = self.best()
            self._held, self._floor = [best], float(self.score(best).min())

    def best(self) -> Pairs:
        """At most `most_candidates` blind pairs: highest score first, then widest gap, then lowest rows."""
        if not self._held:
            nothing = np.empty(0, np.int64)
            return Pairs(nothing, nothing, nothing.astype(float), nothing.astype(float))
        columns = ("i", "j", "clip_sim", "dino_sim")
        held = Pairs(*(np.concatenate([getattr(one, name) for one in self._held]) for name in columns))
        if len(held) <= self.options.most_candidates:
            return held
        order = np.lexsort((held.j, held.i, -held.gap, -self.score(held)))
        return held.take(order[: self.options.most_candidates])
