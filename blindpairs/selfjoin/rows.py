"""The vectors of a join, their cosines, and which pairs have a cosine that is large enough.

The vectors are never converted as a whole (those of a corpus are float16). Their squared lengths in float64 are kept,
from which `cosine.py` computes cosines, and their lengths in float32, so that a row has the same float32 numbers
however often it is read. Both have the same bits on every device.

**Deciding.** `cosine.py` defines the cosine that decides. A float32 dot product of unit rows is within g(D + 8) of it,
g(n) = n u / (1 - n u), u = 2^-24. Of the D + 8, D are for the sum; 4 for two rows that were each divided by a rounded
length, or 6 if they were scaled by a rounded 1 / length (`compiled.c`); the rest is for rounding the minimum itself and
for `cosine_error`, which is far smaller than u. A pair whose float32 product is below the minimum by more than that is
rejected. Every other pair is decided, and reported, by the definition. So all engines agree on every pair.
"""

import copy
import math
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.errors import ConfigError, InputError
from blindpairs.selfjoin.bound import BLOCK_ROWS, Layout
from blindpairs.selfjoin.c_interface import CompiledCode, RowsStruct
from blindpairs.selfjoin.compiler import compiled_code
from blindpairs.selfjoin.cosine import error_growth, quotient, root, summed
from blindpairs.selfjoin.shown import as_given

MEASURED_ROWS = 256  # at a time by torch: their float64 squares stay in the cache
CHUNK_PAIRS = 128  # two blocks of 128 x 768 float32 rows are 0.8 MB: in the cache from the gather to the sum

Vectors = Tensor | NDArray[np.floating[Any]]
Decided = tuple[Tensor, Tensor, Tensor]  # (i, j, float64 cosine) of pairs whose cosine is large enough


@dataclass(frozen=True)
class PairBlock:
    """Some of the pairs found by a join: n pairs of row numbers i < j, as CPU tensors of length n."""

    i: Tensor  # (n,) int64
    j: Tensor  # (n,) int64
    similarity: Tensor  # (n,) float64: the cosine in the joined vectors
    other: Tensor | None = None  # (n,) float64: the cosine in the other vectors; None if there are none

    def __len__(self) -> int:
        return len(self.i)


class Scratch(threading.local):
    """Named buffers that each thread reuses. A buffer is valid until the thread takes the same name again.

    Without reuse the allocator returns every block of some 100 KB to the system, and the page faults of a new one cost
    as much as the arithmetic on it. They took half of the time of a join before buffers were reused.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._blocks: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """An uninitialised tensor of this shape, from the start of the buffer `name`."""
        size = math.prod(shape)
        block = self._blocks.get(name)
        if block is None or block.dtype != dtype or len(block) < size:
            block = self._blocks[name] = torch.empty(size, dtype=dtype, device=self._device)
        return block[:size].view(shape)


def where(mask: Tensor) -> Tensor:
    """The indices at which a boolean vector is true, ascending; on a CPU in an eighth of the time of torch.nonzero."""
    return torch.from_numpy(np.flatnonzero(mask.numpy())) if mask.device.type == "cpu" else mask.nonzero()[:, 0]


def as_tensor(vectors: Vectors) -> Tensor:
    """An array as a tensor that shares its memory; a tensor unchanged. The join only reads it."""
    if isinstance(vectors, Tensor):
        return vectors
    if vectors.dtype not in (np.float16, np.float32):
        raise InputError(f"a join needs an (N, D) matrix of float16 or float32, this one is {vectors.dtype}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        try:
            return torch.from_numpy(vectors)
        except ValueError:  # negative strides, which torch does not support
            return torch.from_numpy(vectors.copy())


def refuse_no_cosine(minimum: float) -> None:
    """Raise ConfigError for a `minimum` outside of -1 to 1."""
    if not -1.0 <= minimum <= 1.0:
        raise ConfigError(f"a cosine lies between -1 and 1; {as_given(minimum)} does not")


def refuse_unfit(rows: "UnitRows", minimum: float, other: "UnitRows | None") -> None:
    """Raise ConfigError for a `minimum` that is no cosine, InputError if `other` has another number of rows."""
    refuse_no_cosine(minimum)
    if other is not None and other.count != rows.count:
        raise InputError(f"there are {rows.count} vectors to join and {other.count} other vectors: give one for each")


class UnitRows:
    """Rows of `vectors` (N, D) float16 or float32, or only those whose numbers are in `chosen` (n,).

    `vectors` is a tensor on any device or a NumPy array; it is neither copied nor written to, and must not change
    while the rows are used. As a unit row, a vector is divided by its length. The length is summed in float64 and
    rounded once, and the division rounds once more, so a unit row is within `2 u + O(u^2)` of the exact one, u = 2^-24,
    whatever the length of the vectors.

    `code` is the compiled code that computes with these rows on the CPU. It is None if torch does: with
    `compiled=False`, if there is no compiled code, and for vectors that it cannot read.
    Raises InputError for another shape or type, for a number in `chosen` that is out of range, and for a row that has
    no direction: its length is 0, not finite, or below 1e-30.
    """

    def __init__(self, vectors: Vectors, chosen: Tensor | None = None, *, compiled: bool = True) -> None:
        vectors = as_tensor(vectors)
        if vectors.ndim != 2 or vectors.dtype not in (torch.float16, torch.float32) or vectors.shape[1] == 0:
            shape = tuple(vectors.shape)
            raise InputError(
                f"a join needs an (N, D) matrix of float16 or float32, this one is {shape} {vectors.dtype}"
            )
        if chosen is not None:
            chosen = chosen.long().contiguous()  # as compiled code reads it
            first, last = (int(chosen.min()), int(chosen.max())) if len(chosen) else (0, -1)
            if first < 0 or last >= len(vectors):
                raise InputError(f"a join of {len(vectors)} vectors cannot choose numbers from {first} to {last}")
        self.vectors = vectors
        self.chosen = chosen  # (N,) numbers, never a copy of the vectors, which may fill half of the memory
        self.count = len(vectors) if chosen is None else len(chosen)
        self.dimension = vectors.shape[1]
        self.device = vectors.device
        self.compiled = compiled
        self.code: CompiledCode | None = compiled_code() if compiled and self.dense else None
        # (N,) each, by row and not by vector
        self.squares = torch.empty(self.count, dtype=torch.float64, device=vectors.device)
        self.lengths = torch.empty(self.count, dtype=torch.float32, device=vectors.device)
        with Cores(self.device) as cores:
            cores.blocks(self._measure, self.count, BLOCK_ROWS)
        self.lengths = root(self.squares).float()
        self._refuse_without_direction()

    @property
    def dense(self) -> bool:
        """Whether compiled code can read them: in host memory (or mapped from a file), with each vector contiguous."""
        return self.device.type == "cpu" and (self.vectors.stride(1) == 1 or self.dimension == 1)

    @property
    def layout(self) -> Layout:
        """How the points of these rows are stored for what multiplies them."""
        return self.code.layout if self.code is not None else Layout()

    def without_compiled_code(self) -> "UnitRows":
        """The same rows, with torch instead of compiled code."""
        rows = copy.copy(self)
        rows.compiled, rows.code = False, None
        return rows

    def struct(self) -> RowsStruct:
        """The addresses of the rows for compiled code. They are valid as long as this object is not deleted."""
        return RowsStruct(
            vectors=self.vectors.data_ptr(),
            lengths=self.lengths.data_ptr(),
            squares=self.squares.data_ptr(),
            chosen=None if self.chosen is None else self.chosen.data_ptr(),
            dimension=self.dimension,
            stride=self.vectors.stride(0),
            is_float16=self.vectors.dtype == torch.float16,
        )

    def block(self, start: int, stop: int) -> Tensor:
        """Rows start to stop as unit rows, (stop - start, D) float32."""
        return self._part(slice(start, stop)) / self.lengths[start:stop, None]

    def take(self, index: Tensor, scratch: Scratch | None = None, name: str = "rows") -> Tensor:
        """The unit rows at `index`, (len(index), D) float32; in the buffer `name` of `scratch` if that is given."""
        scratch = scratch or Scratch(self.device)
        stored, lengths = self.stored(index, scratch, name), torch.index_select(self.lengths, 0, index)
        return torch.div(stored, lengths[:, None], out=scratch.take(name, *stored.shape))

    def stored(self, index: Tensor, scratch: Scratch, name: str = "rows") -> Tensor:
        """The rows at `index` as they are stored, (len(index), D)."""
        # Row numbers become vector numbers here.
        number = index if self.chosen is None else torch.index_select(self.chosen, 0, index)
        out = scratch.take(f"{name} as stored", len(index), self.dimension, dtype=self.vectors.dtype)
        return torch.index_select(self.vectors, 0, number, out=out)  # an eighth of the time of vectors[number]

    def sample(self, count: int, seed: int) -> Tensor:
        """At most `count` rows, drawn without replacement and the same for the same seed."""
        if self.count <= count:
            return self.block(0, self.count)
        return self.take(self._drawn(count, seed))

    def part(self, count: int, seed: int) -> "UnitRows":
        """The rows of `sample` as rows of their own, without a copy of their vectors."""
        if self.count <= count:
            return self
        drawn = self._drawn(count, seed)
        return UnitRows(self.vectors, drawn if self.chosen is None else self.chosen[drawn], compiled=self.compiled)

    def _drawn(self, count: int, seed: int) -> Tensor:
        # Drawn with replacement and made unique: a permutation of a billion rows would take 8 GB.
        generator = torch.Generator().manual_seed(seed)
        drawn: Tensor = torch.unique(torch.randint(self.count, (count,), generator=generator))
        return drawn.to(self.device)

    def _measure(self, part: slice) -> None:
        if self.code is not None:
            self.code.library.measure(self.struct(), part.start, part.stop, self.squares.data_ptr())
            return
        for start in range(part.start, part.stop, MEASURED_ROWS):
            chunk = slice(start, min(start + MEASURED_ROWS, part.stop))
            self.squares[chunk] = summed(self._part(chunk).double().square_())

    def _part(self, part: slice) -> Tensor:
        return self.vectors[part] if self.chosen is None else self.vectors[self.chosen[part]]

    def _refuse_without_direction(self) -> None:
        usable = self.lengths.isfinite() & (self.lengths > 1e-30)  # the error bounds hold for these only
        if not bool(usable.all()):
            first = int((~usable).nonzero()[0, 0])
            row = first if self.chosen is None else int(self.chosen[first])
            length = float(self.lengths[first])
            raise InputError(
                f"vector {row} has no direction (length {length:g}): leave that image out or embed it again"
            )


def cosines(rows: UnitRows, i: Tensor, j: Tensor, scratch: Scratch | None = None) -> Tensor:
    """Cosines of the pairs (i, j), (len(i),) float64, as `cosine.py` defines them."""
    found = torch.empty(len(i), dtype=torch.float64, device=rows.device)
    i, j = i.contiguous(), j.contiguous()
    if rows.code is not None:
        rows.code.library.cosines(rows.struct(), i.data_ptr(), j.data_ptr(), len(i), found.data_ptr())
        return found
    scratch = scratch or Scratch(rows.device)
    for start in range(0, len(i), CHUNK_PAIRS):
        part = slice(start, start + CHUNK_PAIRS)
        left, right = (  # (pairs, D) float64 each
            scratch.take(f"{side} in float64", len(index), rows.dimension, dtype=torch.float64).copy_(
                rows.stored(index, scratch, side)
            )
            for side, index in (("left rows", i[part]), ("right rows", j[part]))
        )
        found[part] = summed(left.mul_(right))
    return quotient(found, torch.index_select(rows.squares, 0, i), torch.index_select(rows.squares, 0, j))


def pair_cosines(rows: UnitRows, i: Tensor, j: Tensor) -> Tensor:
    """The cosines of the pairs (i[n], j[n]) of row numbers, (n,) float64, computed on all cores.

    `i` and `j` are int64 (n,) on the device of `rows`. The bits are those of `cosine.py`, on every machine.
    """
    scratch = Scratch(rows.device)
    with Cores(rows.device) as cores:
        found = cores.blocks(lambda part: cosines(rows, i[part], j[part], scratch), len(i), 64 * CHUNK_PAIRS)
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)


def rough_minimum(rows: UnitRows, minimum: float) -> float:
    """A pair with a float32 cosine below this one is rejected; the others are decided in float64."""
    return minimum - error_growth(rows.dimension + 8)


def confirm_pairs(rows: UnitRows, i: Tensor, j: Tensor, minimum: float, scratch: Scratch | None = None) -> Decided:
    """Of the pairs (i, j), those whose cosine is at least `minimum`: (i, j, float64 cosine)."""
    scratch = scratch or Scratch(rows.device)
    # (n,) float32 cosines, which reject most pairs
    rough = torch.empty(len(i), dtype=torch.float32, device=rows.device)
    for start in range(0, len(i), CHUNK_PAIRS):
        part = slice(start, start + CHUNK_PAIRS)
        left, right = rows.take(i[part], scratch, "left rows"), rows.take(j[part], scratch, "right rows")
        torch.sum(left.mul_(right), 1, out=rough[part])  # not a matrix product, whose precision a setting may lower
    kept = where(rough >= rough_minimum(rows, minimum))
    return decide_pairs(rows, i[kept], j[kept], minimum, scratch)


def decide_pairs(rows: UnitRows, i: Tensor, j: Tensor, minimum: float, scratch: Scratch | None = None) -> Decided:
    """`confirm_pairs` without the float32 step, for pairs of which most have a cosine that is large enough."""
    similarity = cosines(rows, i, j, scratch)
    enough = similarity >= minimum
    return i[enough], j[enough], similarity[enough]


def block_of(
    rows: UnitRows,
    other: UnitRows | None,
    pairs: tuple[Tensor, Tensor],
    minimum: float,
    scratch: Scratch | None = None,
    decide: Callable[[UnitRows, Tensor, Tensor, float, Scratch | None], Decided] = confirm_pairs,
) -> PairBlock:
    """Of the `pairs` of row numbers, in either order, those that `decide` keeps, with their cosines in `other`."""
    i, j, similarity = decide(rows, torch.minimum(*pairs), torch.maximum(*pairs), minimum, scratch)
    return PairBlock(i, j, similarity, cosines(other, i, j, scratch) if other is not None else None)
