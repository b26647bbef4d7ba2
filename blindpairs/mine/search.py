"""The images of one corpus that take part, with their vectors, and the join that searches them under any options.

Exact joins all find the same pairs, whatever they run on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blindpairs.errors import InputError
from blindpairs.mine.candidates import EDGES, Candidates, Cosines, Groups, Pairs
from blindpairs.mine.fields import PatchSource
from blindpairs.mine.images import Images, Indices, check_arrays, unique_indices
from blindpairs.mine.options import DUPLICATE_DINO, MiningOptions
from blindpairs.mine.ranking import Chosen, KeptPairs, choose, rank_order, score_by
from blindpairs.progress import Progress, silent
from blindpairs.selfjoin import Hardware, Join, PairBlock, UnitRows, pair_cosines, similar_pairs
from blindpairs.store.memory import Float16, MemoryBudget, VectorPlacement

BLOCK_ROWS = 4096
Vectors = NDArray[np.floating[Any]]

EXACT = {"method": "exact", "exact": True}


class ExactJoin:
    """`similar_pairs` on one `hardware`, which it keeps: a GPU that failed once is not tried again.

    Without `hardware` each search takes every GPU of this machine, and pairs.json names no device.
    """

    def __init__(self, hardware: Hardware | None = None) -> None:
        self._hardware = hardware

    def __call__(
        self, rows: UnitRows, minimum: float, /, *, other: UnitRows | None = None, progress: Progress = silent
    ) -> Iterator[PairBlock]:
        """See `selfjoin.Join`."""
        return similar_pairs(rows, minimum, other=other, progress=progress, hardware=self._hardware)

    def describe(self) -> Mapping[str, Any]:
        """What pairs.json records of the join: method, devices, and the engines that ran."""
        if self._hardware is None:
            return EXACT
        return EXACT | {"device": self._hardware.describe(), "engine": self._hardware.engines()}


@dataclass(frozen=True)
class Running:
    """The join that finds the pairs, how much memory vectors may take, and what gives the patch tokens of images.

    Without a budget all vectors are in memory. Without patch tokens the cosines rank the pairs.
    """

    join: Join = ExactJoin()  # noqa: RUF009
    memory: MemoryBudget | None = None
    patches: PatchSource | None = None  # for options.differences; `mine_store` opens the store's own
    no_patches: str = "no patch tokens were given (Running.patches)"  # why `patches` is None
    patch_device: str = "auto"  # that the store's own are computed on
    patch_progress: Progress = silent  # counts images


LOCAL = Running()


@dataclass(frozen=True)
class SearchSummary:
    """What one search found."""

    above: int  # pairs above clip_min
    kept: int
    lowest_dino: float  # of the pairs above clip_min; inf if there are none
    nearest_dino_max: float | None  # the lowest of -1.00, -0.99, ... above dino_max that would admit another pair

    @classmethod
    def of(cls, found: Candidates, kept: int) -> "SearchSummary":
        """Summarise a search."""
        edges = EDGES[np.flatnonzero(found.dino_counts)]
        useful = edges[(edges > found.options.dino_max) & (edges < DUPLICATE_DINO)]
        return cls(found.above, kept, found.lowest_dino, float(useful[0]) if len(useful) else None)


@dataclass(frozen=True)
class Search:
    """The images that take part: `indices` are their rows in the corpus, and every row of `clip` and `dino` is one."""

    clip: UnitRows
    dino: UnitRows
    ids: list[str]
    indices: Indices
    low_information: int  # images left out as blank
    id_conflicts: int  # images left out because another has the same id, although their vectors differ
    join: Join
    random_sims: tuple[Cosines, Cosines]  # sorted cosines of random pairs, (clip, dino)
    arrays: tuple[Vectors, ...]  # every array of vectors that is held, in memory or mapped

    @classmethod
    def of(cls, vectors: tuple[Vectors, Vectors], images: Images, options: MiningOptions, running: Running) -> "Search":
        """Leave out the images that do not take part, centre where asked, and compare random pairs."""
        check_arrays(images, vectors)
        taking_part = np.flatnonzero(~np.asarray(images.low_information, bool) | options.keep_low_information)
        indices, unlike = unique_indices(images, vectors, taking_part)
        clip, dino = (_unit_rows(each, indices) for each in vectors)
        arrays: list[Vectors] = [*vectors]
        if options.center and len(indices) > 1:
            placement = VectorPlacement(running.memory, len(images), vectors)
            centred = [_centred(rows, placement) for rows in (clip, dino)]
            clip, dino = (UnitRows(each) for each in centred)
            arrays += centred
        return cls(
            clip=clip,
            dino=dino,
            ids=[images.ids[row] for row in indices],
            indices=indices,
            low_information=len(images) - len(taking_part),
            id_conflicts=unlike,
            join=running.join,
            random_sims=_random_sims(clip, dino, options.random_pairs, options.seed),
            arrays=tuple(arrays),
        )

    def candidates(self, options: MiningOptions, progress: Progress = silent) -> Candidates:
        """Every pair above clip_min, counted, and the best of the blind ones."""
        found = Candidates(options, Groups(self.clip.count), score_by(options.rank, self.random_sims))
        for block in self.join(self.clip, options.clip_min, other=self.dino, progress=progress):
            assert block.other is not None  # asked for
            found.add(Pairs(block.i.numpy(), block.j.numpy(), block.similarity.numpy(), block.other.numpy()))
        return found

    def ranked(self, found: Candidates) -> Pairs:
        """The held pairs of `found` in rank order."""
        best = found.best()
        return best.take(rank_order(best, self.ids, found.score(best)))

    def choose(self, ranked: Pairs, found: Candidates, clusters: NDArray[np.int32] | None = None) -> Chosen:
        """Which of `ranked`, the held pairs of `found` in the order in which they are wanted, its options keep."""
        options = found.options
        most = min(options.top or 0, len(ranked))
        shown = KeptPairs(self.clip, self.dino, options, most) if options.distinct else None
        return choose(ranked, found.groups, options, shown, clusters if options.spread else None)

    def summary(self, options: MiningOptions) -> SearchSummary:
        """What mining would find with these options."""
        found = self.candidates(options)
        return SearchSummary.of(found, len(self.choose(self.ranked(found), found).pairs))

    def highest_clip(self) -> float:
        """The highest CLIP cosine between any two of the images."""
        if self.clip.count < 2:
            return -1.0
        floor = max(-1.0, min(1.0, _highest_of_some(self.clip)) - 1e-3)  # float32 products are off by far less
        # An approximate join may miss every pair above the floor. The floor is then the best known value.
        blocks = self.join(self.clip, floor)
        return max((float(block.similarity.max()) for block in blocks if len(block)), default=floor)


def _highest_of_some(rows: UnitRows) -> float:
    """The highest product of a few rows with all rows: few pairs of the corpus lie above it."""
    few = rows.block(0, 64)
    highest = -1.0
    for start in range(0, rows.count, BLOCK_ROWS):
        products = rows.block(start, start + BLOCK_ROWS) @ few.T
        if start == 0:
            products[: len(few)].fill_diagonal_(-1.0)
        highest = max(highest, float(products.max()))
    return highest


def _random_sims(clip: UnitRows, dino: UnitRows, most: int, seed: int) -> tuple[Cosines, Cosines]:
    """Sorted cosines of `most` random pairs in both encoders; of all pairs if there are no more than that."""
    count = clip.count
    if count * (count - 1) // 2 <= most:
        i, j = torch.triu_indices(count, count, 1)
    else:
        generator = torch.Generator().manual_seed(seed)
        i = torch.randint(count, (most,), generator=generator)
        j = (i + torch.randint(1, count, (most,), generator=generator)) % count  # never i itself
    clip_sims, dino_sims = (np.sort(pair_cosines(rows, i, j).numpy()) for rows in (clip, dino))
    return clip_sims, dino_sims


def _unit_rows(vectors: Vectors, indices: Indices) -> UnitRows:
    return UnitRows(vectors, None if len(indices) == len(vectors) else torch.from_numpy(indices))


def _centred(rows: UnitRows, placement: VectorPlacement) -> Float16:
    """The rows minus their mean, scaled to unit length and rounded to float16, as a store's are."""
    parts = [(start, min(start + BLOCK_ROWS, rows.count)) for start in range(0, rows.count, BLOCK_ROWS)]
    mean = sum(rows.block(*part).sum(0, dtype=torch.float64) for part in parts) / rows.count

    def blocks() -> Iterator[Float16]:
        for part in parts:
            away = rows.block(*part) - mean
            lengths = away.norm(dim=1, keepdim=True)
            if float(lengths.min()) < 1e-6:
                raise InputError(
                    "an image equals the mean of all images and has no direction once centred: do not centre"
                )
            yield (away / lengths).half().numpy()

    return placement.place("centred", blocks(), (rows.count, rows.dimension))
