"""The vectors of a join as unit rows of float32, made when asked for.

The stored vectors stay as they came (float16 for a whole corpus): only their norms are kept beside them, so that the
same row has the same float32 numbers wherever and however often it is asked for.
"""

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.errors import ConfigError, InputError
from blindpairs.selfjoin.compiler import RowsStruct, compiled_code
from blindpairs.selfjoin.scratch import Scratch

BLOCK_ROWS = 4096


def refuse_no_cosine(minimum: float) -> None:
    """Raise ConfigError for a `minimum` that no cosine can have."""
    if not -1.0 <= minimum <= 1.0:
        raise ConfigError(f"a cosine lies between -1 and 1; {minimum:g} does not")


def refuse_unfit(rows: "UnitRows", minimum: float, other: "UnitRows | None") -> None:
    """Raise ConfigError for a `minimum` that is no cosine, InputError where `other` are not as many as `rows`."""
    refuse_no_cosine(minimum)
    if other is not None and other.count != rows.count:
        raise InputError(f"the other vectors are {other.count}, those to join {rows.count}: give as many")


class UnitRows:
    """Rows of `vectors` (N, D), or only those that `chosen` numbers, each divided by its length.

    A length is summed in float64 and rounded once, and the division rounds once more, so a row's own length is within
    `2 u + O(u^2)` of one, u = 2^-24, however long the vectors are. Raises InputError for a row that has no direction.
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
        self.lengths = torch.empty(self.count, dtype=torch.float32, device=vectors.device)
        with Cores(self.device) as cores:
            cores.blocks(self._measure, self.count, BLOCK_ROWS)
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
            chosen=None if self.chosen is None else self.chosen.data_ptr(),
            dimension=self.dimension,
            stride=self.vectors.stride(0),
            half=self.vectors.dtype == torch.float16,
        )

    def block(self, start: int, stop: int) -> Tensor:
        """Rows start to stop, (stop - start, D) float32."""
        return self._stored(slice(start, stop)) / self.lengths[start:stop, None]

    def take(self, index: Tensor, scratch: Scratch | None = None, name: str = "rows") -> Tensor:
        """The rows named by `index`, (len(index), D) float32; in a block of that name where there is `scratch`."""
        number = index if self.chosen is None else torch.index_select(self.chosen, 0, index)
        lengths = torch.index_select(self.lengths, 0, index)[:, None]
        if scratch is None:
            return torch.index_select(self.vectors, 0, number) / lengths
        shape = (len(index), self.dimension)
        stored = scratch.take(f"{name} as stored", *shape, dtype=self.vectors.dtype)
        torch.index_select(self.vectors, 0, number, out=stored)  # an eighth of the time of vectors[number]
        return torch.div(stored, lengths, out=scratch.take(name, *shape))

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
            code.library.measure(self.struct(), part.start, part.stop, self.lengths.data_ptr())
            return
        self.lengths[part] = torch.linalg.vector_norm(self._stored(part).float(), dim=1, dtype=torch.float64)

    def _stored(self, part: slice) -> Tensor:
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
