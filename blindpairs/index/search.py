"""Pairs above a cosine through an index: the index proposes, the exact join's arithmetic decides.

A pair (i, j), i < j, is found if the search from row i returns row j. So every pair is found once, and earlier pairs
need not be kept in memory. Every reported pair is a pair of the exact join, with the same cosine to the last bit.
`recall` measures how many pairs these searches miss.
"""

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.index.build import CPU_ALONE, Vectors, faiss_errors
from blindpairs.index.gpus import FAILURES, Gpus
from blindpairs.selfjoin import PairBlock, UnitRows
from blindpairs.selfjoin.rows import confirm_pairs

Indices = NDArray[np.int64]

# The error of a score is below 2^-13 for float32 vectors and below 2^-10 for vectors stored as float16.
SLACK = 2.0**-10
# Queries of one search. Flat indexes multiply matrices only for many queries (256 cost twice as much each as 1024 do),
# but all results of a search are in memory at once, at 12 bytes each.
MOST_QUERIES = 1024
BLOCK_PAIRS = 1 << 20
MOST_EF = 4096
MOST_ON_GPU = 2048  # neighbours, or lists, that a GPU index can look at


class Searcher:
    """An index that is searched with an `effort` from 1 to `most_effort`; a flat or IVF index then misses nothing.

    Effort is nprobe of an IVF index and efSearch of an HNSW graph. Other indexes have `most_effort` 1. If a copy of the
    index fits on `gpus`, the copy is searched until that fails; then the CPU searches.
    """

    def __init__(self, index: Any, kind: str, gpus: Gpus = CPU_ALONE) -> None:
        self.index, self.kind, self._gpus = index, kind, gpus
        ivf = faiss.try_extract_index_ivf(index)  # also out of a chain such as OPQ8,IVF16,PQ8; None if it has none
        self._effort_parameter, self.most_effort = "", 1
        if ivf is not None:
            self._effort_parameter, self.most_effort = "nprobe", int(ivf.nlist)
        elif isinstance(faiss.downcast_index(index), faiss.IndexHNSW):
            self._effort_parameter, self.most_effort = "efSearch", min(MOST_EF, max(1, int(index.ntotal)))
        self._copy = gpus.copy(index)
        self.device = gpus.describe() if self._copy is not None else "cpu"

    def neighbours(self, vectors: Vectors, minimum: float, effort: int) -> tuple[Indices, Indices]:
        """(position in `vectors`, row) of every row with a score of at least `minimum`; vectors (n, D) unit."""
        with faiss_errors(self.kind):
            if self._effort_parameter:
                faiss.ParameterSpace().set_index_parameter(self.index, self._effort_parameter, effort)
            if self._copy is not None and effort <= MOST_ON_GPU:
                try:
                    return self._on_gpus(vectors, minimum, effort)
                except FAILURES as error:
                    # The results of the failed search are lost, and the CPU searches these queries again, below.
                    self._copy = None  # frees its memory
                    self.device += " and cpu"
                    self._gpus.report_fallback("the CPU goes on searching", error)
            return _by_range(self.index, vectors, minimum)

    def _on_gpus(self, vectors: Vectors, minimum: float, effort: int) -> tuple[Indices, Indices]:
        if self._effort_parameter:
            faiss.GpuParameterSpace().set_index_parameter(self._copy, self._effort_parameter, effort)
        return by_growing_k(self._copy, self.index, vectors, minimum)


def _by_range(index: Any, vectors: Vectors, minimum: float) -> tuple[Indices, Indices]:
    # FAISS keeps scores strictly above the threshold; the caller's slack is far larger than the difference.
    # An HNSW index that checks for Ctrl-C between queries allocates its results twice, which aborts the process. So
    # FAISS's interrupt callback is removed for the search.
    callback: Any = faiss.PythonInterruptCallback
    callback.clear_instance()
    try:
        limits, _, rows = index.range_search(vectors, minimum)
    finally:
        callback.reset()
    # The rows of query q are rows[limits[q]:limits[q + 1]]; limits are unsigned, and differences of those are too.
    return np.repeat(np.arange(len(vectors)), np.diff(limits.astype(np.int64))), rows


def by_growing_k(index: Any, fallback: Any, vectors: Vectors, minimum: float) -> tuple[Indices, Indices]:
    """A range search on an index that only finds the k nearest: k grows until the k-th scores below `minimum`.

    Queries with more neighbours than an index on a GPU can return go to `fallback`, the same index on the CPU.
    """
    found: list[tuple[Indices, Indices]] = []
    left = np.arange(len(vectors))
    k = 64
    while len(left) and k <= MOST_ON_GPU:
        scores, rows = index.search(vectors[left], k)  # (n, k) each, best first; row -1 where there are fewer
        complete = (scores[:, -1] < minimum) | (rows[:, -1] < 0)  # (n,): all its neighbours are among the k
        near = (scores >= minimum) & (rows >= 0) & complete[:, None]
        query, rank = near.nonzero()
        found.append((left[query], rows[query, rank]))
        left = left[~complete]
        k *= 4
    if len(left):
        query, rows = _by_range(fallback, vectors[left], minimum)
        found.append((left[query], rows))
    return np.concatenate([query for query, _ in found]), np.concatenate([rows for _, rows in found])


def neighbour_pairs(
    searcher: Searcher,
    rows: UnitRows,
    minimum: float,
    *,
    effort: int,
    queries: Tensor | None = None,
    block: int = BLOCK_PAIRS,
) -> Iterator[PairBlock]:
    """The pairs i < j with cosine >= `minimum` that the searches from rows i find, each once, with exact cosines.

    `rows` are those that were indexed; `queries` (n,) the rows to search from, all by default. The number of queries in
    a search is chosen so that it gives about `block` candidates, estimated from the previous search.
    """
    queries = torch.arange(rows.count) if queries is None else queries
    start, size = 0, 16  # few at first, because nothing is known about the number of candidates
    while start < len(queries):
        batch = queries[start : start + size]
        query, neighbour = searcher.neighbours(rows.take(batch.to(rows.device)).cpu().numpy(), minimum - SLACK, effort)
        i, j = batch[torch.from_numpy(query)], torch.from_numpy(neighbour)
        later = j > i  # also drops each row's match with itself
        yield PairBlock(*confirm_pairs(rows, i[later].to(rows.device), j[later].to(rows.device), minimum))
        start += len(batch)
        size = max(1, min(MOST_QUERIES, 2 * size, block * len(batch) // max(1, len(neighbour))))
