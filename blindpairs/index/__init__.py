"""Approximate pairs through FAISS indexes, for corpora where even the skipping exact join takes too long.

Read in this order: `build` (an index from vectors), `search` (pairs from an index), `recall` (what it misses, and how
hard to search), `files` (indexes kept in the work folder), `gpus` (and what happens where they fail). Nothing
approximate is returned without its measured recall.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.index.build import CPU_ALONE, Source, Vectors, build
from blindpairs.index.files import IndexFile, Making, build_index, index_path, load_index
from blindpairs.index.gpus import Gpus
from blindpairs.index.recall import ExactSample, Recall, choose_effort, exact_sample, measure_recall
from blindpairs.index.search import Searcher, neighbour_pairs
from blindpairs.progress import Progress, silent
from blindpairs.selfjoin import PairBlock, UnitRows
from blindpairs.selfjoin.rows import refuse_no_cosine
from blindpairs.store import Store

__all__ = [
    "ExactSample",
    "Gpus",
    "IndexFile",
    "IndexOptions",
    "Making",
    "Recall",
    "Searcher",
    "approximate_pairs",
    "build_index",
    "choose_effort",
    "exact_sample",
    "index_pairs",
    "index_path",
    "load_index",
    "measure_recall",
    "neighbour_pairs",
]

BLOCK_ROWS = 4096


@dataclass(frozen=True)
class IndexOptions:
    """`kind` is flat, ivf, hnsw or a FAISS factory string; searching goes as far as `target_recall` takes."""

    kind: str = "ivf"
    target_recall: float = 0.99
    seed: int = 0
    gpus: Gpus = CPU_ALONE


DEFAULTS = IndexOptions()


def approximate_pairs(
    vectors: UnitRows | Tensor | NDArray[Any],
    minimum: float,
    *,
    kind: str = "ivf",
    target_recall: float = 0.99,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Iterator[PairBlock], Recall]:
    """Pairs of rows i < j of `vectors` (N, D) with cosine >= `minimum`, most of them, and the measured share of them.

    Each pair comes once, decided as `similar_pairs` decides it. `progress(done, total)` counts rows indexed.
    Raises ConfigError for a kind that FAISS does not know, InputError for vectors that have no direction.
    """
    refuse_no_cosine(minimum)
    rows = vectors if isinstance(vectors, UnitRows) else UnitRows(torch.as_tensor(vectors))

    def blocks() -> Iterator[Vectors]:
        for start in range(0, rows.count, BLOCK_ROWS):
            yield rows.block(start, min(start + BLOCK_ROWS, rows.count)).cpu().numpy()

    built = build(Source(rows.count, rows.dimension, blocks), kind, seed, progress)
    return _searched(Searcher(built.index, kind), rows, minimum, IndexOptions(kind, target_recall, seed))


def index_pairs(
    store: Store,
    column: str,
    folder: Path,
    minimum: float,
    options: IndexOptions = DEFAULTS,
    progress: Progress = silent,
) -> tuple[Iterator[PairBlock], Recall, IndexFile]:
    """The same over one encoder's column of a Store, with the index kept in `folder` for the next time."""
    refuse_no_cosine(minimum)
    file = build_index(
        store, column, folder, kind=options.kind, making=Making(options.seed, options.gpus), progress=progress
    )
    rows = UnitRows(torch.from_numpy(store.column(column)))
    searcher = Searcher(load_index(file.path, store), options.kind, options.gpus)
    return *_searched(searcher, rows, minimum, options), file


def _searched(
    searcher: Searcher, rows: UnitRows, minimum: float, options: IndexOptions
) -> tuple[Iterator[PairBlock], Recall]:
    recall = choose_effort(searcher, rows, minimum, target=options.target_recall, seed=options.seed)
    return neighbour_pairs(searcher, rows, minimum, effort=recall.effort), recall
