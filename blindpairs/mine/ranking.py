"""Which blind pairs are kept: the first in rank, few per image, one per two near-duplicate groups.

Ranks (`--rank`). Equal scores are ordered by gap, then by pair id.

    subtle  dino_sim + clip_sim, each in units of the spread of the cosines of random pairs: how little differs. Pairs
            whose DINOv2 cosine is just below the threshold differ in one or two things, where the widest gaps differ in
            everything, and a question can be asked of one thing only.
    gap     clip_sim - dino_sim
    clip    clip_sim: the pairs that CLIP is surest of
    rarity  -log10(1 - clip_quantile) - log10(dino_quantile): how rarely a random pair of this corpus has so high a
            CLIP cosine and so low a DINOv2 cosine. It weighs both cosines by their spread in this corpus, which the gap
            does not. n random pairs cannot resolve a share below 1 / n, so smaller shares count as 1 / n.
"""

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.mine.candidates import Cosines, Groups, Pairs
from blindpairs.mine.images import Indices, pair_id
from blindpairs.mine.options import MiningOptions
from blindpairs.selfjoin import UnitRows
from blindpairs.selfjoin.bound import product_error
from blindpairs.selfjoin.rows import cosines

# Behind these a cluster has only pairs that differ in several things. In the demo world, with turns among all pairs,
# those that differ in one thing are 5 to 9 points fewer of the kept ones.
IN_TURN_PER_WANTED = 4


@dataclass(frozen=True)
class Chosen:
    """The kept pairs in rank order, and why the other candidates were not kept."""

    pairs: Pairs
    places: Indices  # of these pairs among the candidates
    repeated: int  # a better pair has images of the same two groups, or both images are of one group
    capped: int  # an image of the pair already has max_per_image pairs
    similar: int  # a better pair shows the same two things; see KeptPairs
    beyond_top: int


def score_by(rank: str, random_sims: tuple[Cosines, Cosines]) -> Callable[[Pairs], Cosines]:
    """The score that `rank` names; `random_sims` are sorted cosines of random pairs, (clip, dino)."""
    if rank == "subtle":
        clip_spread, dino_spread = (float(np.std(sims)) if len(sims) else 1.0 for sims in random_sims)
        return lambda pairs: pairs.dino_sim / max(dino_spread, 1e-9) + pairs.clip_sim / max(clip_spread, 1e-9)
    if rank == "rarity":
        clip, dino = random_sims
        return lambda pairs: rarity(quantiles(pairs.clip_sim, clip), quantiles(pairs.dino_sim, dino), len(clip))
    return (lambda pairs: pairs.clip_sim) if rank == "clip" else (lambda pairs: pairs.gap)


def rarity(clip_quantiles: Cosines, dino_quantiles: Cosines, random_pairs: int) -> Cosines:
    """How rare both cosines are among random pairs, in powers of ten; `random_pairs` is how many were compared."""
    floor = 1 / max(1, random_pairs)
    scores: Cosines = -np.log10(np.maximum(1 - clip_quantiles, floor)) - np.log10(np.maximum(dino_quantiles, floor))
    return scores


def quantiles(sims: Cosines, random_sims: Cosines) -> Cosines:
    """The share of the random pairs whose cosine is lower, for each of `sims`."""
    shares: Cosines = np.searchsorted(random_sims, sims, side="left") / max(1, len(random_sims))
    return shares


def rank_order(pairs: Pairs, ids: Sequence[str], score: Cosines) -> NDArray[np.int64]:
    """The order of the pairs: highest score, widest gap, then pair id, which does not depend on the corpus order."""
    names = np.array([pair_id(ids[i], ids[j]) for i, j in zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)], "U16")
    return np.lexsort((names, -pairs.gap, -score))


def choose(
    ranked: Pairs,
    groups: Groups,
    options: MiningOptions,
    shown: "KeptPairs | None" = None,
    clusters: NDArray[np.int32] | None = None,
) -> Chosen:
    """Walk the candidates in rank order and keep what the options allow.

    `shown` is given where --distinct asks. With `clusters` (P,) each cluster in turn gives its next pair that is kept.
    Those of no cluster (-1), and those behind the first IN_TURN_PER_WANTED for each wanted, come last.
    """
    both_groups = groups.of_pairs(ranked)
    kept: list[int] = []
    seen: set[tuple[int, int]] = set()  # pairs of groups
    used: Counter[int] = Counter()  # kept pairs of each group
    repeated = capped = similar = beyond_top = 0
    in_turn = len(ranked) if options.top is None else IN_TURN_PER_WANTED * options.top
    first = np.arange(len(ranked)) < in_turn
    turns = _turns(np.zeros(len(ranked), np.int32) if clusters is None else np.where(first, clusters, -1))
    place = next(turns, None)
    while place is not None:
        both, kept_here = both_groups[place], False
        # The order of these tests decides only which counter a pair goes to, except that a similar pair is looked for
        # last: it costs a product with every kept pair.
        if both is None or both in seen:
            repeated += 1
        elif max(used[root] for root in both) >= options.max_per_image:
            capped += 1
        elif options.top is not None and len(kept) >= options.top:
            beyond_top += 1
        elif shown is not None and shown.similar_to(int(ranked.i[place]), int(ranked.j[place])):
            similar += 1
        else:
            kept_here = True
            used.update(both)
            kept.append(place)
            if shown is not None:
                shown.add(int(ranked.i[place]), int(ranked.j[place]))
        if both is not None:
            seen.add(both)
        place = turns.send(kept_here)
    places = np.array(kept, np.int64)
    return Chosen(ranked.take(places), places, repeated, capped, similar, beyond_top)


def _turns(clusters: NDArray[np.int32]) -> Generator[int | None, bool, None]:
    """The places of all pairs, then None. A cluster's turn ends with a pair that was kept, which is sent back."""
    order = np.argsort(clusters, kind="stable")
    names, starts = np.unique(clusters[order], return_index=True)
    queues = {int(name): deque(part.tolist()) for name, part in zip(names, np.split(order, starts[1:]), strict=False)}
    last = queues.pop(-1, deque())
    while queues:
        for name in list(queues):
            queue, kept = queues[name], False
            while queue and not kept:
                kept = yield queue.popleft()
            if not queue:
                del queues[name]
    while last:
        yield last.popleft()
    yield None


class KeptPairs:
    """The kept pairs, at most `most`, for `--distinct`: a pair that is similar to a kept one is not kept.

    Pair (a, b) is similar to (c, d) if a is near c and b near d, or a near d and b near c. Near holds in both
    encoders: the CLIP cosine is at least clip_min, so CLIP does not tell the two apart, and the DINOv2 cosine is at
    least halfway between dino_max and 1. A float32 product decides what is clearly above or below, the join's own
    definition (`selfjoin/cosine.py`) decides the rest. So an image is near itself even where clip_min is 1.
    """

    def __init__(self, clip: UnitRows, dino: UnitRows, options: MiningOptions, most: int) -> None:
        # DINOv2 first: it tells most pairs apart.
        self._encoders = (dino, clip)
        self._minima = ((1 + options.dino_max) / 2, options.clip_min)
        self._vectors = tuple(torch.empty(2, most, rows.dimension) for rows in self._encoders)
        self._indices = torch.empty(2, most, dtype=torch.int64)
        self._count = 0

    def similar_to(self, i: int, j: int) -> bool:
        """Whether a kept pair is similar to the pair of rows (i, j): one product, however many are kept."""
        near: Tensor = torch.ones(2, 2, self._count, dtype=torch.bool)  # (a|b, c|d, kept)
        pair = torch.tensor([i, j])
        for rows, kept, minimum in zip(self._encoders, self._vectors, self._minima, strict=True):
            above = (kept[:, : self._count] @ rows.take(pair).T).permute(2, 0, 1) - minimum
            error = product_error(rows.dimension + 8)
            near &= above >= -error
            side, other, place = (near & (above <= error)).nonzero(as_tuple=True)
            near[side, other, place] = cosines(rows, pair[side], self._indices[other, place]) >= minimum
            if not near.any():
                return False
        straight, crossed = near[0, 0] & near[1, 1], near[0, 1] & near[1, 0]
        return bool((straight | crossed).any())

    def add(self, i: int, j: int) -> None:
        """Keep the pair of rows (i, j)."""
        pair = torch.tensor([i, j])
        self._indices[:, self._count] = pair
        for rows, kept in zip(self._encoders, self._vectors, strict=True):
            kept[:, self._count] = rows.take(pair)
        self._count += 1
