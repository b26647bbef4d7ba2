"""The recall of an approximate search, measured: a sample of rows is compared with all other rows by brute force."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.errors import ConfigError
from blindpairs.index.search import SLACK, Searcher, neighbour_pairs
from blindpairs.selfjoin import UnitRows
from blindpairs.selfjoin.rows import confirm_pairs
from blindpairs.selfjoin.shown import as_given
from blindpairs.statistics import effective_count, wilson_interval

SAMPLE_ROWS = 1000
ENOUGH_PAIRS = 400  # the sample grows until it has this many pairs, or MOST_SAMPLES times SAMPLE_ROWS rows
MOST_SAMPLES = 8
BLOCK_ROWS = 4096  # compared with the sample at a time: 16 MB of scores


@dataclass(frozen=True)
class ExactSample:
    """Rows drawn from a corpus, and for each how many later rows have a cosine of at least `minimum` with it."""

    queries: Tensor  # (n,) int64, distinct
    counts: NDArray[np.int64]  # (n,)
    minimum: float


@dataclass(frozen=True)
class Recall:
    """How many (`found`) of the exact join's `pairs` from `queries` sampled rows the index finds.

    `effort`, at most `most_effort`, is that of `Searcher`; `target` is the recall asked for. The pairs of one row are
    found or missed together, so for the interval they count as `independent` = (sum n)^2 / sum n^2.
    """

    found: int
    pairs: int
    queries: int
    independent: float
    effort: int
    most_effort: int
    target: float

    @property
    def share(self) -> float:
        """The recall; NaN if the sample held no pair."""
        return self.found / self.pairs if self.pairs else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval; (0, 1) if the sample held no pair."""
        return wilson_interval(self.share, self.independent)

    @property
    def reached(self) -> bool:
        """Whether the measured recall is at least the target."""
        return self.pairs > 0 and self.share >= self.target


def exact_sample(rows: UnitRows, minimum: float, *, seed: int = 0, size: int = SAMPLE_ROWS) -> ExactSample:
    """Draw `size` rows, up to eight times as many while they have few pairs, and count their exact pairs."""
    generator = np.random.default_rng(seed)
    # All that may be needed are drawn at once, so that the rows do not depend on how far the sample grows.
    drawn = torch.from_numpy(generator.choice(rows.count, min(rows.count, MOST_SAMPLES * size), replace=False))
    counts = np.empty(0, np.int64)
    while len(counts) < len(drawn) and (not len(counts) or counts.sum() < ENOUGH_PAIRS):
        queries = drawn[len(counts) : len(counts) + size]
        counts = np.concatenate([counts, _later_neighbours(rows, queries, minimum)])
    return ExactSample(drawn[: len(counts)], counts, minimum)


def _later_neighbours(rows: UnitRows, queries: Tensor, minimum: float) -> NDArray[np.int64]:
    """How many rows j > i reach `minimum` with each of the rows i in `queries`, (n,), by brute force."""
    counts = np.zeros(len(queries), np.int64)
    position_of = dict(zip(queries.tolist(), range(len(queries)), strict=True))
    # NumPy's product is float32, even if torch is set to a lower precision. Scores within the slack of the minimum are
    # decided by the join's own arithmetic, all others by the product.
    vectors = rows.take(queries.to(rows.device)).cpu().numpy()
    for start in range(0, rows.count, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, rows.count)
        scores = vectors @ rows.block(start, stop).cpu().numpy().T  # (n, block)
        scores[np.arange(start, stop) <= queries.numpy()[:, None]] = -2  # below every cosine: not j > i
        certain = scores >= minimum + SLACK
        query, column = ((scores >= minimum - SLACK) & ~certain).nonzero()
        i, j = queries[torch.from_numpy(query)], torch.from_numpy(column) + start
        kept, _, _ = confirm_pairs(rows, i.to(rows.device), j.to(rows.device), minimum)
        counts += certain.sum(1)
        # Not `counts[...] += 1`, which adds one only once for a row that occurs several times.
        np.add.at(counts, [position_of[row] for row in kept.tolist()], 1)
    return counts


def measure_recall(
    searcher: Searcher, rows: UnitRows, sample: ExactSample, *, effort: int, target: float = 0.99
) -> Recall:
    """The share of the sample's exact pairs that `neighbour_pairs` finds with this effort."""
    blocks = neighbour_pairs(searcher, rows, sample.minimum, effort=effort, queries=sample.queries)
    found, pairs = sum(map(len, blocks)), int(sample.counts.sum())
    independent = effective_count(sample.counts)
    return Recall(found, pairs, len(sample.queries), independent, effort, searcher.most_effort, target)


def choose_effort(searcher: Searcher, rows: UnitRows, minimum: float, *, target: float = 0.99, seed: int = 0) -> Recall:
    """The first of the efforts 1, 2, 4, ... whose measured recall reaches `target`, with that recall.

    If none does, or the sample holds no pair, it is the greatest effort: all lists of an IVF index.
    """
    if not 0 < target <= 1:
        raise ConfigError(f"a target recall lies between 0 and 1; {as_given(target)} does not")
    sample = exact_sample(rows, minimum, seed=seed)
    # Without a pair nothing can be measured: then only the greatest effort is safe.
    effort = 1 if sample.counts.any() else searcher.most_effort
    while True:
        effort = min(effort, searcher.most_effort)
        recall = measure_recall(searcher, rows, sample, effort=effort, target=target)
        if recall.reached or effort == searcher.most_effort:
            return recall
        effort *= 2
