"""The images of a corpus, and which of them take part in the search: each unique image once, blank ones left out."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import InputError

HASH_ROWS = 4096
ALIKE = 0.999  # the least cosine of one image embedded twice: batch size and machine change the rounding

Indices = NDArray[np.int64]
Vectors = NDArray[Any]


def pair_id(image_id: str, other: str) -> str:
    """The id of a pair, the same in either order: the first 16 digits of the sha256 of both ids, the smaller first."""
    return hashlib.sha256("".join(sorted((image_id, other))).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Images:
    """The metadata of each row of the vectors, in their order."""

    ids: Sequence[str]
    uris: Sequence[str]
    low_information: NDArray[np.bool_]  # (N,)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def numbered(cls, count: int) -> "Images":
        """Images known by their row numbers alone: id and uri are the number, zero-padded so that they sort as rows."""
        ids = [f"{row:0{len(str(max(0, count - 1)))}}" for row in range(count)]
        return cls(ids, ids, np.zeros(count, bool))


def check_arrays(images: Images, vectors: Sequence[Vectors]) -> None:
    """Raise InputError unless vectors are float16 or float32 matrices with one row per image."""
    for one in vectors:
        if one.ndim != 2 or one.dtype not in (np.float16, np.float32):
            raise InputError(
                f"vectors must be (N, D) arrays of float16 or float32, not {one.shape} {one.dtype}: "
                "reshape them, or convert them with astype"
            )
    lengths = [len(images.ids), len(images.uris), len(images.low_information), *map(len, vectors)]
    if len(set(lengths)) > 1:
        raise InputError(f"ids, uris, flags and vectors must have one row per image; they have {lengths}")


def unique_indices(images: Images, vectors: Sequence[Vectors], taking_part: Indices) -> tuple[Indices, int]:
    """One row per unique image among `taking_part`, and how many rows share an id although their vectors differ.

    Rows with equal ids, or with equal vectors in every encoder, are the same image. They are near-duplicates by
    definition, and would cause a flood of pairs later. The row with the smallest id is taken (then the smallest uri,
    then a hash of the vectors), so the order of the corpus does not matter.
    """
    hashes = np.zeros(len(taking_part), np.uint64)
    for seed, one in enumerate(vectors):
        hashes += _row_hashes(one, taking_part, seed)  # wraps around: modulo 2^64
    marked = zip(taking_part.tolist(), hashes.tolist(), strict=True)
    names = [(images.ids[row], images.uris[row], mark) for row, mark in marked]
    # Sorted by id: the copies of one image stand next to each other, and the copy that is taken comes first.
    order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    ranked, hashes = taking_part[order], hashes[order]
    first = _starts(np.array([images.ids[row] for row in ranked.tolist()]))
    twins = np.flatnonzero(~first)
    unlike = _differing(vectors, ranked[twins], ranked[_leaders(first)[twins]], _alike)
    ranked, hashes = ranked[first], hashes[first]
    order = np.argsort(hashes, kind="stable")  # stable: of one hash the smallest id comes first
    ranked, starts = ranked[order], _starts(hashes[order])
    suspects = np.flatnonzero(~starts)  # equal hashes are only a hint: equal values decide
    starts[suspects] = _differing(vectors, ranked[suspects], ranked[_leaders(starts)[suspects]], _equal)
    return np.sort(ranked[starts]), int(unlike.sum())


def _starts(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a run of equal values begins."""
    starts = np.ones(len(ordered), bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    return starts


def _leaders(starts: NDArray[np.bool_]) -> Indices:
    """For each place, the place where its run begins."""
    return np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))


def _differing(
    vectors: Sequence[Vectors], rows: Indices, others: Indices, same: Callable[[Vectors, Vectors], NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Which of the pairs (rows, others) are not `same` in every encoder, computed block by block."""
    differing = np.zeros(len(rows), bool)
    for one in vectors:
        for start in range(0, len(rows), HASH_ROWS):
            part = slice(start, start + HASH_ROWS)
            differing[part] |= ~same(one[rows[part]], one[others[part]])
    return differing


def _equal(left: Vectors, right: Vectors) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = (left == right).all(axis=1)
    return equal


def _alike(left: Vectors, right: Vectors) -> NDArray[np.bool_]:
    """Whether the cosine of each two rows is at least ALIKE, in float64, where squares of float32 do not overflow."""
    dot, left_square, right_square = (
        np.einsum("ij,ij->i", *both, dtype=np.float64) for both in ((left, right), (left, left), (right, right))
    )
    alike: NDArray[np.bool_] = dot >= ALIKE * np.sqrt(left_square) * np.sqrt(right_square)
    return alike


def _row_hashes(vectors: Vectors, rows: Indices, seed: int) -> NDArray[np.uint64]:
    """A 64-bit multilinear hash of each row's bits, block by block: (len(rows),)."""
    words = np.dtype(f"u{vectors.dtype.itemsize}")
    weights = np.random.default_rng(seed).integers(0, 2**64, size=vectors.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), HASH_ROWS):
        block = np.ascontiguousarray(vectors[rows[start : start + HASH_ROWS]]).view(words)
        hashes[start : start + HASH_ROWS] = block.astype(np.uint64) @ weights  # wraps around: modulo 2^64
    return hashes
