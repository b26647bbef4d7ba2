"""Pairs above a cosine through an index: the index proposes, the exact join's arithmetic decides.

A pair (i, j), i < j, is found if the search from row i meets row j. So every pair comes once, and none has to be
remembered. Every reported pair is a pair of the exact join, with the same cosine to the last bit. `recall` measures how
many are missed by exactly these searches.
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
from blindpairs.selfjoin.rows import confirmed

Indices = NDArray[np.int64]

# The error of a score is below 2^-13 for float32 vectors and below 2^-10 for vectors stored as float16.
SLACK = 2.0**-10
# Of one search. Flat indexes multiply matrices only for many queries (256 cost twice what 1024 do), but all results of
# a search arrive at once, at 12 bytes each.
MOST_QUERIES = 1024
BLOCK_PAIRS = 1 << 20
MOST_EF = 4096
GPU_MOST = 2048  # neighbours, or lists, that a GPU index can look at


class Searcher:
    """An index that is searched with an `effort` from 1 to `most_effort`; a flat or IVF index then finds everything.

    Effort is nprobe of an IVF index and efSearch of an HNSW graph. Other indexes have `most_effort` 1. If a copy of the
    index fits on `gpus`, it is searched until it fails; then the CPU searches.
    """

    def __init__(self, index: Any, kind: str, gpus: Gpus = CPU_ALONE) -> None:
        self.index, self.kind, self._gpus = index, kind, gpus
        ivf = faiss.try_extract_index_ivf(index)
        self._knob, self.most_effort = "", 1
        if ivf is not None:
            self._knob, self.most_effort = "nprobe", int(ivf.nlist)
        elif isinstance(faiss.downcast_index(index), faiss.IndexHNSW):
            self._knob, self.most_effort = "efSearch", min(MOST_EF, max(1, int(index.ntotal)))
        self._copy = gpus.copy(index)
        self.device = gpus.describe() if self._copy is not None else "cpu"

    def neighbours(self, vectors: Vectors, minimum: float, effort: int) -> tuple[Indices, Indices]:
        """(position in `vectors`, row) of every row with a score of at least `minimum`; vectors (n, D) unit."""
        with faiss_errors(self.kind):
            if self._knob:
                faiss.ParameterSpace().set_index_parameter(self.index, self._knob, effort)
            if self._copy is not None and effort <= GPU_MOST:
                try:
                    return self._on_gpus(vectors, minimum, effort)
                except FAILURES as error:
                    self._copy = None  # frees its memory
                    self.device += " and cpu"
                    self._gpus.step_in("the CPU goes on searching", error)
            return _by_range(self.index, vectors, minimum)

    def _on_gpus(self, vectors: Vectors, minimum: float, effort: int) -> tuple[Indices, Indices]:
        if self._knob:
            faiss.GpuParameterSpace().set_index_parameter(self._copy, self._knob, effort)
        return by_growing_k(self._copy, self.index, vectors, minimum)


def _by_range(index: Any, vectors: Vectors, minimum: float) -> tuple[Indices, Indices]:
    # FAISS keeps scores strictly above; the caller's slack is far larger than the difference.
    # An HNSW index that checks for Ctrl-C between queries allocates its results twice, which aborts the process.
    callback: Any = faiss.PythonInterruptCallback
    callback.clear_instance()
    try:
        limits, _, rows = index.range_search(vectors, minimum)
    finally:
        callback.reset()
    return np.repeat(np.arange(len(vectors)), np.diff(limits.astype(np.int64))), rows


def by_growing_k(index: Any, fallback: Any, vectors: Vectors, minimum: float) -> tuple[Indices, Indices]:
    """A range search on an index that only finds the k nearest: k grows until the last one is too far.

    Queries with more neighbours than an index on a GPU can return go to `fallback`, the same index on the CPU.
    """
    found: list[tuple[Indices, Indices]] = []
    left = np.arange(len(vectors))
    k = 64
    while len(left) and k <= GPU_MOST:
        scores, rows = index.search(vectors[left], k)  # (n, k) each, best first; row -1 where there are fewer
        ended = (scores[:, -1] < minimum) | (rows[:, -1] < 0)
        near = (scores >= minimum) & (rows >= 0) & ended[:, None]
        query, rank = near.nonzero()
        found.append((left[query], rows[query, rank]))
        left = left[~ended]
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
    """The pairs i < j with cosine >= `minimum` that the searches from rows i meet, each once, with exact cosines.

    `rows` are those that were indexed; `queries` (n,) the rows to search from, all by default. Each search takes as
    many queries as should give `block` candidates, judged by the search before.
    """
    queries = torch.arange(rows.count) if queries is None else queries
    start, size = 0, 16
    while start < len(queries):
        asked = queries[start : start + size]
        query, met = searcher.neighbours(rows.take(asked.to(rows.device)).cpu().numpy(), minimum - SLACK, effort)
        i, j = asked[torch.from_numpy(query)], torch.from_numpy(met)
        later = j > i
        yield PairBlock(*confirmed(rows, i[later].to(rows.device), j[later].to(rows.device), minimum))
        start += len(asked)
        size = max(1, min(MOST_QUERIES, 2 * size, block * len(asked) // max(1, len(met))))
