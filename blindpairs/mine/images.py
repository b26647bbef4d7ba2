"""Who takes part in the search: every distinct picture once, blank ones left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import InputError

HASH_ROWS = 4096

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """What is known of each row of the vectors, in their order."""

    ids: Sequence[str]
    uris: Sequence[str]
    low_information: NDArray[np.bool_]  # (N,)

    def __len__(self) -> int:
        return len(self.ids)


def check_lengths(images: Images, vectors: Sequence[NDArray[Any]]) -> None:
    """Vectors and metadata must be of the same images; InputError with the lengths where they cannot be."""
    lengths = [len(images.ids), len(images.uris), len(images.low_information), *map(len, vectors)]
    if len(set(lengths)) > 1:
        raise InputError(f"ids, uris, flags and vectors must have one row per image; they have {lengths}")


def distinct_rows(images: Images, vectors: Sequence[NDArray[Any]], taking_part: Rows) -> Rows:
    """Of the rows `taking_part`, one for each picture: equal ids, or equal vectors in every encoder, are one.

    The row with the smallest id stands for its picture (then the smallest uri), so that the order of the corpus does
    not matter. Such rows are near-duplicates by definition; told apart here they would be a flood of pairs later.
    """
    ranked = np.array(sorted(taking_part.tolist(), key=lambda row: (images.ids[row], images.uris[row])), dtype=np.int64)
    ids = np.array([images.ids[row] for row in ranked])
    first = np.ones(len(ranked), bool)
    first[1:] = ids[1:] != ids[:-1]
    ranked = ranked[first]
    hashes = sum((_row_hashes(one, ranked, seed) for seed, one in enumerate(vectors)), np.zeros(len(ranked), np.uint64))
    order = np.argsort(hashes, kind="stable")  # stable: of one hash the smallest id comes first
    leader = np.maximum.accumulate(np.where(_starts(hashes[order]), np.arange(len(order)), 0))
    same = leader != np.arange(len(order))
    for one in vectors:  # equal hashes are a hint; only equal bytes are the same picture
        suspects = np.flatnonzero(same)
        for start in range(0, len(suspects), HASH_ROWS):
            part = suspects[start : start + HASH_ROWS]
            pairs = one[ranked[order[part]]] == one[ranked[order[leader[part]]]]
            same[part] = pairs.all(axis=1)
    return np.sort(ranked[order[~same]])


def _starts(ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    starts = np.ones(len(ordered), bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    return starts


def _row_hashes(vectors: NDArray[Any], rows: Rows, seed: int) -> NDArray[np.uint64]:
    """A 64-bit multilinear hash of each row's bits, block by block: (len(rows),)."""
    words = np.dtype(f"u{vectors.dtype.itemsize}")
    weights = np.random.default_rng(seed).integers(0, 2**64, size=vectors.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), HASH_ROWS):
        block = np.ascontiguousarray(vectors[rows[start : start + HASH_ROWS]]).view(words)
        hashes[start : start + HASH_ROWS] = block.astype(np.uint64) @ weights  # wraps around: modulo 2^64
    return hashes
