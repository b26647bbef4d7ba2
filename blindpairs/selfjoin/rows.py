"""The vectors of a join: as stored, which is what decides, and as unit rows of float32, which are made when asked for.

The stored vectors stay as they came (float16 for a whole corpus). Beside them are kept their squared lengths in
float64, of which `cosine.py` makes cosines, and their lengths in float32, so that the same row has the same float32
numbers wherever and however often it is asked for. Both have the same bits on every device.
"""

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.errors import ConfigError, InputError
from blindpairs.selfjoin.compiler import RowsStruct, compiled_code
from blindpairs.selfjoin.cosine import root, summed
from blindpairs.selfjoin.scratch import Scratch
from blindpairs.selfjoin.shown import as_given

BLOCK_ROWS = 4096
MEASURED_ROWS = 256  # at a time by torch: their float64 squares stay in the cache


def refuse_no_cosine(minimum: float) -> None:
    """Raise ConfigError for a `minimum` that no cosine can have."""
    if not -1.0 <= minimum <= 1.0:
        raise ConfigError(f"a cosine lies between -1 and 1; {as_given(minimum)} does not")


def refuse_unfit(rows: "UnitRows", minimum: float, other: "UnitRows | None") -> None:
    """Raise ConfigError for a `minimum` that is no cosine, InputError where `other` are not as many as `rows`."""
    refuse_no_cosine(minimum)
    if other is not None and other.count != rows.count:
        raise InputError(f"the other vectors are {other.count}, those to join {rows.count}: give as many")


class UnitRows:
    """Rows of `vectors` (N, D), or only those that `chosen` numbers.

    As a unit row, a vector is divided by its length. The length is summed in float64 and rounded once, and the division
    rounds once more, so a unit row is within `2 u + O(u^2)` of the real one, u = 2^-24, however long the vectors are.
    Raises InputError for a row that has no direction.
    """

    def __init__(self, vectors: Tensor, chosen: Tensor | None = None) -> None:
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
        self.chosen = chosen  # numbers, never a copy of the vectors: the corpus may fill half the memory
        self.count = len(vectors) if chosen is None else len(chosen)
        self.dimension = vectors.shape[1]
        self.device = vectors.device
        self.squares = torch.empty(self.count, dtype=torch.float64, device=vectors.device)
        self.lengths = torch.empty(self.count, dtype=torch.float32, device=vectors.device)
        with Cores(self.device) as cores:
            cores.blocks(self._measure, self.count, BLOCK_ROWS)
        self.lengths = root(self.squares).float()
        self._refuse_without_direction()

    @property
    def dense(self) -> bool:
        """Whether compiled code can read them: in memory or mapped, a row's numbers side by side."""
        return self.device.type == "cpu" and (self.vectors.stride(1) == 1 or self.dimension == 1)

    def struct(self) -> RowsStruct:
        """Where the rows lie, for compiled code; to be used no longer than they live."""
        return RowsStruct(
            vectors=self.vectors.data_ptr(),
            lengths=self.lengths.data_ptr(),
            squares=self.squares.data_ptr(),
            chosen=None if self.chosen is None else self.chosen.data_ptr(),
            dimension=self.dimension,
            stride=self.vectors.stride(0),
            half=self.vectors.dtype == torch.float16,
        )

    def block(self, start: int, stop: int) -> Tensor:
        """Rows start to stop as unit rows, (stop - start, D) float32."""
        return self._part(slice(start, stop)) / self.lengths[start:stop, None]

    def take(self, index: Tensor, scratch: Scratch | None = None, name: str = "rows") -> Tensor:
        """The unit rows named by `index`, (len(index), D) float32; in a block of that name where there is `scratch`."""
        scratch = scratch or Scratch(self.device)
        stored, lengths = self.stored(index, scratch, name), torch.index_select(self.lengths, 0, index)
        return torch.div(stored, lengths[:, None], out=scratch.take(name, *stored.shape))

    def stored(self, index: Tensor, scratch: Scratch, name: str = "rows") -> Tensor:
        """The rows named by `index` as they are stored, (len(index), D)."""
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
        return UnitRows(self.vectors, drawn if self.chosen is None else self.chosen[drawn])

    def _drawn(self, count: int, seed: int) -> Tensor:
        # Drawn with replacement and made unique: a permutation of a billion rows would cost 8 GB.
        generator = torch.Generator().manual_seed(seed)
        drawn: Tensor = torch.unique(torch.randint(self.count, (count,), generator=generator))
        return drawn.to(self.device)

    def _measure(self, part: slice) -> None:
        code = compiled_code() if self.dense else None
        if code is not None:
            code.library.measure(self.struct(), part.start, part.stop, self.squares.data_ptr())
            return
        for start in range(part.start, part.stop, MEASURED_ROWS):
            some = slice(start, min(start + MEASURED_ROWS, part.stop))
            self.squares[some] = summed(self._part(some).double().square_())

    def _part(self, part: slice) -> Tensor:
        return self.vectors[part] if self.chosen is None else self.vectors[self.chosen[part]]

    def _refuse_without_direction(self) -> None:
        usable = self.lengths.isfinite() & (self.lengths > 1e-30)  # where the error bounds hold
        if not bool(usable.all()):
            first = int((~usable).nonzero()[0, 0])
            row = first if self.chosen is None else int(self.chosen[first])
            length = float(self.lengths[first])
            raise InputError(
                f"vector {row} has no direction (length {length:g}): leave that image out or embed it again"
            )
