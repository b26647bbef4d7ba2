"""The pairs that passed the bound, decided on the whole vectors.

`cosine.py` defines the cosine that decides. A float32 dot product of unit rows is within g(D + 8) of it, g(n) =
n u / (1 - n u): D for the sum, 4 for two rows that were each divided by a rounded length, or 6 where they were scaled
by a rounded 1 / length (`compiled.c`), and the rest for rounding the minimum itself and for `cosine_error`, which is
far smaller than u. What lies below the minimum by more than that is dropped, and everything else is decided, and
reported, by the definition. So no two engines, and no two ways through one, can differ on a pair.
"""

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.bound import error_growth, product_error
from blindpairs.selfjoin.compiler import compiled_code
from blindpairs.selfjoin.cosine import quotient, summed
from blindpairs.selfjoin.rows import UnitRows
from blindpairs.selfjoin.scratch import Scratch, where
from blindpairs.selfjoin.task import PairBlock, SortedRows

CHUNK_PAIRS = 128  # two blocks of 128 x 768 float32 rows are 0.8 MB: in the cache from the gather to the sum
DENSE_ROWS = 512


def cosines(rows: UnitRows, i: Tensor, j: Tensor, scratch: Scratch | None = None) -> Tensor:
    """Cosines of the pairs (i, j), (len(i),) float64, as `cosine.py` defines them."""
    found = torch.empty(len(i), dtype=torch.float64, device=rows.device)
    i, j = i.contiguous(), j.contiguous()
    code = compiled_code() if rows.dense else None
    if code is not None:
        code.library.cosines(rows.struct(), i.data_ptr(), j.data_ptr(), len(i), found.data_ptr())
        return found
    scratch = scratch or Scratch(rows.device)
    for start in range(0, len(i), CHUNK_PAIRS):
        part = slice(start, start + CHUNK_PAIRS)
        left, right = (
            scratch.take(f"{side} in float64", len(index), rows.dimension, dtype=torch.float64).copy_(
                rows.stored(index, scratch, side)
            )
            for side, index in (("left rows", i[part]), ("right rows", j[part]))
        )
        found[part] = summed(left.mul_(right))
    return quotient(found, torch.index_select(rows.squares, 0, i), torch.index_select(rows.squares, 0, j))


def pair_cosines(rows: UnitRows, i: Tensor, j: Tensor) -> Tensor:
    """`cosines`, on all cores."""
    scratch = Scratch(rows.device)
    with Cores(rows.device) as cores:
        found = cores.blocks(lambda part: cosines(rows, i[part], j[part], scratch), len(i), 64 * CHUNK_PAIRS)
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)


def rough_minimum(rows: UnitRows, minimum: float) -> float:
    """What a float32 cosine of unit rows, or of rows scaled to unit length, must reach to be worth deciding."""
    return minimum - error_growth(rows.dimension + 8)


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
    return decided(rows, i[kept], j[kept], minimum, scratch)


def decided(
    rows: UnitRows, i: Tensor, j: Tensor, minimum: float, scratch: Scratch | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`confirmed`, for pairs most of which are wanted."""
    similarity = cosines(rows, i, j, scratch)
    enough = similarity >= minimum
    return i[enough], j[enough], similarity[enough]


def dense_pairs(join: SortedRows, cell: int, places: Tensor) -> list[PairBlock]:
    """The pairs of one cell with rows at `places` behind, for where many pass the bound.

    There one product over all columns rules out the others at less cost than gathering the two rows of each pair.
    """
    cells, rows = join.cells, join.rows
    inside = torch.arange(cells.starts[cell], cells.starts[cell + 1], device=places.device)
    right = rows.take(cells.order[inside]).T  # (D, cell)
    rough = join.minimum - product_error(rows.dimension + 8)
    scratch, blocks = Scratch(rows.device), []
    for part in places.split(DENSE_ROWS):
        scores = rows.take(cells.order[part], scratch) @ right  # (part, cell)
        row, column = ((scores >= rough) & (part[:, None] > inside)).nonzero(as_tuple=True)
        one, two = cells.order[part[row]], cells.order[inside[column]]
        i, j, similarity = decided(rows, torch.minimum(one, two), torch.maximum(one, two), join.minimum, scratch)
        other = cosines(join.other, i, j, scratch) if join.other is not None else None
        blocks.append(PairBlock(i, j, similarity, other))
    return blocks
