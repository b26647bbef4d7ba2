"""The distinct pictures of one corpus with their vectors, searched under whatever options."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blindpairs.errors import InputError
from blindpairs.mine.advice import Look
from blindpairs.mine.candidates import Candidates, Cosines, Groups, Pairs
from blindpairs.mine.distinct import Findings
from blindpairs.mine.images import Images, Rows, check_lengths, distinct_rows
from blindpairs.mine.memory import Halves, Keeper
from blindpairs.mine.options import MiningOptions
from blindpairs.mine.ranking import Chosen, choose, rank_order
from blindpairs.mine.running import Running
from blindpairs.mine.scores import score_by
from blindpairs.progress import Progress, silent
from blindpairs.selfjoin import Join, UnitRows, pair_cosines

BLOCK_ROWS = 4096
Vectors = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Pictures:
    """Who takes part: `chosen` are their rows in the corpus, and every row of `rows_a` and `rows_b` is one of them."""

    rows_a: UnitRows
    rows_b: UnitRows
    ids: list[str]
    chosen: Rows
    low_information: int  # how many images were left out as blank
    unlike_twins: int  # how many were left out for another's id, although their vectors are others
    join: Join
    random: tuple[Cosines, Cosines]  # sorted cosines of random pairs, in both encoders
    held: tuple[Vectors, ...]  # every array of vectors that is held, in memory or mapped

    @classmethod
    def of(
        cls, vectors: tuple[Vectors, Vectors], images: Images, options: MiningOptions, running: Running
    ) -> "Pictures":
        """Leave out what does not take part, centre where asked for, and see how random pairs look."""
        check_lengths(images, vectors)
        taking_part = np.flatnonzero(~np.asarray(images.low_information, bool) | options.keep_low_information)
        chosen, unlike = distinct_rows(images, vectors, taking_part)
        one, other = (_unit_rows(each, chosen) for each in vectors)
        held: list[Vectors] = [*vectors]
        if options.center and len(chosen) > 1:
            keeper = Keeper(running.room, len(images), vectors)
            centred = [_centred(rows, keeper) for rows in (one, other)]
            one, other = (UnitRows(_tensor(each)) for each in centred)
            held += centred
        ids = [images.ids[row] for row in chosen]
        random = _random_cosines(one, other, options.random_pairs, options.seed)
        blank = len(images) - len(taking_part)
        return cls(one, other, ids, chosen, blank, unlike, running.join, random, tuple(held))

    def candidates(self, options: MiningOptions, progress: Progress = silent) -> Candidates:
        """Every pair above clip_min, counted, and the best of the blind ones."""
        found = Candidates(options, Groups(self.rows_a.count), score_by(options.rank, self.random))
        for block in self.join(self.rows_a, options.clip_min, other=self.rows_b, progress=progress):
            assert block.other is not None  # asked for
            found.add(Pairs(block.i.numpy(), block.j.numpy(), block.similarity.numpy(), block.other.numpy()))
        return found

    def choose(self, best: Pairs, found: Candidates) -> Chosen:
        """What the options of the search keep of its best pairs."""
        options = found.options
        order = rank_order(best, self.ids, found.score(best))
        most = min(options.top or 0, len(best))
        seen = Findings(self.rows_a, self.rows_b, options, most) if options.distinct else None
        return choose(best.take(order), found.groups, options, seen)

    def look(self, options: MiningOptions) -> Look:
        """What mining would find with these options."""
        found = self.candidates(options)
        return Look.at(found, len(self.choose(found.best(), found).pairs))

    def highest_clip(self) -> float:
        """The highest cosine of encoder a between any two of the pictures."""
        return _highest(self.rows_a, self.join)


def _random_cosines(rows_a: UnitRows, rows_b: UnitRows, most: int, seed: int) -> tuple[Cosines, Cosines]:
    """Sorted cosines of `most` random pairs in both encoders; of all pairs where there are no more than that."""
    count = rows_a.count
    if count * (count - 1) // 2 <= most:
        i, j = torch.triu_indices(count, count, 1)
    else:
        generator = torch.Generator().manual_seed(seed)
        i = torch.randint(count, (most,), generator=generator)
        j = (i + torch.randint(1, count, (most,), generator=generator)) % count  # never i itself
    one, other = (np.sort(pair_cosines(rows, i, j).numpy()) for rows in (rows_a, rows_b))
    return one, other


def _highest(rows: UnitRows, join: Join) -> float:
    if rows.count < 2:
        return -1.0
    # A few rows against all give a floor under the highest cosine; above that floor there are few pairs to look at.
    few = rows.block(0, 64)
    floor = -1.0
    for start in range(0, rows.count, BLOCK_ROWS):
        products = rows.block(start, start + BLOCK_ROWS) @ few.T
        if start == 0:
            products[: len(few)].fill_diagonal_(-1.0)
        floor = max(floor, float(products.max()))
    floor = max(-1.0, min(1.0, floor) - 1e-3)  # float32 products are off by far less
    # An approximate join may miss them all; the floor is then the best that is known.
    return max((float(block.similarity.max()) for block in join(rows, floor) if len(block)), default=floor)


def _unit_rows(vectors: Vectors, chosen: Rows) -> UnitRows:
    return UnitRows(_tensor(vectors), None if len(chosen) == len(vectors) else torch.from_numpy(chosen))


def _tensor(vectors: Vectors) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes to it here
        return torch.from_numpy(vectors)


def _centred(rows: UnitRows, keeper: Keeper) -> Halves:
    """The rows less their mean, made unit again and rounded to float16, as those of a store are."""
    parts = [(start, min(start + BLOCK_ROWS, rows.count)) for start in range(0, rows.count, BLOCK_ROWS)]
    mean = sum(rows.block(*part).sum(0, dtype=torch.float64) for part in parts) / rows.count

    def blocks() -> Iterator[Halves]:
        for part in parts:
            away = rows.block(*part) - mean
            lengths = away.norm(dim=1, keepdim=True)
            if float(lengths.min()) < 1e-6:
                raise InputError("an image lies at the mean of all, which has no direction once centred: do not centre")
            yield (away / lengths).half().numpy()

    return keeper.keep("centred", blocks(), (rows.count, rows.dimension))
