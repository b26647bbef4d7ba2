"""FAISS indexes of unit vectors: which kind, how many lists, trained on which rows.

An index is built in two passes over the rows, a block at a time: the first draws the training sample, the second adds
the rows. Besides the index itself, memory holds one block and at most TRAINING_BYTES of sample. The same rows and seed
give the same flat or IVF index; the graph of an HNSW index also depends on the scheduling of its threads.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import ConfigError, InputError
from blindpairs.index.gpus import FAILURES, Gpus, short_message
from blindpairs.progress import Progress, silent

Vectors = NDArray[np.float32]

EXAMPLES = "flat, ivf, hnsw, or a FAISS factory string such as IVF4096,SQfp16; `mine --method exact` needs no index"
CPU_ALONE = Gpus()
LEAST_PER_LIST, MOST_PER_LIST = 39, 256  # training points; FAISS warns below the first and drops those above the second
TRAINING_BYTES = 1 << 30


@dataclass(frozen=True)
class Source:
    """What is indexed: `blocks()` begins a new pass over all rows, in order, as (n, D) float32 unit vectors."""

    rows: int
    dimension: int
    blocks: Callable[[], Iterator[Vectors]]


@dataclass(frozen=True)
class Built:
    """A FAISS index (inner product; the id of a vector is its row) and how it was built."""

    index: Any
    factory: str
    training_rows: int


def build(source: Source, kind: str, seed: int = 0, progress: Progress = silent, gpus: Gpus = CPU_ALONE) -> Built:
    """An index of `kind` over all rows; `progress(done, total)` counts the rows added; `gpus` run the k-means.

    Raises InputError if there are no rows, ConfigError for a kind that FAISS does not know or that cannot be searched
    by threshold.
    """
    if source.rows == 0:
        raise InputError("there are no vectors to index: embed or import some images first")
    points = training_rows(source.rows, source.dimension)
    factory = factory_string(kind, source.rows, points)
    with faiss_errors(kind):
        index = _empty(source, factory)
        trained_on = 0 if index.is_trained else points
        if trained_on:
            # A function, not the empty index: after a failure on a GPU, training starts again on a new one.
            index = _trained(lambda: _empty(source, factory), _sample(source, points, seed), seed, gpus)
        for block in source.blocks():
            if index.ntotal == 0:
                # Some kinds cannot search by threshold, which FAISS says only at a search of an index that is not
                # empty. The threshold of 2 finds nothing. Better now than after hours of adding.
                index.add(block[:1])
                index.range_search(block[:1], 2.0)
                block = block[1:]
            index.add(block)
            progress(index.ntotal, source.rows)
    return Built(index, factory, trained_on)


def training_rows(rows: int, dimension: int) -> int:
    """How many rows an index is trained on: up to 256 for each of 4 sqrt(rows) lists, within TRAINING_BYTES."""
    return min(rows, MOST_PER_LIST * _wanted_lists(rows), max(1, TRAINING_BYTES // (4 * dimension)))


def factory_string(kind: str, rows: int, points: int) -> str:
    """The string for FAISS's factory.

    `ivf` has 4 sqrt(rows) lists, so that comparing a query with all centroids costs about as much as searching a few
    lists. Neither it nor a factory string gets more lists than one for every 39 training `points`.
    """
    most = max(1, points // LEAST_PER_LIST)
    if kind == "ivf":
        return f"IVF{min(_wanted_lists(rows), most)},Flat"
    factory = {"flat": "Flat", "hnsw": "HNSW32"}.get(kind, kind)
    # FAISS refuses to train more lists than it has points, and warns about fewer than 39 points a list.
    return re.sub(r"\bIVF(\d{1,9})", lambda asked: f"IVF{min(int(asked[1]), most)}", factory)


def _wanted_lists(rows: int) -> int:
    return max(1, int(4 * math.sqrt(rows)))


@contextmanager
def faiss_errors(kind: str) -> Iterator[None]:
    """Raise FAISS's errors as ConfigError, without source lines and function signatures."""
    try:
        yield
    except RuntimeError as error:
        raise ConfigError(f"no index of kind {kind!r}: FAISS says {short_message(error)!r}; use {EXAMPLES}") from error


def _empty(source: Source, factory: str) -> Any:
    return faiss.index_factory(source.dimension, factory, faiss.METRIC_INNER_PRODUCT)


def _trained(empty: Callable[[], Any], points: Vectors, seed: int, gpus: Gpus) -> Any:
    """A trained index. If the GPUs fail, a new one is trained on the CPU, as if there were no GPU."""
    index = empty()
    ivf: Any = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.cp.seed = seed
        # k-means is nearly all of the work and moves to the GPUs as a whole. FAISS keeps no reference to `lists`.
        lists = gpus.copy(faiss.IndexFlatIP(ivf.d))
        if lists is not None:
            ivf.clustering_index = lists
            try:
                with _without_few_points_warning(index):
                    index.train(points)
                ivf.clustering_index = None  # frees the GPUs' memory; searches do not need it
                return index
            except FAILURES as error:
                gpus.report_fallback("the index is trained on the CPU", error)
            return _trained(empty, points, seed, CPU_ALONE)
    with _without_few_points_warning(index):
        index.train(points)
    return index


@contextmanager
def _without_few_points_warning(index: Any) -> Iterator[None]:
    """Silence FAISS's warning about few training points, which it writes to stderr: a small store is no mistake."""
    # FAISS makes a rotation's quantizer inside train(), too late to change its settings. It uses one of ours if it is
    # set beforehand. C++ holds a bare pointer, so the Python objects must live until the pointer is cleared below.
    rotations = [part for part in _parts_of(index) if isinstance(part, faiss.OPQMatrix)]
    quantizers = [faiss.ProductQuantizer(part.d_out, part.M, 8) for part in rotations]  # as FAISS would make it
    for part, quantizer in zip(rotations, quantizers, strict=True):
        part.pq = quantizer
    for part in _parts_of(index):
        if hasattr(part, "cp"):
            part.cp.min_points_per_centroid = 1
    yield
    for part in rotations:
        part.pq = None


def _parts_of(part: Any) -> Iterator[Any]:
    """An index and every part that is trained with it, each as its most derived class."""
    # Through Python an attribute has the type of its C++ declaration, which lacks the fields of the derived class.
    if isinstance(part, faiss.Index):
        part = faiss.downcast_index(part)
    elif isinstance(part, faiss.VectorTransform):
        part = faiss.downcast_VectorTransform(part)
    yield part
    chain = getattr(part, "chain", None)
    within = [chain.at(number) for number in range(chain.size())] if chain is not None else []
    within += [getattr(part, name, None) for name in ("index", "base_index", "storage", "quantizer", "pq", "rq")]
    for one in within:
        if one is not None:
            yield from _parts_of(one)


def _sample(source: Source, count: int, seed: int) -> Vectors:
    """`count` distinct rows, in their order: (count, D)."""
    chosen = np.sort(np.random.default_rng(seed).choice(source.rows, count, replace=False, shuffle=False))
    points = np.empty((count, source.dimension), np.float32)
    start = 0
    for block in source.blocks():
        first, last = np.searchsorted(chosen, (start, start + len(block)))
        points[first:last] = block[chosen[first:last] - start]
        start += len(block)
    return points
