"""The pairs that passed the bound, decided on the whole vectors.

A float32 dot product of unit rows is off by at most g(D) = D u / (1 - D u) of the product of their lengths, and by
g(D + 8) where the rows were scaled by a rounded 1 / length on the way; what lies below the minimum by more than that is
dropped, and everything else is decided, and reported, in float64.
"""

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.bound import error_growth
from blindpairs.selfjoin.compiler import compiled_code
from blindpairs.selfjoin.rows import UnitRows
from blindpairs.selfjoin.scratch import Scratch, where
from blindpairs.selfjoin.task import PairBlock, SortedRows

CHUNK_PAIRS = 128  # two blocks of 128 x 768 float32 rows are 0.8 MB: in the cache from the gather to the sum
DENSE_ROWS = 512


def cosines(rows: UnitRows, i: Tensor, j: Tensor, scratch: Scratch | None = None) -> Tensor:
    """Cosines of the pairs (i, j) in float64 arithmetic on the float32 unit rows, (len(i),) float64."""
    found = torch.empty(len(i), dtype=torch.float64, device=rows.device)
    code = compiled_code() if rows.dense else None
    if code is not None:
        i, j = i.contiguous(), j.contiguous()
        code.library.cosines(rows.struct(), i.data_ptr(), j.data_ptr(), len(i), found.data_ptr())
        return found
    scratch = scratch or Scratch(rows.device)
    for start in range(0, len(i), CHUNK_PAIRS):
        part = slice(start, start + CHUNK_PAIRS)
        left, right = (
            scratch.take(f"{side} in float64", len(index), rows.dimension, dtype=torch.float64).copy_(
                rows.take(index, scratch, side)
            )
            for side, index in (("left rows", i[part]), ("right rows", j[part]))
        )
        torch.sum(left.mul_(right), 1, out=found[part])
    return found


def pair_cosines(rows: UnitRows, i: Tensor, j: Tensor) -> Tensor:
    """`cosines`, on all cores."""
    scratch = Scratch(rows.device)
    with Cores(rows.device) as cores:
        found = cores.blocks(lambda part: cosines(rows, i[part], j[part], scratch), len(i), 64 * CHUNK_PAIRS)
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)


def rough_minimum(rows: UnitRows, minimum: float) -> float:
    """What a float32 cosine of unit rows, or of rows scaled to unit length, must reach to be worth deciding."""
    return minimum - error_growth(rows.dimension + 8) * (1 + 2.0**-20)


def confirmed(
    rows: UnitRows, i: Tensor, j: Tensor, minimum: float, scratch: Scratch | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the pairs (i, j), those whose cosine is at least `minimum`: (i, j, float64 cosine)."""
    scratch = scratch or Scratch(rows.device)
    rough = torch.empty(len(i), dtype=torch.float32, device=rows.device)
    for start in range(0, len(i), CHUNK_PAIRS):
        part = slice(start, start + CHUNK_PAIRS)
        left, right = rows.take(i[part], scratch, "left rows"), rows.take(j[part], scratch, "right rows")
        torch.sum(left.mul_(right), 1, out=rough[part])  # elementwise: no setting lowers its precision
    kept = where(rough >= rough_minimum(rows, minimum))
    i, j = i[kept], j[kept]
    similarity = cosines(rows, i, j, scratch)
    enough = similarity >= minimum
    return i[enough], j[enough], similarity[enough]


def products(rows: UnitRows, i: Tensor, j: Tensor) -> Tensor:
    """Cosines of all pairs of the rows `i` (n,) and `j` (m,): (n, m) float64.

    For where many pairs pass: one product over all columns costs less than gathering the two rows of each pair.
    """
    right = rows.take(j).double().T  # (D, m)
    out = torch.empty(len(i), len(j), dtype=torch.float64, device=rows.device)
    for start in range(0, len(i), DENSE_ROWS):
        torch.mm(rows.take(i[start : start + DENSE_ROWS]).double(), right, out=out[start : start + DENSE_ROWS])
    return out


def dense_pairs(join: SortedRows, cell: int, places: Tensor) -> PairBlock:
    """The pairs of one cell with rows at `places` behind: for where most of them pass."""
    cells = join.cells
    inside = torch.arange(cells.starts[cell], cells.starts[cell + 1], device=places.device)
    i, j = cells.order[places], cells.order[inside]
    similarity = products(join.rows, i, j)  # (places, cell)
    wanted = (similarity >= join.minimum) & (places[:, None] > inside)
    row, column = wanted.nonzero(as_tuple=True)
    other = products(join.other, i, j)[row, column] if join.other is not None else None
    i, j = i[row], j[column]
    return PairBlock(torch.minimum(i, j), torch.maximum(i, j), similarity[row, column], other)
