"""`mine --differences`: the best candidates by cosine, looked at through their patch tokens, and ranked again.

What is looked at: the first pairs in rank, one for each two near-duplicate groups, up to PAIRS_PER_WANTED for each pair
that is wanted. They show at most IMAGES_PER_WANTED images for each, because images are what takes time; when so many
have been chosen, the pairs that follow are those of the same images. A pair with an image that cannot be read again
keeps its rank by cosine, behind those that were looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.mine.candidates import Cosines, Groups, Pairs
from blindpairs.mine.differences import Differences, differences
from blindpairs.mine.fields import PatchSource
from blindpairs.mine.images import Indices
from blindpairs.mine.maps import DifferenceMap
from blindpairs.mine.options import MiningOptions
from blindpairs.mine.reproducible import in_blocks
from blindpairs.progress import Progress, silent
from blindpairs.selfjoin import UnitRows

PAIRS_PER_WANTED, IMAGES_PER_WANTED = 50, 20
ALIKE_IMAGES, ALIKE_AMONG = 4096, 1 << 16  # whose nearest neighbours are sought, and among how many
BLOCK_ROWS = 1024


@dataclass(frozen=True)
class CloserLook:
    """The candidates in their new order, and what is known of them. Without patch tokens nothing has changed."""

    order: Indices  # (P,): places of all candidates; those looked at come first, the smallest difference before others
    difference: Cosines  # (P,): NaN where it was not looked
    cluster: NDArray[np.int32]  # (P,): -1 where it was not looked
    pairs: int = 0  # that were looked at
    images: int = 0
    unread: Mapping[str, int] = field(default_factory=dict)
    found: Differences | None = None
    compared: Indices = field(default_factory=lambda: np.empty(0, np.int64))  # (pairs,): the places in `found`

    @classmethod
    def none(cls, count: int) -> "CloserLook":
        """What is known without a closer look."""
        return cls(np.arange(count), np.full(count, np.nan), np.full(count, -1, np.int32))

    def maps(self, places: Indices) -> dict[int, DifferenceMap]:
        """The maps of those candidates at `places`, numbers in the new order, that were looked at."""
        if self.found is None:
            return {}
        looked = places[places < self.pairs]
        return dict(zip(looked.tolist(), self.found.comparison.maps(self.compared[looked]), strict=True))


def places_to_look_at(ranked: Pairs, groups: Groups, options: MiningOptions) -> Indices:
    """The first candidates of which a closer look is worth its time; see the head of this file."""
    wanted = options.top if options.top is not None else len(ranked)
    most_pairs, most_images = PAIRS_PER_WANTED * wanted, IMAGES_PER_WANTED * wanted
    places: list[int] = []
    seen: set[tuple[int, int]] = set()
    images: set[int] = set()
    for place, both in enumerate(groups.of_pairs(ranked)):
        if both is None or both in seen:
            continue
        unread = {int(ranked.i[place]), int(ranked.j[place])} - images
        if len(images) + len(unread) > most_images:
            continue
        seen.add(both)
        images |= unread
        places.append(place)
        if len(places) == most_pairs:
            break
    return np.array(places, np.int64)


def look_closer(
    ranked: Pairs,
    places: Indices,
    *,
    ids: Sequence[str],
    dino: UnitRows,
    source: PatchSource,
    progress: Progress = silent,
) -> CloserLook:
    """Compare the candidates at `places` by their patch tokens. `ids` and `dino` are those of the rows in `ranked`."""
    both = [sorted((int(ranked.i[place]), int(ranked.j[place])), key=ids.__getitem__) for place in places]
    rows = sorted({row for pair in both for row in pair}, key=ids.__getitem__)
    fields = source.fields([ids[row] for row in rows], progress)
    read = np.array([all(ids[row] in fields.rows for row in pair) for pair in both], bool)
    looked = places[read]
    if len(looked) < 2:
        return replace(CloserLook.none(len(ranked)), unread=fields.unread)
    pairs = [(ids[a], ids[b]) for (a, b), known in zip(both, read.tolist(), strict=True) if known]
    alike = [
        (ids[a], ids[b]) for a, b in nearest_neighbours(dino, [row for row in rows if ids[row] in fields.rows], ids)
    ]
    found = differences(fields, pairs, ranked.dino_sim[looked], alike)
    order = np.argsort(found.difference, kind="stable")
    rest = np.setdiff1d(np.arange(len(ranked)), looked)
    difference, cluster = np.full(len(ranked), np.nan), np.full(len(ranked), -1, np.int32)
    difference[: len(looked)], cluster[: len(looked)] = found.difference[order], found.cluster[order]
    return CloserLook(
        np.concatenate([looked[order], rest]),
        difference,
        cluster,
        len(looked),
        len(fields.rows),
        fields.unread,
        found,
        order,
    )


def nearest_neighbours(dino: UnitRows, rows: Sequence[int], ids: Sequence[str]) -> list[tuple[int, int]]:
    """Images and their nearest neighbours for DINOv2, the more alike half of them: these differ in next to nothing.

    `rows` are in the order of their ids, so that the result does not depend on the order of the corpus.
    """
    among = torch.tensor(rows[:ALIKE_AMONG])
    if len(among) < 2:
        return []
    vectors = dino.take(among)

    def nearest(part: slice) -> tuple[Tensor, Tensor]:
        block = vectors[part] @ vectors.T
        block[torch.arange(len(block)), part.start + torch.arange(len(block))] = -2.0  # not itself
        best = block.max(1)
        return best.values, best.indices

    found = in_blocks(nearest, min(len(among), ALIKE_IMAGES), BLOCK_ROWS)
    cosine, other = (torch.cat(parts) for parts in zip(*found, strict=True))
    close = torch.nonzero(cosine >= cosine.median())[:, 0]
    pairs = [(int(among[one]), int(among[two])) for one, two in zip(close, other[close], strict=True)]
    return [(a, b) if ids[a] < ids[b] else (b, a) for a, b in pairs]
