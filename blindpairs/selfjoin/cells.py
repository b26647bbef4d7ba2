"""The rows sorted into cells of near neighbours, the test that skips rows for a whole cell, and the tasks of a join.

For any points a, b of the coordinate space, and any x, y with |y - x| <= reach:
    y.(b - a) - x.(b - a) <= reach |b - a|.
Let a be the centre of cell A, which x is in, and b the centre of the cell of y. If y is within reach of any x in A,
    y.a >= y.b - (max over x in A of x.(b - a)) - reach |b - a|.
So one product for a row y and a cell A can skip y for all rows of A. The test is correct for any a and b. It skips most
rows if they are centres of cells of neighbours.

**Rounding.** Let R be the largest norm of a point and C that of a centre, u = 2^-24, and g the error of a product.
The four products are off by g R C each, and the sums by 8 u R C together. reach |b - a| is off by a factor of
1 + (K / 2 + 4) u for K columns. Only values up to 2 R |b - a| <= 4 R C matter, because no two points are farther apart
than 2 R. Together that is (4 g + (2 K + 24) u) R C: `skip_error`. If |b - a| is computed as the root of a sum that
cancels, the sum may be too small by `square_error`: twice g C^2 for the product and 4 u C^2 for half squares and sums.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.bound import BLOCK_ROWS, Points, product_error
from blindpairs.selfjoin.cosine import UNIT_ROUNDOFF
from blindpairs.selfjoin.rows import PairBlock, Scratch, UnitRows, block_of, decide_pairs

ROUNDS = 2  # of clustering; four cost more time than they save
SAMPLE_PER_CELL = 24  # rows that the clustering looks at
ASSIGN_ROWS = 1024  # assigned to cells at a time: their products stay in the cache
DENSE_ROWS = 512  # of one product over all D columns
ONE_STEP_CELLS = 128  # more are found in two steps: 434 cells of 50,000 rows took 0.09 s in one, 0.03 s in two


@dataclass(frozen=True)
class Cells:
    """A partition of the rows: row `order[p]` is at place p, and cell c holds places starts[c] to starts[c + 1]."""

    order: Tensor  # (N,) int64
    starts: list[int]  # (C + 1)
    centres: Tensor  # (C, k) float32
    cell_of: Tensor  # (N,) int64, by place

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True)
class SortedRows:
    """The rows of a join for cosines >= `minimum`, sorted into cells; `points` are in the order of the cells."""

    rows: UnitRows
    other: UnitRows | None
    cells: Cells
    points: Points
    minimum: float


@dataclass(frozen=True)
class Task:
    """Cells first_cell to last_cell against cells first_other to last_other, with first_other >= first_cell.

    The cells first_cell to last_cell are in one group: their numbers are between 32 n and 32 n + 31.
    """

    first_cell: int
    last_cell: int
    first_other: int
    last_other: int


class Engine(Protocol):
    """What runs the tasks: `compiled.CompiledEngine` or `plain.TorchEngine`."""

    @property
    def name(self) -> str:
        """amx, avx512-bf16 or float32 for compiled code; torch."""

    def run(self, task: Task) -> tuple[list[PairBlock], Task | None]:
        """The pairs of a task, and None. If there are many: those of its first cells, and the rest of the task."""


def partition(points: Tensor, count: int, max_rows: int, seed: int, cores: Cores) -> Cells:
    """Sort `points` (N, k) into about `count` cells of neighbours, none with more than `max_rows` rows.

    The cells are those of k-means on a sample. One with too many rows is cut into equal parts with the same centre.
    """
    # With many cells, in two steps: sqrt(count) regions first, then the cells of each region.
    regions = [torch.arange(len(points), device=points.device)]
    if count > ONE_STEP_CELLS:
        centres = cores.start(partial(_centres, points, round(math.sqrt(count)), seed)).result()
        nearest = torch.cat(cores.blocks(lambda part: _nearest(points[part], centres), len(points), 16 * ASSIGN_ROWS))
        regions = [rows for rows in _members(nearest, len(centres)) if len(rows)]
    per_row = count / max(1, len(points))
    futures = [cores.start(partial(_cells, points, rows, per_row * len(rows), max_rows, seed)) for rows in regions]
    parts = [future.result() for future in futures]
    # Cells are numbered region by region, so that the 32 cells of a group are near each other.
    sizes = [size for _, of_region, _ in parts for size in of_region]
    starts = torch.tensor([0, *sizes]).cumsum(0)
    cell_of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(points.device)
    order, centres = torch.cat([part[0] for part in parts]), torch.cat([part[2] for part in parts])
    return Cells(order, starts.tolist(), centres, cell_of)


def own_centre_products(points: Points, cells: Cells, cores: Cores) -> Tensor:
    """The product of every point with the centre of its own cell, (N,) float32; `points` in the order of the cells."""
    products = torch.empty(len(points.values), dtype=torch.float32, device=points.values.device)

    def multiply(part: slice) -> None:
        products[part] = (points.values[part].float() * cells.centres[cells.cell_of[part]]).sum(1)

    cores.blocks(multiply, len(products), BLOCK_ROWS)
    return products


def skip_error(points: Points, cells: Cells, of_product: float) -> float:
    """The largest rounding error of the test that skips rows; `of_product` is g."""
    relative = 4 * of_product + (2 * points.columns + 24) * UNIT_ROUNDOFF
    return relative * points.radius * float(cells.centres.norm(dim=1).max()) * (1 + 1e-6) + 1e-12


def square_error(half_squares: Tensor, of_product: float) -> float:
    """How much too small |a|^2 + |b|^2 - 2 a.b may come out; `half_squares` are |a|^2 / 2, `of_product` is g."""
    return 4 * (of_product + 4 * UNIT_ROUNDOFF) * float(half_squares.max()) * (1 + 1e-6) + 1e-12


def dense_pairs(join: SortedRows, cell: int, places: Tensor) -> list[PairBlock]:
    """The pairs of one cell with the rows at the later `places`, for a cell of which many pairs pass the bound.

    One product over all D columns then rejects the others faster than gathering the two rows of each pair.
    """
    cells, rows = join.cells, join.rows
    inside = torch.arange(cells.starts[cell], cells.starts[cell + 1], device=places.device)
    right = rows.take(cells.order[inside]).T  # (D, cell)
    # As `rows.rough_minimum`, but for a matrix product, whose inputs a setting may round.
    rough = join.minimum - product_error(rows.dimension + 8)
    scratch, blocks = Scratch(rows.device), []
    for part in places.split(DENSE_ROWS):
        scores = rows.take(cells.order[part], scratch) @ right  # (part, cell)
        row, column = ((scores >= rough) & (part[:, None] > inside)).nonzero(as_tuple=True)
        pairs = cells.order[part[row]], cells.order[inside[column]]  # places -> row numbers
        blocks.append(block_of(rows, join.other, pairs, join.minimum, scratch, decide_pairs))
    return blocks


def _cells(points: Tensor, rows: Tensor, count: float, max_rows: int, seed: int) -> tuple[Tensor, list[int], Tensor]:
    """The cells of one region: its rows in the order of the cells, the size of each cell, the centres (cells, k)."""
    inside = points[rows]
    centres = _centres(inside, max(1, min(round(count), len(rows))), seed)
    members = _members(_nearest(inside, centres), len(centres))
    sizes, kept = [], []  # by cell after the cutting: its rows, and which centre it has
    for cell, size in enumerate(map(len, members)):
        parts = -(-size // max_rows)  # none for an empty cell
        sizes += [size * (part + 1) // parts - size * part // parts for part in range(parts)]
        kept += [cell] * parts
    return rows[torch.cat(members)], sizes, centres[torch.tensor(kept, device=centres.device)]


def _members(nearest: Tensor, count: int) -> list[Tensor]:
    """For each of `count` centres the indices of the points that are nearest to it, ascending."""
    order = torch.argsort(nearest, stable=True)
    found = order.split(torch.bincount(nearest, minlength=count).tolist())
    return list(found)


def _centres(points: Tensor, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(points), (min(len(points), count * SAMPLE_PER_CELL),), generator=generator)
    sample = points[torch.unique(drawn).to(points.device)]
    first = torch.randperm(len(sample), generator=generator)[:count]
    centres = sample[first.to(points.device)].contiguous()
    for _ in range(ROUNDS if count > 1 else 1):
        nearest = _nearest(sample, centres)
        sums = torch.zeros_like(centres).index_add_(0, nearest, sample)
        sizes = torch.bincount(nearest, minlength=len(centres))
        # A centre that lost all its rows stays where it is.
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
    return centres


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    # The nearest centre c has the largest x.c - |c|^2 / 2: |x|^2 is the same for all.
    half_squares = centres.square().sum(1) / 2
    blocks = points.split(ASSIGN_ROWS)  # the products of one block stay in the cache
    return torch.cat([torch.addmm(-half_squares, block, centres.T).argmax(1) for block in blocks])
