"""The join through a FAISS index: it finds most of the pairs, checks each exactly, and measures how many it finds."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.index.build import CPU_ALONE, Source, Vectors, build
from blindpairs.index.files import BuildOptions, build_index, load_index
from blindpairs.index.gpus import Gpus
from blindpairs.index.recall import Recall, choose_effort
from blindpairs.index.search import Searcher, neighbour_pairs
from blindpairs.progress import Progress, silent
from blindpairs.selfjoin import PairBlock, UnitRows, pair_cosines
from blindpairs.selfjoin.rows import refuse_unfit
from blindpairs.store import Store

BLOCK_ROWS = 4096  # given to FAISS at a time
STEP_ROWS = 1 << 16  # of one step of progress


class ApproximateJoin:
    """A `selfjoin.Join` through an index. `recall` is None before the first join, and then that of the first join.

    `stored` opens an index of the whole column; rows that do not take part in the join are ignored. Without `stored`
    the index is built in memory, with 4 bytes for each number of a vector.
    """

    def __init__(
        self,
        kind: str,
        *,
        stored: Callable[[], Any] | None = None,
        gpus: Gpus = CPU_ALONE,
    ) -> None:
        self.kind = kind
        self.recall: Recall | None = None
        self._stored, self._gpus = stored, gpus
        self._built: tuple[UnitRows, Searcher] | None = None

    @classmethod
    def of_column(
        cls,
        store: Store,
        column: str,
        kind: str,
        *,
        folder: Path,
        gpus: Gpus = CPU_ALONE,
        progress: Progress = silent,
    ) -> "ApproximateJoin":
        """A join through the index of a store's column in `folder`, which is built first if missing or out of date.

        `gpus.notice` gets a line that says which. Raises what `build_index` raises. An empty store has no index, and
        its join finds nothing.
        """
        if not store.rows:
            return cls(kind, gpus=gpus)
        file = build_index(store, column, folder, kind=kind, options=BuildOptions(gpus=gpus), progress=progress)
        gpus.notice(f"{file.path}: " + ("reused" if file.reused else f"built, {file.reason}"))
        return cls(kind, stored=lambda: load_index(file.path, store), gpus=gpus)

    def __call__(
        self,
        rows: UnitRows,
        minimum: float,
        /,
        *,
        other: UnitRows | None = None,
        progress: Progress = silent,
    ) -> Iterator[PairBlock]:
        """Most pairs of rows i < j with cosine >= `minimum`. `progress(done, total)` counts rows searched."""
        refuse_unfit(rows, minimum, other)
        if rows.count < 2:
            return
        searcher = self._searcher(rows)
        recall = choose_effort(searcher, rows, minimum)
        # Mining joins once for its pairs, and later perhaps for advice at other thresholds: the first is reported.
        self.recall = self.recall or recall
        progress(0, rows.count)
        for start in range(0, rows.count, STEP_ROWS):
            stop = min(start + STEP_ROWS, rows.count)
            queries = torch.arange(start, stop)
            for block in neighbour_pairs(searcher, rows, minimum, effort=recall.effort, queries=queries):
                # The index knows one encoder's vectors; the other encoder's cosines are computed for the found pairs.
                yield replace(block, other=pair_cosines(other, block.i, block.j)) if other is not None else block
            progress(stop, rows.count)

    def describe(self) -> dict[str, Any]:
        """What pairs.json says of the join. Recall and its interval are null if the sample held no pair."""
        described: dict[str, Any] = {"method": self.kind, "exact": False, "recall": None, "recall_interval": None}
        if self.recall is not None and self.recall.pairs:
            described |= {"recall": self.recall.share, "recall_interval": list(self.recall.interval)}
        if self.recall is not None:
            described |= {name: getattr(self.recall, name) for name in ("found", "pairs", "queries", "effort")}
        if self._built is not None:
            described["device"] = self._built[1].device
        return described

    def _searcher(self, rows: UnitRows) -> Searcher:
        # A second join of the same rows, such as one with a lower minimum, searches the same index.
        if self._built is None or self._built[0] is not rows:
            searcher = (
                Searcher(self._index(rows), self.kind, self._gpus)
                if self._stored is None
                else _SomeRows(self._stored(), self.kind, rows.chosen, self._gpus)
            )
            self._built = rows, searcher
        return self._built[1]

    def _index(self, rows: UnitRows) -> Any:
        def blocks() -> Iterator[Vectors]:
            for start in range(0, rows.count, BLOCK_ROWS):
                yield rows.block(start, min(start + BLOCK_ROWS, rows.count)).cpu().numpy()

        return build(Source(rows.count, rows.dimension, blocks), self.kind, gpus=self._gpus).index


class _SomeRows(Searcher):
    """The index of a whole column, of which only the rows `chosen` (n,) are found, by their position in `chosen`."""

    def __init__(self, index: Any, kind: str, chosen: Tensor | None, gpus: Gpus) -> None:
        super().__init__(index, kind, gpus)
        self._position: NDArray[np.int64] | None = None  # (rows of the column,); -1: not chosen
        if chosen is not None:
            self._position = np.full(int(index.ntotal), -1, np.int64)
            self._position[chosen.cpu().numpy()] = np.arange(len(chosen))

    def neighbours(self, vectors: Vectors, minimum: float, effort: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `Searcher.neighbours`, with positions in the chosen rows."""
        query, neighbour = super().neighbours(vectors, minimum, effort)
        if self._position is None:
            return query, neighbour
        neighbour = self._position[neighbour]
        return query[neighbour >= 0], neighbour[neighbour >= 0]
